package guardstate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func corpus(t testing.TB) map[string]string {
	files, err := filepath.Glob("testdata/state/*.txt")
	if err != nil || len(files) < 3 {
		t.Fatalf("corpus of %d files, %v", len(files), err)
	}
	out := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(f)] = string(b)
	}
	return out
}

func TestStateIsPrintedBackExactly(t *testing.T) {
	for name, text := range corpus(t) {
		s, err := ParseState(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if s.String() != text {
			t.Errorf("%s: printed back otherwise", name)
		}
		if s.TorVersion != "Tor 0.4.9.11" || s.Written.IsZero() {
			t.Errorf("%s: version %q written %v", name, s.TorVersion, s.Written)
		}
	}
}

func TestStateFields(t *testing.T) {
	s, err := ParseState(corpus(t)["documented.txt"])
	if err != nil {
		t.Fatal(err)
	}
	g := s.Guards[0]
	if g.In != "default" || g.RSAID.String() != "AB35A7943BC5367198EEBFDA902A4B910A5E5C71" || g.Nickname != "guard0" || !g.Listed ||
		g.SampledIdx != 0 || g.ConfirmedIdx != 1 || g.SampledBy != "0.4.9.11" || len(g.PathBias) != 8 || len(g.Extra) != 0 {
		t.Errorf("first guard: %+v", g)
	}
	g = s.Guards[1]
	if g.Listed || g.UnlistedSince.IsZero() || g.Nickname != "" || !g.Confirmed() || g.SampledIdx != 3 {
		t.Errorf("unlisted guard: %+v", g)
	}
	g = s.Guards[2]
	if len(g.Extra) != 2 || g.Extra[0] != (Field{"a_new_key", "a=b,c"}) || g.Confirmed() {
		t.Errorf("guard with unknown keys: %+v", g)
	}
	if s.Guards[3].BridgeAddr != "192.0.2.9:443" {
		t.Errorf("bridge: %+v", s.Guards[3])
	}
	sel := s.Selections()
	if len(sel["default"]) != 2 || len(sel["restricted"]) != 1 || len(sel["bridges"]) != 1 {
		t.Errorf("selections: %v", sel)
	}
}

func TestDamagedStateIsRefusedWithLineAndRemedy(t *testing.T) {
	text := corpus(t)["documented.txt"]
	for name, c := range map[string]struct{ text, want string }{
		"empty":         {"", "line 1"},
		"cut in a line": {text[:400], "line 6: not ended by a newline"},
		"cut at a line": {text[:strings.Index(text, "LastWritten")], "half-written"},
		"bad identity":  {strings.Replace(text, "rsa_id=AB35", "rsa_id=XB35", 1), "line 6: rsa_id"},
		"bad date":      {strings.Replace(text, "sampled_on=2026-10-29", "sampled_on=2026-13-29", 1), "line 6: sampled_on"},
		"bad index":     {strings.Replace(text, "confirmed_idx=1", "confirmed_idx=-1", 1), "line 6: confirmed_idx"},
		"twice":         {strings.Replace(text, "listed=1", "listed=1 listed=1", 1), "line 6: listed is given twice"},
		"no equals":     {strings.Replace(text, "listed=1", "listed", 1), "line 6"},
		"zeroes":        {strings.Replace(text, "Dormant 0", "Dorm\x00\x00\x00\x00", 1), "line 5: a zero byte"},
		"no selection":  {strings.Replace(text, "in=default ", "", 1), "line 6: guard without in="},
	} {
		s, err := ParseState(c.text)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "last good state") {
			t.Errorf("%s: %v, want %q and the remedy", name, err, c.want)
		}
		if len(s.Guards) != 0 {
			t.Errorf("%s: an error with guards", name)
		}
	}
}

func TestEveryCutOfAStateIsRefused(t *testing.T) {
	text := corpus(t)["tor-0.4.9.11-client.txt"]
	for n := range len(text) {
		if _, err := ParseState(text[:n]); err == nil && n != len(text) {
			t.Fatalf("accepted the first %d of %d bytes", n, len(text))
		}
	}
}
