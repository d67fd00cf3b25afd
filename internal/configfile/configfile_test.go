package configfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type policy string

func (p *policy) UnmarshalText(b []byte) error {
	if s := string(b); s != "observe" && s != "disjoint" {
		return fmt.Errorf("%q is no policy", s)
	}
	*p = policy(b)
	return nil
}

type gateway struct {
	Name  string   `yaml:"name"`
	Mode  string   `yaml:"mode"`
	Users []string `yaml:"allowed-users"`
}

func (gateway) Default() any { return gateway{Mode: "0600"} }

func (g *gateway) Check(r *Report) {
	if g.Name == "" {
		r.Fault("name", "is missing", "name the gateway")
	}
}

type config struct {
	RunDir    string            `yaml:"run-dir"`
	Policy    policy            `yaml:"policy"`
	Heartbeat time.Duration     `yaml:"heartbeat"`
	Retention time.Duration     `yaml:"retention"`
	Limit     int               `yaml:"limit"`
	Share     float64           `yaml:"share"`
	Small     uint8             `yaml:"small"`
	Debug     bool              `yaml:"debug"`
	Gateways  []gateway         `yaml:"gateways"`
	Labels    map[string]string `yaml:"labels"`
	Nested    *gateway          `yaml:"nested"`
	inner     int               // not the file's to set
}

func (c *config) Check(r *Report) {
	if c.Heartbeat > time.Minute {
		r.Fault("heartbeat", "is longer than a minute", "write at most 1m")
	}
	if len(c.Gateways) > 1 && c.Gateways[0].Name == c.Gateways[1].Name {
		r.Fault("gateways[1].name", "is taken", "choose another")
	}
}

func TestGood(t *testing.T) {
	c := config{RunDir: "/run/x", Limit: 7}
	err := Parse("f.yaml", []byte(`
# a comment
policy: observe
heartbeat: 90ms
retention: 60d
share: 0.5
small: 255
debug: true
gateways:
  - name: a
    mode: 0660
  - {name: b, allowed-users: [x, y]}
labels:
  one: eins
nested:
  name: n
`), &c)
	if err != nil {
		t.Fatal(err)
	}
	want := config{
		RunDir: "/run/x", Limit: 7, Policy: "observe", Heartbeat: 90 * time.Millisecond, Retention: 60 * 24 * time.Hour,
		Share: 0.5, Small: 255, Debug: true,
		Gateways: []gateway{{Name: "a", Mode: "0660"}, {Name: "b", Mode: "0600", Users: []string{"x", "y"}}},
		Labels:   map[string]string{"one": "eins"}, Nested: &gateway{Name: "n"},
	}
	if d := cmp.Diff(want, c, cmp.AllowUnexported(config{})); d != "" {
		t.Error(d)
	}
}

func TestEmptyFileKeepsDefaults(t *testing.T) {
	for _, text := range []string{"", "# only a comment\n", "---\n"} {
		c := config{Limit: 3}
		if err := Parse("f", []byte(text), &c); err != nil || c.Limit != 3 {
			t.Errorf("%q: %v, limit %d", text, err, c.Limit)
		}
	}
}

func TestEveryFaultAtOnce(t *testing.T) {
	c := config{Limit: 7}
	err := Parse("f.yaml", []byte(`run_dir: /run/y
policy: disjont
heartbeat: soon
limit: many
small: 256
debug: yes please
limit: 8
retention: -3h
gateways:
  - mode: 0660
  - name:
  - naem: c
    allowed-users: just-one
  - 7
labels: [a]
nested: &here
  name: x
xyzzy: 1
inner: 1
share: !!str 1
`), &c)
	want := `f.yaml:1: run_dir: unknown key (did you mean "run-dir"?)
f.yaml:2: policy: "disjont" is no policy
f.yaml:3: heartbeat: "soon" is not a duration (want a duration such as 90s, 1h30m or 60d)
f.yaml:4: limit: "many" is not a number (want a whole number)
f.yaml:5: small: 256 is out of range (want a whole number, not negative)
f.yaml:6: debug: "yes please" is neither true nor false (want true or false)
f.yaml:7: limit: is given twice, first in line 4 (remove one of the two)
f.yaml:8: retention: "-3h" is negative (want a duration such as 90s, 1h30m or 60d)
f.yaml:10: gateways[0].name: is missing (name the gateway)
f.yaml:11: gateways[1].name: has no value (write a value, or remove the key to get the default)
f.yaml:12: gateways[2].naem: unknown key (did you mean "name"?)
f.yaml:12: gateways[2].name: is missing (name the gateway)
f.yaml:13: gateways[2].allowed-users: is the single value "just-one", want a list (write each item on a line that starts with "- ", or [] for none)
f.yaml:14: gateways[3]: is the single value "7", want keys and values (write lines of the form "key: value"; known keys: name, mode, allowed-users)
f.yaml:14: gateways[3].name: is missing (name the gateway)
f.yaml:15: labels: is a list, want a table (write lines of the form "name: value" below it)
f.yaml:16: nested: anchors and aliases are not supported (write the value out)
f.yaml:18: xyzzy: unknown key (known keys: run-dir, policy, heartbeat, retention, limit, share, small, debug, gateways, labels, nested)
f.yaml:19: inner: unknown key (known keys: run-dir, policy, heartbeat, retention, limit, share, small, debug, gateways, labels, nested)
f.yaml:20: share: the tag !!str is not supported (remove it)`
	if err == nil {
		t.Fatal("no error")
	}
	if d := cmp.Diff(want, err.Error()); d != "" {
		t.Error(d)
	}
	if c.inner != 0 {
		t.Error("an unexported field was set")
	}
	var first *Fault
	if !errors.As(err, &first) || first.Line != 1 || first.Key != "run_dir" {
		t.Errorf("first fault %+v", first)
	}
}

func TestChecks(t *testing.T) {
	var c config
	err := Parse("f", []byte("heartbeat: 2h\ngateways:\n- name: a\n- name: a\n"), &c)
	want := "f:1: heartbeat: is longer than a minute (write at most 1m)\nf:4: gateways[1].name: is taken (choose another)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestSyntaxAndDocuments(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"a: [1\nb: 2\n", "f:"},
		{"limit: 1\n\tdebug: true\n", "f:2: found a tab character that violates indentation (indent with spaces"},
		{"limit: 1\n---\nlimit: 2\n", "f:2: a second YAML document"},
		{"- a\n", "f:1: is a list, want keys and values"},
		{"just text\n", `f:1: is the single value "just text"`},
		{"? [a]\n: b\n", "f:1: a key that is not a plain name"},
		{"<<: {limit: 3}\n", "f:1: a key that is not a plain name"},
		{"\x00", "f:"},
	} {
		var c config
		err := Parse("f", []byte(tc.text), &c)
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%q: got %v, want %s...", tc.text, err, tc.want)
		}
	}
}

func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, MaxSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file or directory (create it",
		dir:                        "is a directory (give the right path)",
		big:                        "larger than 1048576 bytes",
	} {
		var c config
		if err := Load(path, &c); err == nil || !strings.HasPrefix(err.Error(), path+": "+want) {
			t.Errorf("got %v, want %s: %s", err, path, want)
		}
	}
}

func TestSeveralFiles(t *testing.T) {
	var c, d config
	a, b := Decode("a", []byte("limit: x\n"), &c), Decode("b", []byte("limit: 1\ngateways:\n  - name: n\n"), &d)
	b.Fault("gateways[0].name", "is in a already", "rename it")
	want := "a:1: limit: \"x\" is not a number (want a whole number)\nb:3: gateways[0].name: is in a already (rename it)"
	if err := Join(a, b); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if err := Join(Decode("c", nil, &c)); err != nil {
		t.Error(err)
	}
}

func TestDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{"60d": 1440 * time.Hour, "1d12h": 36 * time.Hour, "0d": 0, "90s": 90 * time.Second, "0": 0} {
		got, err := ParseDuration(s)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
		if again, err := ParseDuration(FormatDuration(got)); err != nil || again != got {
			t.Errorf("%s: written as %s, read as %v, %v", s, FormatDuration(got), again, err)
		}
	}
	for _, s := range []string{"", "d", "-1h", "1h1d", "99999999999d", "40000d", "1d-1h", "5"} {
		if d, err := ParseDuration(s); err == nil {
			t.Errorf("%q gave %v", s, d)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"run-dir", "ledger-dir", "policy"}
	for name, want := range map[string]string{"rundir": "run-dir", "Policy": "policy", "ledger_dir": "ledger-dir", "plocy": "policy", "gateway": "", "": ""} {
		if got := Nearest(name, known); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// FuzzParse: no text makes the decoder panic, and each fault names its file.
func FuzzParse(f *testing.F) {
	f.Add("policy: observe\ngateways:\n- name: a\n")
	f.Add("a: &x [*x]\n")
	f.Add("? {a: b}\n: - c\n")
	f.Fuzz(func(t *testing.T, text string) {
		var c config
		var faults Faults
		if err := Parse("f", []byte(text), &c); err != nil && !errors.As(err, &faults) {
			t.Fatalf("not faults: %v", err)
		}
		for _, one := range faults {
			if one.File != "f" || one.Problem == "" || one.Line < 0 {
				t.Fatalf("%+v", one)
			}
		}
	})
}
