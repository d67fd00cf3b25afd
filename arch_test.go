// Package guardring_test holds the repository's rules as tests: who may import
// what, where unsafe may stand, what pure means, what must be documented. Each
// ban carries its reason.
package guardring_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
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
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Name,Doc,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports", "./...").Output()
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

// pure lists the packages that decide. They must give the same output for the
// same input, so that everything can be simulated and replayed.
var pure = []string{
	"shmproto", "internal/guardstate", "internal/coordinator", "internal/coordinator/election", "guest-agent/rotation",
}

// impure are imports that a pure package must not have, and why.
var impure = map[string]string{
	"os": "files", "net": "sockets", "syscall": "system calls", "golang.org/x/sys/unix": "system calls", "sync": "goroutines",
	"context": "goroutines", "log": "logging", "log/slog": "logging", "math/rand": "global randomness", "math/rand/v2": "global randomness",
	"crypto/rand": "global randomness", "os/exec": "processes", "io/fs": "files", "unsafe": "memory (only in files ending _unsafe.go of shmproto)",
}

// soleImporter names the only packages that may import a library, so that its
// faults are met in one place.
var soleImporter = map[string]struct {
	where []string
	why   string
}{
	"github.com/cretz/bine":        {[]string{"guest-agent/torctl"}, "bine has no deadlines and parses circuits wrongly; torctl mends that"},
	"github.com/fsnotify/fsnotify": {[]string{"guest-agent/statewatch"}, "one place knows how Tor replaces its state file"},
	"github.com/urfave/cli/v2":     {[]string{"host-agent", "guest-agent"}, "flags become a Config in main and go no further"},
	"go.yaml.in/yaml/v3":           {[]string{"internal/configfile"}, "every fault at once, with its line, in one way"},
	"github.com/jedib0t/go-pretty": {[]string{"host-agent/report", "guest-agent/report", "guest-agent", "e2e/demo"}, "terminal output belongs to the edge"},
}

// banned are imports between our own folders.
var banned = []struct{ from, to, why string }{
	{"host-agent", "guest-agent", "the agents run on different machines; what both need is in shmproto or internal"},
	{"guest-agent", "host-agent", "the agents run on different machines; what both need is in shmproto or internal"},
	{"e2e", "host-agent", "end-to-end tests drive built binaries"},
	{"e2e", "guest-agent", "end-to-end tests drive built binaries"},
	{"e2e", "internal/coordinator", "the oracle is Tor, not our own core"},
	{"shmproto", "internal/coordinator", "the protocol knows no policy"},
	{"shmproto", "host-agent", "the protocol is below the agents"},
	{"shmproto", "guest-agent", "the protocol is below the agents"},
	{"internal", "host-agent", "internal packages are below the agents"},
	{"internal", "guest-agent", "internal packages are below the agents"},
	{"internal/guardstate", "shmproto", "guardstate is the lowest package"},
	{"guest-agent/torctl", "guest-agent/rotation", "adapters import no core"},
	{"guest-agent/statewatch", "guest-agent/rotation", "adapters import no core"},
	{"guest-agent/device", "guest-agent/rotation", "adapters import no core"},
	{"host-agent/server", "internal/coordinator", "the server is tiny and knows no policy"},
}

func within(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			for lib, rule := range soleImporter {
				if within(imp, lib) && !slices.Contains(rule.where, p.rel()) {
					t.Errorf("%s imports %s, which only %v may: %s", p.rel(), imp, rule.where, rule.why)
				}
			}
			own, isOwn := strings.CutPrefix(imp, module+"/")
			if !isOwn {
				continue
			}
			for _, b := range banned {
				if within(p.rel(), b.from) && within(own, b.to) {
					t.Errorf("%s imports %s: %s", p.rel(), own, b.why)
				}
			}
		}
	}
}

func TestPureCores(t *testing.T) {
	for _, p := range packages(t) {
		if !slices.Contains(pure, p.rel()) {
			continue
		}
		for _, imp := range p.Imports {
			why, bad := impure[imp]
			if bad && (imp != "unsafe" || p.rel() != "shmproto") {
				t.Errorf("%s is pure and imports %s (%s)", p.rel(), imp, why)
			}
		}
		forEachFile(t, p, func(fset *token.FileSet, name string, f *ast.File) {
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s: a goroutine in a pure package", fset.Position(n.Pos()))
				case *ast.ChanType:
					t.Errorf("%s: a channel in a pure package", fset.Position(n.Pos()))
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" &&
						slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}, n.Sel.Name) {
						t.Errorf("%s: time.%s in a pure package: time enters as data", fset.Position(n.Pos()), n.Sel.Name)
					}
				}
				return true
			})
		})
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
