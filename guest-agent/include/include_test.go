package include_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"guardring/guest-agent/include"
)

const empty = "# nothing excluded\n"

// site makes a Tor's files below a temporary folder.
func site(t *testing.T, torrc string) include.Site {
	t.Helper()
	dir := t.TempDir()
	s := include.Site{
		Torrc:   filepath.Join(dir, "torrc"),
		Include: filepath.Join(dir, "guardring", "default.conf"),
		UID:     -1, GID: -1,
	}
	write(t, s.Torrc, torrc)
	return s
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tree returns every file below the torrc's folder with its mode and content.
func tree(t *testing.T, s include.Site) map[string]string {
	t.Helper()
	dir := filepath.Dir(s.Torrc)
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		st, err := d.Info()
		out[strings.TrimPrefix(path, dir)] = st.Mode().String() + "\n" + string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func join(t *testing.T, s include.Site) include.Result {
	t.Helper()
	r, err := include.Join(s, empty)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestJoinThenLeaveRestoresEveryByte(t *testing.T) {
	for name, torrc := range map[string]string{
		"usual":            "SocksPort 9050\nReachableORAddresses accept *:443\n",
		"no final newline": "SocksPort 9050\n# the end",
		"empty":            "",
		"windows newlines": "SocksPort 9050\r\nSandbox 0\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := site(t, torrc)
			if err := os.Chmod(s.Torrc, 0o640); err != nil {
				t.Fatal(err)
			}
			before := tree(t, s)
			join(t, s)
			st, err := include.Inspect(s)
			if err != nil {
				t.Fatal(err)
			}
			if !st.Exists || !st.Included || !st.First || st.Problem != "" || st.Text != empty {
				t.Errorf("after join: %+v", st)
			}
			if again := join(t, s); len(again.Changed) != 0 {
				t.Errorf("a second join changed %q", again.Changed)
			}
			if _, err := include.Leave(s); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(before, tree(t, s)); d != "" {
				t.Errorf("leave did not restore everything (-before +after):\n%s", d)
			}
			if again, err := include.Leave(s); err != nil || len(again.Changed) != 0 {
				t.Errorf("a second leave: %q, %v", again.Changed, err)
			}
		})
	}
}

// TestLeaveWithoutTorrc: who has removed Tor may still leave, and is told of the backup.
func TestLeaveWithoutTorrc(t *testing.T) {
	s := site(t, "SocksPort 9050\n")
	join(t, s)
	if err := os.Remove(s.Torrc); err != nil {
		t.Fatal(err)
	}
	r, err := include.Leave(s)
	if err != nil || len(r.Next) != 1 || !strings.Contains(r.Next[0], "torrc.guardring-backup is what it was before join") {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := os.Stat(s.Include); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the include file: %v", err)
	}
}

func TestLeaveKeepsWhatTheUserEditedMeanwhile(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022)) // modes are judged
	s := site(t, "SocksPort 9050\n")
	join(t, s)
	b, err := os.ReadFile(s.Torrc)
	if err != nil {
		t.Fatal(err)
	}
	// The user removes our comment and adds a line of their own.
	edited := strings.SplitAfterN(string(b), "\n", 2)[1] + "DataDirectory /x\n"
	write(t, s.Torrc, edited)
	r, err := include.Leave(s)
	if err != nil {
		t.Fatal(err)
	}
	got := tree(t, s)
	if want := "-rw-r--r--\nSocksPort 9050\nDataDirectory /x\n"; got["/torrc"] != want {
		t.Errorf("torrc is %q, want %q", got["/torrc"], want)
	}
	if len(r.Next) != 1 || !strings.Contains(r.Next[0], "guardring-backup") || len(got) != 2 {
		t.Errorf("the backup of the older torrc must stay and be named: %q, files %v", r.Next, got)
	}
	// Joining again takes a fresh backup and keeps the old one.
	join(t, s)
	got = tree(t, s)
	if got["/torrc.guardring-backup"] != "-rw-r--r--\nSocksPort 9050\n" || got["/torrc.guardring-backup.2"] != "-rw-r--r--\nSocksPort 9050\nDataDirectory /x\n" {
		t.Errorf("backups: %v", got)
	}
}

func TestRelayIsRefusedByNameAndNothingChanges(t *testing.T) {
	s := site(t, "")
	sub := filepath.Join(filepath.Dir(s.Torrc), "relay.conf")
	write(t, sub, "\n  orport 9001 # a relay\n")
	write(t, s.Torrc, "%include "+sub+"\n")
	before := tree(t, s)
	_, err := include.Join(s, empty)
	if !errors.Is(err, include.ErrRelay) || !strings.Contains(err.Error(), sub+":2") {
		t.Errorf("error %v, want ErrRelay naming %s:2", err, sub)
	}
	if d := cmp.Diff(before, tree(t, s)); d != "" {
		t.Errorf("a refused join changed something:\n%s", d)
	}
}

func TestSandboxAsksForARestart(t *testing.T) {
	s := site(t, "Sandbox 1\n")
	if r := join(t, s); len(r.Next) != 1 || !strings.Contains(r.Next[0], "Sandbox 1") {
		t.Errorf("next steps %q, want the restart and its reason", r.Next)
	}
}

// TestJoinAgainGivesTheFolderToAnotherUser: user: was changed in the configuration.
func TestJoinAgainGivesTheFolderToAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipping, only root gives files away (try: as root)")
	}
	s := site(t, "")
	join(t, s)
	s.UID = 65534
	r := join(t, s)
	st, err := os.Stat(filepath.Dir(s.Include))
	if err != nil || st.Sys().(*syscall.Stat_t).Uid != 65534 || len(r.Changed) != 1 || len(r.Next) != 0 {
		t.Errorf("%v, %+v, %+v", err, st.Sys(), r)
	}
	if r := join(t, s); len(r.Changed) != 0 {
		t.Errorf("again: %q", r.Changed)
	}
}

// TestJoinGivesNobodyElsesFolder: the agent's user must not be able to replace a
// torrc, or any other file that root reads.
func TestJoinGivesNobodyElsesFolder(t *testing.T) {
	for what, file := range map[string]string{"the torrc's": "rules.conf", "the settings'": "torrc.d/70_rules.conf", "a program's": "etc/rules.conf"} {
		s := site(t, "")
		dir := filepath.Dir(s.Torrc)
		for name, text := range map[string]string{"torrc.d/50_user.conf": "", "etc/guest.yaml": "user: debian-tor"} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, name), text)
		}
		s.Folder, s.Include, s.UID = filepath.Join(dir, "torrc.d"), filepath.Join(dir, file), os.Geteuid()+65534
		before := tree(t, s)
		if _, err := include.Join(s, empty); err == nil || !strings.Contains(err.Error(), "must be its own") {
			t.Errorf("%s: %v", what, err)
		}
		if d := cmp.Diff(before, tree(t, s)); d != "" {
			t.Errorf("%s: something was changed:\n%s", what, d)
		}
	}
}

func TestWhonixFolderGetsADropInThatSortsFirst(t *testing.T) {
	s := site(t, "")
	s.Folder = filepath.Join(filepath.Dir(s.Torrc), "torrc.d")
	if err := os.Mkdir(s.Folder, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.Folder, "50_user.conf"), "ReachableORAddresses accept *:443\n")
	write(t, s.Torrc, "SocksPort 9050\n%include "+s.Folder+"/*.conf\n")
	before := tree(t, s)
	join(t, s)
	if st, err := include.Inspect(s); err != nil || !st.First {
		t.Errorf("inspect: %+v, %v", st, err)
	}
	if _, err := include.Leave(s); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, tree(t, s)); d != "" {
		t.Errorf("leave did not restore everything:\n%s", d)
	}
}

func TestInspectNamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, s include.Site)
		want  string
	}{
		{"user's list first", func(t *testing.T, s include.Site) {
			b, _ := os.ReadFile(s.Torrc)
			write(t, s.Torrc, "ReachableORAddresses accept *:443\n"+string(b))
		}, "torrc:1 sets ReachableORAddresses before"},
		{"line removed", func(t *testing.T, s include.Site) { write(t, s.Torrc, "SocksPort 9050\n") }, "does not include"},
		{"file removed", func(t *testing.T, s include.Site) { os.Remove(s.Include) }, "is missing: run guardring-guest join"},
		{"file is a folder", func(t *testing.T, s include.Site) {
			os.Remove(s.Include)
			os.Mkdir(s.Include, 0o755)
		}, "not a regular file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := site(t, "SocksPort 9050\n")
			join(t, s)
			c.spoil(t, s)
			st, err := include.Inspect(s)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(st.Problem, c.want) {
				t.Errorf("problem %q, want %q", st.Problem, c.want)
			}
		})
	}
}

// TestWhatTorReads: what Tor takes for a line counts, and nothing else does. (Tor
// itself, asked with --verify-config, reads links in an included folder.)
func TestWhatTorReads(t *testing.T) {
	const list = "ReachableORAddresses accept *:443\n"
	for name, c := range map[string]struct {
		torrc string // FOLDER stands for a folder
		in    map[string]string
		links map[string]string
		first bool
	}{
		"a file in a folder":            {"%include FOLDER\n", map[string]string{"10.conf": list}, nil, false},
		"a link in a folder":            {"%include FOLDER\n", map[string]string{".real": list}, map[string]string{"10.conf": ".real"}, false},
		"a hidden file":                 {"%include FOLDER\n", map[string]string{".10.conf": list}, nil, true},
		"a hidden link":                 {"%include FOLDER\n", map[string]string{".real": list}, map[string]string{".10.conf": ".real"}, true},
		"a link that leads nowhere":     {"%include FOLDER\n", nil, map[string]string{"10.conf": "none"}, true},
		"a folder in a folder":          {"%include FOLDER\n", map[string]string{"10.conf/10.conf": list}, nil, true},
		"behind a sign for a comment":   {"SocksPort 9050 # \\\n" + list, nil, nil, false},
		"a comment in a continued line": {"ReachableORAddresses \\\n# a comment\n accept *:443\n", nil, nil, false},
		"the rest of a continued line":  {"Nickname \\\n" + list, nil, nil, true},
		"a comment":                     {"# " + list, nil, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := site(t, "")
			join(t, s)
			folder := filepath.Join(filepath.Dir(s.Torrc), "torrc.d")
			for file, text := range c.in {
				if err := os.MkdirAll(filepath.Join(folder, filepath.Dir(file)), 0o755); err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(folder, file), text)
			}
			if err := os.MkdirAll(folder, 0o755); err != nil {
				t.Fatal(err)
			}
			for link, to := range c.links {
				if err := os.Symlink(to, filepath.Join(folder, link)); err != nil {
					t.Fatal(err)
				}
			}
			ours, err := os.ReadFile(s.Torrc)
			if err != nil {
				t.Fatal(err)
			}
			write(t, s.Torrc, strings.ReplaceAll(c.torrc, "FOLDER", folder)+string(ours))
			st, err := include.Inspect(s)
			if err != nil || st.First != c.first {
				t.Errorf("%+v, %v; want first: %t", st, err, c.first)
			}
		})
	}
	s := site(t, "")
	write(t, s.Torrc, "%include torrc.d\n")
	if _, err := include.Inspect(s); err == nil || !strings.Contains(err.Error(), "not absolute") {
		t.Errorf("a path that depends on Tor's working folder: %v", err)
	}
}

func TestIncludesThatNeverEndAreBounded(t *testing.T) {
	s := site(t, "")
	write(t, s.Torrc, "%include "+s.Torrc+"\n")
	if _, err := include.Inspect(s); err == nil || !strings.Contains(err.Error(), "too deep") {
		t.Errorf("a torrc that includes itself: %v", err)
	}
}

func TestWriteReplacesAndKeepsTheMode(t *testing.T) {
	s := site(t, "")
	if err := include.Write(s.Include, "x"); err == nil || !strings.Contains(err.Error(), "run guardring-guest join") {
		t.Errorf("writing a file that join did not make: %v", err)
	}
	join(t, s)
	if err := include.Write(s.Include, "ReachableORAddresses reject 192.0.2.1:9001\n"); err != nil {
		t.Fatal(err)
	}
	got := tree(t, s)["/guardring/default.conf"]
	if want := "-rw-r-----\nReachableORAddresses reject 192.0.2.1:9001\n"; got != want {
		t.Errorf("include file %q, want %q", got, want)
	}
}

func TestSiteRefusesPathsThatTorMisreads(t *testing.T) {
	_, err := include.Join(include.Site{Torrc: "torrc", Include: "/etc/tor/my rules", UID: -1, GID: -1}, empty)
	if err == nil || !strings.Contains(err.Error(), "absolute") || !strings.Contains(err.Error(), "misread") {
		t.Errorf("error %v, want both faults at once", err)
	}
}

// TestNoRegularFile: what is no regular file is refused without waiting for anybody: a
// FIFO would hold the reader, and with it all that the agent does for this Tor.
func TestNoRegularFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "50_user.conf")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	torrc := filepath.Join(dir, "torrc")
	if err := os.WriteFile(torrc, []byte("%include "+dir+"/*.conf\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, read := range map[string]func() error{
		"a FIFO":   func() error { _, _, err := include.ReadFile(fifo); return err },
		"a folder": func() error { _, _, err := include.ReadFile(dir); return err },
		"a FIFO in a pattern": func() error {
			_, err := include.Inspect(include.Site{Torrc: torrc, Include: filepath.Join(dir, "x")})
			return err
		},
	} {
		ended := make(chan error, 1)
		go func() { ended <- read() }()
		select {
		case err := <-ended:
			if err == nil || !strings.Contains(err.Error(), "not a regular file") {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: the reader hangs", what)
		}
	}
}
