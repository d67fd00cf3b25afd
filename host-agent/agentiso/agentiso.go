// Package agentiso makes the CD image that brings the guest's agent into a gateway:
// the static program, its unit and AppArmor profile, a script that installs and
// removes it, and a README. The file system is ISO 9660 with Rock Ridge.
//
// Trust: everything on it is ours or the administrator's; the guest only reads it.
package agentiso

import (
	"debug/elf"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"

	"guardring/apparmor"
	"guardring/internal/hint"
)

// Label is the image's volume label, by which a guest finds it:
// /dev/disk/by-label/GUARDRING.
const Label = "GUARDRING"

// agentName is the program's name on the image and on the host.
const agentName = "guardring-guest"

// packaged is where Debian's package puts the agent.
const packaged = "/usr/lib/guardring/" + agentName

// files are what is on the image besides the agent and its profile.
//
//go:embed files
var files embed.FS

// FindAgent returns the path of the guest's agent: the configured one, or else the
// one beside our own program, or else the package's.
func FindAgent(configured, ourProgram string) (string, error) {
	if configured != "" {
		return configured, checkAgent(configured)
	}
	for _, path := range []string{filepath.Join(filepath.Dir(ourProgram), agentName), packaged} {
		if err := checkAgent(path); !errors.Is(err, fs.ErrNotExist) {
			return path, err
		}
	}
	return "", hint.Errorf("set guest-agent: in the configuration to where it is",
		"there is no %s beside %s, and none at %s", agentName, ourProgram, packaged)
}

// checkAgent wants a program that runs in any gateway: static, for x86_64.
func checkAgent(path string) error {
	f, err := elf.Open(path)
	var unread *fs.PathError
	switch {
	case errors.As(err, &unread):
		return hint.Errorf("set guest-agent: in the configuration to where it is", "the guest's agent: %w", err)
	case err != nil:
		return hint.Errorf("set guest-agent: to the program guardring-guest", "the guest's agent %s is no program: %w", path, err)
	}
	defer func() { _ = f.Close() }() // only read
	const remedy = "build it with make build"
	if f.Machine != elf.EM_X86_64 {
		return hint.Errorf(remedy, "the guest's agent %s is for another processor (%s)", path, f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return hint.Errorf(remedy, "the guest's agent %s is not static: it would need the libraries of this machine", path)
		}
	}
	return nil
}

// Write makes an image with the agent and puts it at path, whole or not at all. A
// machine that has the former image keeps it until its next start. Everybody may
// read the image: QEMU must, and nothing on it is secret.
func Write(path, agent string) error {
	if err := checkAgent(agent); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".agent-iso-")
	if err != nil {
		return hint.Errorf("set agent-iso: to a path in a folder that is there", "make the agent's image: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // ours; what is left harms nothing
	image := filepath.Join(dir, "image")
	if err := build(image, filepath.Join(dir, "content"), agent); err != nil {
		return fmt.Errorf("make the agent's image %s: %w", path, err)
	}
	return os.Rename(image, path)
}

// build collects the content in a folder and makes an image of it.
func build(image, content, agent string) error {
	if err := os.Mkdir(content, 0o755); err != nil {
		return err
	}
	if err := copyFile(filepath.Join(content, agentName), agent); err != nil {
		return err
	}
	texts := map[string][]byte{"guardring-guest.apparmor": []byte(apparmor.Guest)}
	entries, err := files.ReadDir("files")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if texts[e.Name()], err = files.ReadFile("files/" + e.Name()); err != nil {
			return err
		}
	}
	for name, text := range texts {
		mode := fs.FileMode(0o644)
		if name == "install" {
			mode = 0o755
		}
		if err := os.WriteFile(filepath.Join(content, name), text, mode); err != nil {
			return err
		}
		if err := os.Chmod(filepath.Join(content, name), mode); err != nil { // whatever the umask is
			return err
		}
	}
	f, err := os.OpenFile(image, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // a second time is harmless
	volume, err := iso9660.Create(file.New(f, false), 0, 0, 2048, content)
	if err != nil {
		return err
	}
	if err := volume.Finalize(iso9660.FinalizeOptions{RockRidge: true, VolumeIdentifier: fmt.Sprintf("%-32s", Label)}); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err = io.Copy(out, in); err == nil {
		err = out.Chmod(0o755)
	}
	return errors.Join(err, out.Close())
}
