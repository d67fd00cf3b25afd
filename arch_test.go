// Package guardring_test holds the repository's rules as tests: who may import
// what (arch_imports_test.go), what pure means, where unsafe may stand, what must
// be documented. Each ban carries its reason.
package guardring_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "guardring"

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath, Dir, Name, Doc         string
	GoFiles, TestGoFiles, XTestGoFiles []string
	Imports, TestImports, XTestImports []string
}

func (p pkg) rel() string { return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/") }

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-tags", "e2e", "-json=ImportPath,Dir,Name,Doc,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// pureImports are what a pure package may import besides other pure packages.
// Everything in it gives the same output for the same input; so no clock, file,
// process, goroutine or randomness comes in that nobody has thought of here.
var pureImports = []string{
	"bytes", "cmp", "crypto/sha256", "encoding/base64", "encoding/binary", "encoding/hex", "encoding/json", "encoding/xml", "errors", "fmt", "hash/crc32",
	"maps", "math", "math/bits", "net/netip", "path", "slices", "strconv", "strings",
	"time",                                 // as data: TestPureCores refuses its clock
	"github.com/rogpeppe/go-internal/diff", // text in, text out
	"libvirt.org/go/libvirtxml",            // structs and their XML, nothing else
}

// pure reports whether a package decides or says what things mean: the same
// input must give the same output, so that everything can be simulated and
// replayed.
func pure(rel string) bool {
	return roles[rel] == core || roles[rel] == form || roles[rel] == protocol || roles[rel] == model
}

// modelImports are what a model may import besides: randomness, which comes from a
// seed in its Config.
var modelImports = []string{"container/heap", "math/rand/v2"}

func TestPureCores(t *testing.T) {
	for _, p := range packages(t) {
		if !pure(p.rel()) {
			continue
		}
		for _, imp := range p.Imports {
			own, isOwn := strings.CutPrefix(imp, module+"/")
			seeded := roles[p.rel()] == model && slices.Contains(modelImports, imp)
			mapped := imp == "unsafe" && p.rel() == "shmproto" // TestUnsafeOnlyInNamedFiles
			copies := own == "internal/graph"                  // which copies values, and does nothing else
			if !mapped && !seeded && !copies && !slices.Contains(pureImports, imp) && !(isOwn && pure(own)) {
				t.Errorf("%s is pure and imports %s", p.rel(), imp)
			}
		}
		forEachFile(t, p, func(fset *token.FileSet, name string, f *ast.File) {
			for _, fault := range impurities(fset, f) {
				t.Error(fault)
			}
		})
	}
}

// impurities names what a pure package must not do, however it gets there.
func impurities(fset *token.FileSet, f *ast.File) []string {
	var faults []string
	say := func(n ast.Node, what string) { faults = append(faults, fset.Position(n.Pos()).String()+": "+what) }
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			say(n, "a goroutine in a pure package")
		case *ast.ChanType, *ast.SelectStmt:
			say(n, "a channel in a pure package")
		case *ast.SelectorExpr:
			clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Local", "LoadLocation"}
			seeded := []string{"New", "NewPCG", "Rand"}
			output := []string{"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"}
			x, ok := n.X.(*ast.Ident)
			switch {
			case ok && x.Name == "time" && slices.Contains(clock, n.Sel.Name):
				say(n, "time."+n.Sel.Name+" in a pure package: time enters as data")
			case ok && x.Name == "rand" && !slices.Contains(seeded, n.Sel.Name):
				say(n, "rand."+n.Sel.Name+" in a pure package: randomness has a seed in the Config")
			case ok && x.Name == "fmt" && slices.Contains(output, n.Sel.Name):
				say(n, "fmt."+n.Sel.Name+" in a pure package: the caller writes")
			}
		}
		return true
	})
	return faults
}

func TestImpuritiesAreSeen(t *testing.T) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "x.go", `package x
func f() {
	go f()
	c := make(chan int)
	select { case <-c: }
	fmt.Println(time.Now())
	_ = time.Second
	_, _ = rand.New(rand.NewPCG(1, 2)), rand.IntN(3)
}`, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := impurities(fset, f); len(got) != 6 {
		t.Errorf("%d impurities seen, want 6: %q", len(got), got)
	}
}

func TestUnsafeOnlyInNamedFiles(t *testing.T) {
	for _, p := range packages(t) {
		forEachFile(t, p, func(_ *token.FileSet, name string, f *ast.File) {
			for _, imp := range f.Imports {
				if imp.Path.Value == `"unsafe"` && !strings.HasSuffix(name, "_unsafe.go") {
					t.Errorf("%s/%s imports unsafe: only files ending _unsafe.go may, so that a reviewer finds them", p.rel(), name)
				}
			}
		})
	}
}

func TestDocumented(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.rel())
		}
		if base := filepath.Base(p.rel()); strings.Contains(base, "-") && p.Name != "main" {
			t.Errorf("%s: a hyphenated folder holds package main only", p.rel())
		}
		if p.Name == "main" {
			continue
		}
		forEachFile(t, p, func(fset *token.FileSet, _ string, f *ast.File) {
			for _, d := range f.Decls {
				for _, missing := range undocumented(d) {
					t.Errorf("%s: %s has no comment", fset.Position(missing.Pos()), missing.Name)
				}
			}
		})
	}
}

// undocumented returns the exported names that d declares without a comment on
// themselves or, for grouped constants and variables, on their group.
func undocumented(d ast.Decl) []*ast.Ident {
	var out []*ast.Ident
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
			out = append(out, d.Name)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
					out = append(out, s.Name)
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if n.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
						out = append(out, n)
					}
				}
			}
		}
	}
	return out
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	x := d.Recv.List[0].Type
	if s, ok := x.(*ast.StarExpr); ok {
		x = s.X
	}
	if g, ok := x.(*ast.IndexExpr); ok {
		x = g.X
	}
	id, ok := x.(*ast.Ident)
	// String and the like implement an interface whose meaning is known.
	known := slices.Contains([]string{"String", "Error", "Unwrap", "Len", "Less", "Swap"}, d.Name.Name)
	return ok && id.IsExported() && !known
}

func forEachFile(t *testing.T, p pkg, visit func(*token.FileSet, string, *ast.File)) {
	t.Helper()
	fset := token.NewFileSet()
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		visit(fset, name, f)
	}
}

// TestSecurityPageNamesRealTests: a promise whose test was renamed or removed is
// a promise without a proof.
func TestSecurityPageNamesRealTests(t *testing.T) {
	page, err := os.ReadFile("docs/SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := exec.Command("git", "grep", "-hE", "^func (Test|Fuzz)", "--", "*_test.go").Output()
	if err != nil {
		t.Fatalf("git grep: %v", err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) == 0 {
		t.Fatal("docs/SECURITY.md names no test")
	}
	for _, m := range named {
		if !strings.Contains(string(code), "func "+m[1]+"(") {
			t.Errorf("docs/SECURITY.md names %s, which does not exist", m[1])
		}
	}
	// In the tables of promises the tests' package stands in brackets behind them, and
	// behind a colon the scripts: that makes the command.
	_, promises, _ := strings.Cut(string(page), "\n## Promises\n")
	promises, _, found := strings.Cut(promises, "\n## How to run")
	if !found {
		t.Fatal("docs/SECURITY.md has no promises and how to run what shows them")
	}
	group := regexp.MustCompile("((?:`(?:Test|Fuzz)[A-Za-z0-9]+`(?:, )?)+) \\(([a-z0-9/-]+)(?:: ([^)]*))?\\)")
	for _, m := range group.FindAllStringSubmatch(promises, -1) {
		for name := range strings.SplitSeq(m[1], ", ") {
			name = strings.Trim(name, "`")
			if exec.Command("git", "grep", "-qE", "^func "+name+"\\(", "--", ":(glob)"+m[2]+"/*_test.go").Run() != nil {
				t.Errorf("docs/SECURITY.md says that %s is in %s, which it is not", name, m[2])
			}
		}
		for name := range strings.FieldsFuncSeq(m[3], func(r rune) bool { return strings.ContainsRune(" ,", r) }) {
			_, err := os.Stat(filepath.Join(m[2], "testdata/rules", name))
			if _, other := os.Stat(filepath.Join(m[2], "testdata/scripts", name+".txt")); err != nil && other != nil {
				t.Errorf("docs/SECURITY.md names the script %s of %s, which does not exist", name, m[2])
			}
		}
	}
	if rest := regexp.MustCompile("`(?:Test|Fuzz)[A-Za-z0-9]+`").FindString(group.ReplaceAllString(promises, "")); rest != "" {
		t.Errorf("docs/SECURITY.md names %s without its package", rest)
	}
}

// TestPagesNameRealTests: a command that runs no test passes, too, and a figure
// behind it is nobody's any more.
func TestPagesNameRealTests(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := exec.Command("git", "grep", "-E", "^func (Test|Fuzz|Benchmark)", "--", "*_test.go").Output()
	if err != nil {
		t.Fatalf("git grep: %v", err)
	}
	in := map[string][]string{} // package folder: tests
	for _, m := range regexp.MustCompile(`(?m)^(.*)/[^/]*_test\.go:func (\w+)\(`).FindAllStringSubmatch(string(code), -1) {
		in[m[1]] = append(in[m[1]], m[2])
	}
	commands, names := 0, 0
	for _, page := range append(pages, "README.md", "docs/model/README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("go test [^`\n]*-(run|bench) '?([\\w|]+)[^`\n]* \\./([a-z0-9/-]+)").FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[0], "TestA") { // how a command is put together
				continue
			}
			commands++
			for one := range strings.SplitSeq(m[2], "|") {
				if !slices.ContainsFunc(in[m[3]], func(name string) bool { return strings.Contains(name, one) }) {
					t.Errorf("%s: %s: no %s in %s", page, m[0], one, m[3])
				}
			}
		}
		for _, m := range regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w+)`").FindAllStringSubmatch(string(text), -1) {
			names++
			if !strings.Contains(string(code), ":func "+m[1]+"(") {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
	if commands < 8 || names < 150 {
		t.Errorf("%d commands and %d names found: this test does not read the pages any more", commands, names)
	}
}
