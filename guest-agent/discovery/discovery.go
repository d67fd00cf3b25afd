// Package discovery finds the Tors of this machine by where Debian and Whonix
// put their files: the default Tor, the instances of tor-instance-create, and
// Whonix-Gateway's settings folder. It looks, and changes nothing.
//
// Trust: the paths are root's. What is found is only a proposal of where to
// look: whether a Tor answers there is found out by connecting.
package discovery

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"guardring/internal/hint"
)

// Default is the name of a machine's only, or first, Tor.
const Default = "default"

// Tor is one Tor client and where its files lie. Paths are absolute and contain
// the root prefix.
type Tor struct {
	Name    string // instance name, which becomes the member's name
	Control string // control socket, or host:port
	Cookie  string // cookie file; "" if Tor's own word is taken
	State   string // state file
	Torrc   string // the file that Tor is started with
	Include string // our include file
	// Folder is Whonix's settings folder, which torrc includes with a glob;
	// "" elsewhere. Then `join` adds a file there instead of a line to Torrc.
	Folder string
	// Defaults is the --defaults-torrc that the system starts this Tor with.
	Defaults string
	User     string // the user that this Tor runs as
	Unit     string // the systemd unit to restart
}

// whonixFolder is where Whonix-Gateway keeps settings; its torrc includes
// "/usr/local/etc/torrc.d/*.conf".
const whonixFolder = "/usr/local/etc/torrc.d"

// maxInstances bounds the list: a gateway's region has room for eight members.
const maxInstances = 64

// Find returns the Tors whose torrc or control socket exists below root ("/" in
// production), the default one first, instances by name. None is no error.
func Find(root string) ([]Tor, error) {
	var tors []Tor
	if t := DefaultTor(root); exists(t.Torrc) || exists(t.Control) {
		tors = append(tors, t)
	}
	entries, err := os.ReadDir(filepath.Join(root, "/etc/tor/instances"))
	if err != nil && !os.IsNotExist(err) {
		return nil, hint.Wrap(fmt.Errorf("look for Tor instances: %w", err), "let the agent's user read that folder, or name the Tors under instances: in the configuration")
	}
	var names []string
	for _, e := range entries {
		if t := Instance(root, e.Name()); e.IsDir() && exists(t.Torrc) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	if len(names) > maxInstances {
		return nil, fmt.Errorf("%d Tor instances in /etc/tor/instances, at most %d are possible: name the ones to watch in the configuration", len(names), maxInstances)
	}
	for _, name := range names {
		tors = append(tors, Instance(root, name))
	}
	return tors, nil
}

// DefaultTor is Debian's Tor, and Whonix-Gateway's where its settings folder is.
func DefaultTor(root string) Tor {
	t := Tor{
		Name:     Default,
		Control:  filepath.Join(root, "/run/tor/control"),
		Cookie:   filepath.Join(root, "/run/tor/control.authcookie"),
		State:    filepath.Join(root, "/var/lib/tor/state"),
		Torrc:    filepath.Join(root, "/etc/tor/torrc"),
		Include:  filepath.Join(root, "/etc/tor/guardring/default.conf"),
		Defaults: filepath.Join(root, "/usr/share/tor/tor-service-defaults-torrc"),
		User:     "debian-tor",
		Unit:     "tor@default.service",
	}
	if st, err := os.Stat(filepath.Join(root, whonixFolder)); err == nil && st.IsDir() {
		t.Folder = filepath.Join(root, whonixFolder)
	}
	return t
}

// Instance is one of Debian's Tor instances (tor-instance-create NAME).
func Instance(root, name string) Tor {
	return Tor{
		Name:     name,
		Control:  filepath.Join(root, "/run/tor-instances", name, "control"),
		Cookie:   filepath.Join(root, "/run/tor-instances", name, "control.authcookie"),
		State:    filepath.Join(root, "/var/lib/tor-instances", name, "state"),
		Torrc:    filepath.Join(root, "/etc/tor/instances", name, "torrc"),
		Include:  filepath.Join(root, "/etc/tor/guardring", "instance-"+name+".conf"),
		Defaults: filepath.Join(root, "/run/tor-instances", name+".defaults"),
		User:     "_tor-" + name,
		Unit:     "tor@" + name + ".service",
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
