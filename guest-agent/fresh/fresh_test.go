package fresh

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const empty = "# nothing is excluded\n"

// before is a state file of Tor 0.4.9 with guards of all selections, and lines
// that nobody knows.
const before = `# Tor state file last generated on 2026-11-21 15:00:00 local time
# You *do not* need to edit this file.

Dormant 0
CircuitBuildTimeBin 525 1
Guard in=default rsa_id=ACE9000000000000000000000000000000000001 nickname=a sampled_on=2026-11-01T00:00:00 sampled_idx=0 sampled_by=0.4.9.11 listed=1 confirmed_on=2026-11-02T00:00:00 confirmed_idx=0 pb_circ_attempts=9.000000
Guard in=default rsa_id=ACE9000000000000000000000000000000000002 sampled_on=2026-11-01T01:00:00 sampled_idx=1 listed=1 new_key=x
Guard in=restricted rsa_id=ACE9000000000000000000000000000000000003 sampled_on=2026-11-01T02:00:00 sampled_idx=0 listed=1
Guard in=bridges rsa_id=ACE9000000000000000000000000000000000004 bridge_addr=192.0.2.9:443 sampled_on=2026-11-01T02:00:00 sampled_idx=0 listed=1
GuardedByNobody in=default
TorVersion Tor 0.4.9.11
LastWritten 2026-11-21 15:00:00
`

// after is before without the guards that are given up.
const after = `# Tor state file last generated on 2026-11-21 15:00:00 local time
# You *do not* need to edit this file.

Dormant 0
CircuitBuildTimeBin 525 1
Guard in=bridges rsa_id=ACE9000000000000000000000000000000000004 bridge_addr=192.0.2.9:443 sampled_on=2026-11-01T02:00:00 sampled_idx=0 listed=1
GuardedByNobody in=default
TorVersion Tor 0.4.9.11
LastWritten 2026-11-21 15:00:00
`

// drawn is what Tor draws anew: by chance a guard of before is in it again.
var drawn = strings.Replace(after, "TorVersion", "Guard in=default rsa_id=ACE9000000000000000000000000000000000001 sampled_on=2026-11-20T00:00:00 sampled_idx=0 listed=1\nTorVersion", 1)

const exclusion = "# an exclusion\nReachableORAddresses reject 10.0.0.1:9001\n"

func newSite(t *testing.T) Site {
	t.Helper()
	dir := t.TempDir()
	s := Site{State: filepath.Join(dir, "state"), Control: filepath.Join(dir, "control"), Include: filepath.Join(dir, "include"), Empty: empty}
	write(t, s.State, before)
	write(t, s.Include, exclusion)
	write(t, filepath.Join(dir, "lock"), "")
	return s
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, path, text string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != text {
		t.Errorf("%s holds\n%s\nwant\n%s", path, b, text)
	}
}

func TestRun(t *testing.T) {
	s := newSite(t)
	if err := os.Chmod(s.State, 0o640); err != nil {
		t.Fatal(err)
	}
	if r, err := Run(s, Options{DryRun: true}); err != nil || r.Guards != 3 || len(r.Changed) != 3 {
		t.Fatalf("dry run: %+v, %v", r, err)
	}
	want(t, s.State, before)
	if _, err := os.Stat(s.State + ".guardring-backup"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a dry run left a backup: %v", err)
	}
	want(t, s.Include, exclusion)
	r, err := Run(s, Options{Now: time.Unix(1_700_000_000, 0)})
	if err != nil || r.Guards != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	want(t, s.State, after)
	want(t, s.State+".guardring-backup", before)
	want(t, s.Include, empty)
	want(t, s.State+".guardring-fresh", "guardring-guest fresh gave up this Tor's guard sample at 2023-11-14T22:13:20Z. The old state file is state.guardring-backup.\n")
	for _, name := range []string{s.State, s.State + ".guardring-backup"} {
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o640 {
			t.Errorf("mode of %s: %v, %v", name, st.Mode(), err)
		}
	}
	// Before Tor was started there is nothing more to do, and it is no error.
	if r, err := Run(s, Options{}); err != nil || len(r.Changed) != 0 {
		t.Fatalf("again: %+v, %v", r, err)
	}
}

// Once: what Tor drew since is not given up without asking, although by chance a
// guard of before is in it.
func TestOnce(t *testing.T) {
	s := newSite(t)
	if _, err := Run(s, Options{}); err != nil {
		t.Fatal(err)
	}
	write(t, s.State, drawn)
	r, err := Run(s, Options{})
	if !errors.Is(err, ErrDone) || len(r.Changed) != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	want(t, s.State, drawn)
	if _, err := Run(s, Options{Again: true}); err != nil {
		t.Fatal(err)
	}
	want(t, s.State, after)
	want(t, s.State+".guardring-backup", before)
	want(t, s.State+".guardring-backup.2", drawn)
	// The old state is put back, as a restored copy of the data directory does:
	// it is the shared sample again.
	write(t, s.State, before)
	if _, err := Run(s, Options{}); err != nil {
		t.Fatal(err)
	}
	want(t, s.State, after)
}

// Whoever is killed after any effect gets the rest done by running it again.
func TestKilledAnywhere(t *testing.T) {
	defer func(f func(string)) { step = f }(step)
	for _, at := range []string{"fresh-backup", "fresh-marked", "fresh-state"} {
		t.Run(at, func(t *testing.T) {
			s := newSite(t)
			reached := false
			step = func(name string) {
				if name == at {
					reached = true
					panic(at)
				}
			}
			func() {
				defer func() { recover() }() //nolint:errcheck // it is the kill
				_, _ = Run(s, Options{})
			}()
			if !reached {
				t.Fatal("the step is never reached")
			}
			if b, err := os.ReadFile(s.State); err != nil || string(b) != before && string(b) != after {
				t.Fatalf("half a state file: %q, %v", b, err)
			}
			step = func(string) {}
			if _, err := Run(s, Options{}); err != nil {
				t.Fatal(err)
			}
			want(t, s.State, after)
			want(t, s.State+".guardring-backup", before)
			want(t, s.Include, empty)
			if _, err := os.Stat(s.State + ".guardring-backup.2"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a second backup: %v", err)
			}
		})
	}
}

// A running Tor holds its lock, or answers; nothing is changed then.
func TestRunning(t *testing.T) {
	s := newSite(t)
	f, err := os.Open(filepath.Join(filepath.Dir(s.State), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(s, Options{}); !errors.Is(err, ErrRunning) {
		t.Errorf("with the lock held: %v", err)
	}
	want(t, s.State, before)
	f.Close()

	// A Tor that was never started has no lock file: then its control port alone tells.
	if err := os.Remove(filepath.Join(filepath.Dir(s.State), "lock")); err != nil {
		t.Fatal(err)
	}
	socket := s.Control
	for _, at := range []struct{ network, address, prefix string }{{"tcp", "127.0.0.1:0", ""}, {"unix", socket, ""}, {"unix", socket, "unix:"}} {
		l, err := net.Listen(at.network, at.address)
		if err != nil {
			t.Fatal(err)
		}
		s.Control = at.prefix + l.Addr().String()
		if _, err := Run(s, Options{}); !errors.Is(err, ErrRunning) {
			t.Errorf("with a control port at %s that answers: %v", s.Control, err)
		}
		want(t, s.State, before)
		l.Close()
	}
	if _, err := Run(s, Options{}); err != nil {
		t.Errorf("stopped: %v", err)
	}
	want(t, s.State, after)
}

// While it works, Tor is kept from starting.
func TestHoldsTheLock(t *testing.T) {
	defer func(f func(string)) { step = f }(step)
	s := newSite(t)
	held := 0
	step = func(string) {
		f, err := os.Open(filepath.Join(filepath.Dir(s.State), "lock"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), syscall.EWOULDBLOCK) {
			held++
		}
	}
	if _, err := Run(s, Options{}); err != nil || held != 3 {
		t.Errorf("the lock was held at %d of 3 steps, %v", held, err)
	}
}

// Damaged, missing or strange state files are refused and left alone.
func TestRefused(t *testing.T) {
	for name, spoil := range map[string]func(s Site){
		"no sample yet": func(s Site) { os.Remove(s.State) },
		"half-written":  func(s Site) { write(t, s.State, before[:300]) },
		"no regular file": func(s Site) {
			os.Rename(s.State, s.State+".real")
			os.Symlink(s.State+".real", s.State)
		},
	} {
		s := newSite(t)
		spoil(s)
		if r, err := Run(s, Options{}); err == nil || len(r.Changed) != 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		want(t, s.Include, exclusion)
	}
}
