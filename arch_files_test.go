package guardring_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCommandFilesCallOneWay: a package main is too large to be read at once, so its
// files are read one after the other: main, commands, what they share. A file must not
// lead back to one that leads to it.
func TestCommandFilesCallOneWay(t *testing.T) {
	for dir, r := range roles {
		if r == command {
			for _, circle := range circles(fileUses(t, dir)) {
				t.Errorf("%s: %s: move what they share into a file of its own", dir, strings.Join(circle, " -> "))
			}
		}
	}
}

func TestCirclesAreFound(t *testing.T) {
	uses := map[string][]string{"main": {"a", "b"}, "a": {"b", "shared"}, "b": {"shared"}}
	if got := circles(uses); len(got) != 0 {
		t.Errorf("found %v where is none", got)
	}
	uses["shared"] = []string{"a"}
	if got := circles(uses); len(got) != 1 || strings.Join(got[0], " ") != "a b shared a" {
		t.Errorf("found %v", got)
	}
}

// fileUses says of each file of a package, without tests, which others it uses.
func fileUses(t *testing.T, dir string) map[string][]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*ast.File{}
	home := map[string]string{} // of what is declared at the top of a file
	for _, e := range entries {
		name := e.Name()
		if filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = f
		for _, declared := range topLevel(f) {
			home[declared] = name
		}
	}
	uses := map[string][]string{}
	for name, f := range files {
		for _, id := range f.Unresolved {
			if other := home[id.Name]; other != "" && other != name && !slices.Contains(uses[name], other) {
				uses[name] = append(uses[name], other)
			}
		}
	}
	return uses
}

// topLevel names the functions, types, variables and constants of a file.
func topLevel(f *ast.File) []string {
	var names []string
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				names = append(names, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					names = append(names, s.Name.Name)
				case *ast.ValueSpec:
					for _, id := range s.Names {
						names = append(names, id.Name)
					}
				}
			}
		}
	}
	return names
}

// circles finds a way back for each file that leads to itself, but only one for
// files of one circle.
func circles(uses map[string][]string) [][]string {
	var found [][]string
	seen := map[string]bool{}
	var from func(path []string)
	from = func(path []string) {
		at := path[len(path)-1]
		if i := slices.Index(path[:len(path)-1], at); i >= 0 {
			found = append(found, path[i:])
			return
		}
		if seen[at] {
			return
		}
		for _, next := range slices.Sorted(slices.Values(uses[at])) {
			from(slices.Concat(path, []string{next}))
		}
		seen[at] = true
	}
	for _, start := range slices.Sorted(maps.Keys(uses)) {
		from([]string{start})
	}
	return found
}
