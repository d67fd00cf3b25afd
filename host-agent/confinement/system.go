package confinement

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"guardring/apparmor"
	"guardring/internal/hint"
)

// parserTime is enough for every profile on a slow machine.
const parserTime = 2 * time.Minute

// System is the machine, or a tree that stands for one. It is not safe for
// concurrent use.
type System struct {
	// Root, absolute, is prepended to every path; "" is this machine. A tree without /sys is one
	// without a kernel: files are put in place, and nothing is loaded.
	Root string
	// Parser is the path of apparmor_parser; "" to look for it.
	Parser string
}

func (s System) path(p string) string { return filepath.Join("/", s.Root, p) }

// file is where a file of ours lies.
func (s System) file(name string) string { return s.path(filepath.Join(apparmor.Dir, name)) }

// inside reports a directory of the tree that leads out of it, by a link that is right
// inside an image only: what is meant for the image would be done to this machine.
func (s System) inside() error {
	if s.Root == "" {
		return nil
	}
	root, err := filepath.EvalSymlinks(s.Root)
	if err != nil {
		return err
	}
	for _, dir := range []string{apparmor.Dir, apparmor.Dir + "/abstractions", apparmor.Dir + "/tunables", "/var/cache/apparmor"} {
		path, err := filepath.EvalSymlinks(s.path(dir))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if rel, err := filepath.Rel(root, path); err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			return hint.Errorf("chroot "+s.Root+" guardring apparmor ..., without --root", "%s leads out of the tree, to %s", s.path(dir), path)
		}
	}
	return nil
}

// Kernel is what the kernel says.
type Kernel struct {
	// Enabled: this kernel confines. Else why it does not is in Off.
	Enabled bool   `json:"enabled"`
	Off     string `json:"off,omitempty"`
	// Loaded are the modes ("enforce", "complain") of all profiles, by name. Only root
	// can see them.
	Loaded map[string]string `json:"loaded"`
}

// Kernel asks the kernel.
func (s System) Kernel() (Kernel, error) {
	on, err := os.ReadFile(s.path("/sys/module/apparmor/parameters/enabled"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Kernel{Off: "the kernel has no AppArmor"}, nil
	case err != nil:
		return Kernel{}, err
	case strings.TrimSpace(string(on)) != "Y":
		return Kernel{Off: "AppArmor is switched off in the kernel (kernel options apparmor=1 security=apparmor)"}, nil
	}
	text, err := os.ReadFile(s.path("/sys/kernel/security/apparmor/profiles"))
	if errors.Is(err, fs.ErrPermission) {
		return Kernel{}, hint.Wrap(fmt.Errorf("the kernel's profiles: %w", err), "run it as root")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return Kernel{}, hint.Wrap(fmt.Errorf("the kernel's profiles: %w", err), "mount -t securityfs securityfs /sys/kernel/security")
	}
	if err != nil {
		return Kernel{}, err
	}
	k := Kernel{Enabled: true, Loaded: map[string]string{}}
	for line := range strings.Lines(string(text)) {
		l := apparmor.ParseLabel([]byte(line))
		k.Loaded[l.Profile] = l.Mode
	}
	return k, nil
}

// disabled reports that the admin does not want a profile (aa-disable).
func (s System) disabled(profile string) bool {
	_, err := os.Lstat(s.file("disable/" + profile))
	return err == nil
}

// parser finds the program.
func (s System) parser() (string, error) {
	if s.Parser != "" {
		return s.Parser, nil
	}
	for _, p := range []string{"/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"} {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", hint.Errorf("apt-get install apparmor", "there is no apparmor_parser")
}

// parse runs apparmor_parser.
func (s System) parse(ctx context.Context, stdin string, args ...string) error {
	parser, err := s.parser()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, parserTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, parser, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apparmor_parser %s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}

// judge has the parser read profiles as they lie there, without the kernel.
func (s System) judge(ctx context.Context, profiles []string) error {
	return s.parse(ctx, "", append([]string{"-Q", "-K", "-T", "--base", s.path(apparmor.Dir)}, s.files(profiles)...)...)
}

// load gives profiles to the kernel, in place of what it has of these names, and
// looks whether it has them.
func (s System) load(ctx context.Context, profiles []string) error {
	if err := s.parse(ctx, "", append([]string{"-r", "-K", "-T", "--base", s.path(apparmor.Dir)}, s.files(profiles)...)...); err != nil {
		return err
	}
	k, err := s.Kernel()
	if err != nil {
		return err
	}
	for _, p := range profiles {
		if _, ok := k.Loaded[p]; !ok {
			return fmt.Errorf("the kernel does not have the profile %s, though apparmor_parser reports no error", p)
		}
	}
	return nil
}

// unload takes profiles out of the kernel. It needs their names only, so it does not
// matter what the files have become. The command's own profile goes last, and by a
// parser of its own, for a parser has an order of its own: the one that the command
// starts is confined by a part of it, and may unload nothing when that has gone.
func (s System) unload(ctx context.Context, profiles []string) error {
	for _, own := range []bool{false, true} {
		var text strings.Builder
		for _, p := range profiles {
			if own == (p == apparmor.CLI) {
				fmt.Fprintf(&text, "profile %s {}\n", p)
			}
		}
		if text.Len() == 0 {
			continue
		}
		if err := s.parse(ctx, text.String(), "-R"); err != nil {
			return err
		}
	}
	k, err := s.Kernel()
	if err != nil {
		return err
	}
	for _, p := range profiles {
		if _, ok := k.Loaded[p]; ok {
			return fmt.Errorf("the kernel still has the profile %s, though apparmor_parser reports no error", p)
		}
	}
	return nil
}

func (s System) files(profiles []string) []string {
	paths := make([]string, len(profiles))
	for i, p := range profiles {
		paths[i] = s.file(p)
	}
	return paths
}
