// Package binaries builds what the scenarios run: programs of this module, static, as packages have them, but with kill points; and
// such as are faulty on purpose.
//
// Trust: it runs the Go tool on this module's own sources.
package binaries

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// Name is the file name of a package's program: for ours as the packages have it, else the package's last name.
func Name(pkg string) string {
	switch pkg {
	case "guardring/host-agent":
		return "guardring"
	case "guardring/guest-agent":
		return "guardring-guest"
	}
	return path.Base(pkg)
}

// Build builds programs: from the path of each to the package that it is made of. The Go tool's messages are in the error.
func Build(ctx context.Context, programs map[string]string) error {
	for path, pkg := range programs {
		if err := (Variant{}).Build(ctx, path, pkg); err != nil {
			return err
		}
	}
	return nil
}

// Variant is another build of a program.
type Variant struct {
	// Root is another source tree's; "": this one's.
	Root string
	// Overlay is a file that Fault.Overlay has written; "": none.
	Overlay string
	// Version is what the program says of itself; "": as the source has it.
	Version string
}

// Build builds a package as a program.
func (v Variant) Build(ctx context.Context, path, pkg string) error {
	flags := "-s -w"
	if v.Version != "" {
		flags += " -X guardring/internal/version.stamp=" + v.Version
	}
	args := []string{"build", "-tags", "killpoints", "-ldflags", flags, "-o", path}
	if v.Overlay != "" {
		args = append(args, "-overlay", v.Overlay)
	}
	return run(ctx, v.Root, append(args, pkg)...)
}

// Fault is one rule of the Go code taken out. Production code knows nothing of it: what has it is built with an overlay.
type Fault struct {
	Name string
	// File has the text Rule once; Instead takes its place.
	File, Rule, Instead string
}

// Overlay writes the file without its rule into dir, and the overlay that names it, whose path it returns. root is the module's.
func (f Fault) Overlay(root, dir string) (string, error) {
	path, err := filepath.Abs(filepath.Join(root, f.File))
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), f.Rule); n != 1 {
		return "", fmt.Errorf("%s has the rule %d times, want once: %s", f.File, n, f.Rule)
	}
	patched, list := filepath.Join(dir, "patched.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: patched}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(patched, []byte(strings.Replace(string(text), f.Rule, f.Instead, 1)), 0o600); err != nil {
		return "", err
	}
	return list, os.WriteFile(list, replace, 0o600)
}

// BuildTests builds a package's tests and benchmarks as a program.
func BuildTests(ctx context.Context, path, pkg string) error {
	return run(ctx, "", "test", "-c", "-o", path, pkg)
}

func run(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %v: %w: %s", args, err, out)
	}
	return nil
}
