// Package binaries builds what the scenarios run: programs of this module, static, as packages have them, but with kill points.
//
// Trust: it runs the Go tool on this module's own sources.
package binaries

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
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
		if err := run(ctx, "build", "-tags", "killpoints", "-ldflags", "-s -w", "-o", path, pkg); err != nil {
			return err
		}
	}
	return nil
}

// BuildTests builds a package's tests and benchmarks as a program.
func BuildTests(ctx context.Context, path, pkg string) error {
	return run(ctx, "test", "-c", "-o", path, pkg)
}

func run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %v: %w: %s", args, err, out)
	}
	return nil
}
