package domains

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/renameio/v2"

	"guardring/internal/hint"
	"guardring/libvirt-xml/domainxml"
)

// made begins the files that are ours to replace and remove.
const made = "# Made by \"guardring gateway\""

// known is the configuration's gateway of this name.
func (d *Desk) known(name string) (Known, bool) {
	for _, k := range d.Known {
		if k.Name == name {
			return k, true
		}
	}
	return Known{}, false
}

// of is the gateway that a domain is, by its UUID.
func (d *Desk) of(uuid string) (Known, bool) {
	for _, k := range d.Known {
		if k.UUID != "" && k.UUID == uuid {
			return k, true
		}
	}
	return Known{}, false
}

func (d *Desk) file(name string) string { return filepath.Join(d.Dir, name+".yaml") }

// isOurs reports whether a gateway's file is one that we made; false also if it
// is not there.
func isOurs(path string) (bool, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return strings.HasPrefix(string(b), made), err
}

// gatewayFile is what the configuration says of a gateway in a domain.
func (d *Desk) gatewayFile(name, uuid string, h Host) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s. \"guardring gateway list\" shows it.\nname: %q\ndomain: %q\n", made, name, uuid)
	if h.UID >= 0 {
		fmt.Fprintf(&b, "group: %q\nallow-users: [%q]\n", d.GroupName(h.GID), d.UserName(h.UID))
	}
	return b.String()
}

// configured is the step that puts a gateway into the configuration. What stands
// there already is left as it is, if it names the same domain.
func (d *Desk) configured(name, uuid string, h Host) (step, error) {
	if d.Dir == "" {
		return step{}, hint.Errorf("set gateways-dir, for instance to gateways.d", "the configuration has no gateways-dir to put the gateway's file into")
	}
	path, text := d.file(name), d.gatewayFile(name, uuid, h)
	s := step{at: "configured", text: "write " + path, more: indent(text), do: func() error { return write(path, text, 0o644) }}
	k, ok := d.known(name)
	switch {
	case ok && k.UUID == uuid:
		s.done = true
	case ok:
		ours, err := isOurs(path)
		if err != nil {
			return step{}, err
		}
		if ours {
			return step{}, hint.Errorf("choose another name, or guardring gateway remove "+name, "%s is about another domain, %s", path, k.UUID)
		}
		return step{}, hint.Errorf(fmt.Sprintf("add to it: domain: %s", uuid), "the configuration has a gateway %q already, without the domain", name)
	}
	return s, nil
}

// unconfigured are the steps that take a gateway out of the configuration and have
// the server give it up. In between the file has a name that is not read, so that
// a command that is interrupted there still knows what it was about.
func (d *Desk) unconfigured(name string) ([]step, error) {
	path, aside := d.file(name), d.aside(name)
	ours, err := isOurs(path)
	if err != nil {
		return nil, err
	}
	leaving, err := isOurs(aside)
	if err != nil {
		return nil, err
	}
	if !leaving && exists(aside) {
		return nil, hint.Errorf("give it another name, then run the command again", "%s is in the way, and was not made by guardring", aside)
	}
	if _, ok := d.known(name); ok && !ours {
		return nil, hint.Errorf("take it out of the configuration by hand, then run the command again", "the gateway %q is configured, but not in a file of guardring gateway (%s)", name, path)
	}
	return []step{
		{at: "unconfigured", text: "take " + path + " out of the configuration", done: !ours, do: func() error {
			if err := os.Rename(path, aside); err != nil {
				return err
			}
			return syncDir(d.Dir)
		}},
		d.unserved(),
		{at: "removed", text: "remove " + aside, done: !ours && !leaving, do: func() error { return os.Remove(aside) }},
	}, nil
}

// aside is a gateway's file on its way out.
func (d *Desk) aside(name string) string { return filepath.Join(d.Dir, name+".gone") }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// write replaces a file as a whole, durably. Its directory is made.
func write(path, text string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return hint.Wrap(err, "run it as root")
	}
	if err := renameio.WriteFile(path, []byte(text), mode, renameio.IgnoreUmask(), renameio.WithTempDir(filepath.Dir(path))); err != nil {
		return hint.Wrap(err, "run it as root")
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n    ")
}

// password is the one secret that libvirt's documents have, with DomainXMLSecure.
var password = regexp.MustCompile(`(\spasswd=)('[^']*'|"[^"]*")`)

// difference shows two documents' difference for a terminal or a bug report, where
// no password belongs.
func difference(nameA, a, nameB, b string) string {
	const hidden = "$1'(not shown)'"
	return domainxml.Diff(nameA, password.ReplaceAllString(a, hidden), nameB, password.ReplaceAllString(b, hidden))
}
