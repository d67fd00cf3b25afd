package shmproto

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Nothing in this package may read-modify-write: see the package comment. The
// source must not use sync/atomic at all, and unsafe in one file only.
func TestSourceHasNoAtomics(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		checked++
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			switch path := importPath(t, spec); {
			case path == "sync/atomic" || path == "internal/runtime/atomic" || path == "sync":
				t.Errorf("%s imports %s: its stores are XCHG on amd64", name, path)
			case path == "unsafe" && name != "mem_unsafe.go":
				t.Errorf("%s imports unsafe: only mem_unsafe.go may", name)
			}
		}
	}
	if checked < 10 {
		t.Fatalf("only %d files checked", checked)
	}
}

func importPath(t *testing.T, spec *ast.ImportSpec) string {
	t.Helper()
	path, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// readModifyWrite are the instructions that lock a bus or a cache line, or that
// fail and are tried again, as the disassembler names them.
var readModifyWrite = map[string]*regexp.Regexp{
	"amd64": regexp.MustCompile(`^(LOCK|XCHG|CMPXCHG|XADD)`),
	"arm64": regexp.MustCompile(`^(SWP|CAS|LDADD|LDCLR|LDEOR|LDSET|LD[SU](MAX|MIN)|STADD|STCLR|STEOR|STSET|LDA?XP?R?|LDXR|LDAXR|STL?XP?R?|STXR|STLXR)`),
}

// required are instructions that must be found, so that a disassembly of nothing
// does not pass.
var required = map[string][]string{
	"amd64": {"MFENCE", "MOVQ"},
	"arm64": {"DMB", "LDAR", "STLR"},
}

// The machine code of the whole package is looked through, inlined code of
// others with it.
func TestMachineCodeHasNoReadModifyWrite(t *testing.T) {
	for arch, forbidden := range readModifyWrite {
		t.Run(arch, func(t *testing.T) {
			functions, ops := disassemble(t, arch)
			for op, function := range ops {
				if forbidden.MatchString(op) {
					t.Errorf("%s in %s", op, function)
				}
			}
			for _, want := range required[arch] {
				if ops[want] == "" {
					t.Errorf("%s is not in the disassembly", want)
				}
			}
			for _, want := range []string{"copyWords", "storeRelease64", "(*Guest).Publish", "(*Lock).TryAcquire", "Format"} {
				if !functions["guardring/shmproto."+want] {
					t.Errorf("%s is not in the disassembly", want)
				}
			}
		})
	}
}

// instruction matches a line of go tool objdump: file and line, address, machine
// code, instruction.
var instruction = regexp.MustCompile(`^\S+:\d+\s+0x[0-9a-f]+\s+[0-9a-f]+\s+(\S+)`)

// disassemble builds the package for a machine and returns the functions found
// and, for each operation, one function that has it. The archive's members, Go
// and assembly, are looked at one by one, because objdump takes only the first.
func disassemble(t *testing.T, arch string) (functions map[string]bool, ops map[string]string) {
	t.Helper()
	dir := t.TempDir()
	run := func(name string, args ...string) []byte {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=")
		if name == "go" && args[0] == "tool" {
			cmd.Dir = dir
			cmd.Env = os.Environ()
		}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", cmd, err)
		}
		return out
	}
	run("go", "build", "-o", filepath.Join(dir, "shmproto.a"), ".")
	run("go", "tool", "pack", "x", "shmproto.a")
	functions, ops = map[string]bool{}, map[string]string{}
	for _, object := range []string{"_go_.o", "mem_" + arch + ".o"} {
		function := ""
		for line := range bytes.Lines(run("go", "tool", "objdump", object)) {
			text := strings.TrimSpace(string(line))
			if name, ok := strings.CutPrefix(text, "TEXT "); ok {
				function, _, _ = strings.Cut(name, "(SB)")
				functions[function] = true
			} else if m := instruction.FindStringSubmatch(text); m != nil {
				ops[m[1]] = function
			}
		}
	}
	return functions, ops
}

// The patterns know what they look for.
func TestReadModifyWritePatterns(t *testing.T) {
	for arch, ops := range map[string]string{
		"amd64": "XCHGQ XCHGL LOCK CMPXCHGQ XADDQ",
		"arm64": "SWPALD CASALD LDADDALD LDXR LDAXR STXR STLXR LDXP STLXP LDSETALB STADDLD",
	} {
		for op := range strings.FieldsSeq(ops) {
			if !readModifyWrite[arch].MatchString(op) {
				t.Errorf("%s: %s is not found", arch, op)
			}
		}
	}
	for arch, ops := range map[string]string{
		"amd64": "MOVQ MFENCE XORL CMPQ LEAQ",
		"arm64": "MOVD LDAR STLR LDP STP LDR DMB CSET LDRSW STUR LDUR",
	} {
		for op := range strings.FieldsSeq(ops) {
			if readModifyWrite[arch].MatchString(op) {
				t.Errorf("%s: %s is taken for a read-modify-write", arch, op)
			}
		}
	}
}
