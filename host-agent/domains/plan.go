package domains

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"guardring/internal/hint"
	"guardring/internal/killpoint"
)

// Known is a gateway of the configuration.
type Known struct {
	Name string
	UUID string // of its domain, "" if the configuration names none
}

// Desk is what the commands work with. Its methods are for one goroutine.
type Desk struct {
	Libvirt   *Connection
	Known     []Known                  // the configuration's gateways, wherever they stand
	Dir       string                   // gateways-dir
	Backups   string                   // where attach keeps the documents of domains as they were
	SocketOf  func(name string) string // where the server's socket of a gateway is
	WriteISO  func(path string) error  // makes the image with the guest's agent
	ISO       string                   // its path
	Reload    func() ([]string, error) // has the server read the configuration; names what it serves. ErrNoServer
	Out       io.Writer                // what is done, a line each
	DryRun    bool                     // say it, and do nothing
	GroupName func(gid int) string     // for the gateway's file; a number if it has no name
	UserName  func(uid int) string
}

// step is one thing to do.
type step struct {
	at   string // its name for tests that end us behind it
	text string // what is done, for people: imperative
	more string // shown in a dry run: a document or a difference
	done bool   // nothing is to do
	// always: it is done in any case and changes nothing by itself, such as telling
	// the server, which whoever was interrupted may not have come to.
	always bool
	do     func() error
}

// perform does what is not done yet; did says whether there was anything.
func (d *Desk) perform(steps []step) (did bool, err error) {
	if d.DryRun {
		d.show(steps)
		return false, nil
	}
	for _, s := range steps {
		if s.done {
			continue
		}
		fmt.Fprintln(d.Out, s.text)
		if err := s.do(); err != nil {
			return did, err
		}
		did = did || !s.always
		killpoint.Here("gateway-" + s.at)
	}
	if !did {
		fmt.Fprintln(d.Out, "all of it was done already")
	}
	return did, nil
}

func (d *Desk) show(steps []step) {
	fmt.Fprintln(d.Out, "a dry run: nothing is changed; without --dry-run this is done:")
	did := false
	for _, s := range steps {
		if s.done {
			continue
		}
		did = did || !s.always
		fmt.Fprintln(d.Out, "- "+s.text)
		if s.more != "" {
			fmt.Fprintln(d.Out, s.more)
		}
	}
	if !did {
		fmt.Fprintln(d.Out, "all else is done already")
	}
}

// sayNext: the domain is a gateway, and needs an agent.
func (d *Desk) sayNext(domain string, alive, withAgent bool, again string) {
	fmt.Fprintln(d.Out, "next:")
	if !alive {
		fmt.Fprintf(d.Out, "  virsh start %s\n", domain)
	}
	if withAgent {
		fmt.Fprintln(d.Out, "  in the gateway, as root: mount -o ro /dev/disk/by-label/GUARDRING /mnt && sh /mnt/install")
	} else {
		fmt.Fprintf(d.Out, "  install guardring-guest in the gateway, and run guardring-guest join there, as root (%s)\n", again)
	}
	fmt.Fprintln(d.Out, "  on this host: guardring doctor; guardring status")
}

// onlyOurs reports why somebody else could put another directory, or a link, in the
// place of dir, or of what is in it. We write there as root.
func onlyOurs(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	for path := dir; ; path = filepath.Dir(path) {
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		sticky := path != dir && info.Mode()&fs.ModeSticky != 0 // then others cannot rename what is ours
		switch {
		case !ok || st.Uid != 0 && int(st.Uid) != os.Geteuid():
			return fmt.Errorf("%s belongs to another user", path)
		case info.Mode().Perm()&0o022 != 0 && !sticky:
			return fmt.Errorf("others can write in %s (mode %04o)", path, info.Mode().Perm())
		}
		if path == filepath.Dir(path) {
			return nil
		}
	}
}

// Lock keeps other commands that change gateways out, whose half-way states would
// be taken for what there is. It waits for one that is at work. What the
// configuration says (Known) must be read after it.
func (d *Desk) Lock() (unlock func(), err error) {
	if d.DryRun {
		return func() {}, nil
	}
	// Documents have passwords in them.
	if err := os.MkdirAll(d.Backups, 0o700); err != nil {
		return nil, hint.Wrap(fmt.Errorf("directory for backups: %w", err), "run it as root")
	}
	if err := onlyOurs(d.Backups); err != nil {
		return nil, hint.Wrap(fmt.Errorf("directory for backups: %w", err), "set domains-dir to a directory that nobody but root can replace")
	}
	f, err := os.OpenFile(filepath.Join(d.Backups, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		fmt.Fprintln(d.Out, "waiting for another guardring gateway command")
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { _ = f.Close() }, nil
}
