//go:build e2e

package failover

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"guardring/e2e/binaries"
)

var previous = flag.String("previous", "", "the commit of the previous build; empty: the last one whose coordinator is another")

// root is the module's.
const root = "../.."

// older is the previous build, and what it was made of. Set-up makes it: a compiler beside the tests would take the processor from the
// coordinators whose heartbeats are counted.
var older struct{ path, what string }

// buildLimit bounds one build.
const buildLimit = 4 * time.Minute

// buildPrevious builds, in dir, the commit before the last one that changed the coordinator. Where that cannot be done (a shallow
// clone, no git, a commit that does not build any more) it is the same source with an older version, and that is said.
func buildPrevious(ctx context.Context, dir string) error {
	older.path = filepath.Join(dir, "guardring-previous")
	commit, err := buildCommit(ctx, filepath.Join(dir, "previous"))
	if err == nil {
		older.what = "commit " + commit
		return nil
	}
	older.what = fmt.Sprintf("this source with another version, for: %v", err)
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	return binaries.Variant{Version: "0.0.1"}.Build(ctx, older.path, "guardring/host-agent")
}

func buildCommit(ctx context.Context, dir string) (commit string, err error) {
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	if commit, err = checkout(ctx, dir); err != nil {
		return "", err
	}
	return commit, binaries.Variant{Root: dir}.Build(ctx, older.path, "guardring/host-agent")
}

// previousBuild is what an upgrade begins with.
func previousBuild(t *testing.T) string {
	t.Helper()
	t.Logf("the previous build is %s", older.what)
	return older.path
}

// checkout puts an older commit into dir.
func checkout(ctx context.Context, dir string) (commit string, err error) {
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", root}, args...)...).Output()
		if err != nil {
			return "", fmt.Errorf("git %s: %w", args[0], err)
		}
		return strings.TrimSpace(string(out)), nil
	}
	if commit = *previous; commit == "" {
		last, err := git("log", "-n", "1", "--format=%H", "--", "host-agent", "internal", "shmproto")
		if err != nil {
			return "", err
		}
		if last == "" {
			return "", errors.New("the history does not say when the coordinator was changed")
		}
		commit = last + "^"
	}
	if commit, err = git("rev-parse", "--verify", commit+"^{commit}"); err != nil {
		return "", err
	}
	archive := filepath.Join(filepath.Dir(dir), "previous.tar")
	if _, err = git("archive", "--output="+archive, commit); err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "tar", "-x", "-f", archive, "-C", dir).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("tar: %w: %s", err, out)
	}
	return commit, nil
}
