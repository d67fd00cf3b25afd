package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"guardring/guest-agent/include"
	"guardring/guest-agent/torctl"
	"guardring/internal/hint"
	"guardring/internal/plainfile"
)

// oldest is the first version of Tor that guardring was made for: the one of
// Debian 12.
var oldest = [3]int{0, 4, 7}

// lookAtTor looks at one Tor: its files, then what it says itself.
func (d *doctor) lookAtTor(ctx context.Context, t Tor) {
	of := " of " + t.Name
	st, inspected := d.lookAtFiles(t)
	if t.State == "" {
		d.lines.Skip("state file"+of, "where it lies is not known")
	} else if f, _, err := plainfile.Open(t.State); err == nil {
		_ = f.Close()
		d.lines.Pass("state file"+of, "%s can be read", t.State)
	} else if errors.Is(err, fs.ErrNotExist) {
		d.lines.Warn("state file"+of, "start Tor; if it has run, name its state: in the configuration", "%s is not there", t.State)
	} else {
		d.lines.Warn("state file"+of, "let the agent's user read it; until then two selections of guards cannot always be told apart", "%v", err)
	}
	conn, err := torctl.Dial(ctx, t.Control)
	if err != nil {
		d.lines.Fail("control port"+of, hint.Of(err), "%v", err)
		return
	}
	defer conn.Close()
	d.lines.Pass("control port"+of, "%s answers, and lets us in", t.Control.Address)
	d.lookAtVersion(ctx, conn, of)
	d.lookAtOptions(ctx, conn, of)
	d.lookAtState(ctx, conn, of)
	if inspected && st.Problem == "" {
		d.lookAtRestart(ctx, conn, t, st)
	}
}

// lookAtFiles looks at the include file and what leads to it.
func (d *doctor) lookAtFiles(t Tor) (st include.Status, ok bool) {
	name := "include file of " + t.Name
	if t.Site.Torrc == "" || t.Site.Include == "" {
		d.lines.Fail(name, "set torrc: in the configuration, then guardring-guest join "+t.Name, "neither torrc nor include file is known")
		return st, false
	}
	st, err := include.Inspect(t.Site)
	switch {
	case errors.Is(err, fs.ErrPermission):
		d.lines.Skip(name, "Tor's configuration may not be read by this user: run this command as root")
	case err != nil:
		d.lines.Fail(name, "correct Tor's configuration, then guardring-guest join "+t.Name, "%v", err)
	case st.Problem != "" && st.Included && !st.First:
		d.lines.Fail(name, "move the %include line to the top", "%s", st.Problem)
	case st.Problem != "":
		d.lines.Fail(name, "guardring-guest join "+t.Name+", as root", "%s", st.Problem)
	default:
		d.lines.Pass(name, "%s is read before every other ReachableORAddresses", t.Site.Include)
		return st, true
	}
	return st, false
}

func (d *doctor) lookAtVersion(ctx context.Context, conn *torctl.Conn, of string) {
	text, err := get(ctx, conn, "GETINFO", "version")
	if err != nil {
		d.lines.Fail("version"+of, "restart Tor", "it does not say its version: %v", err)
		return
	}
	text, _, _ = strings.Cut(text, " ")
	v, ok := parseVersion(text)
	switch {
	case !ok:
		d.lines.Warn("version"+of, "use Tor 0.4.7 or newer", "%q is no version that we know", text)
	case less(v, oldest):
		d.lines.Fail("version"+of, "upgrade Tor to 0.4.7 or newer", "Tor %s is too old: its guards and circuits are not those that guardring knows", text)
	default:
		d.lines.Pass("version"+of, "Tor %s", text)
	}
}

// parseVersion takes the first three numbers of a version.
func parseVersion(s string) (v [3]int, ok bool) {
	parts := strings.SplitN(s, ".", 4)
	if len(parts) < 3 {
		return v, false
	}
	for i := range v {
		n, err := strconv.Atoi(parts[i])
		if err != nil {
			return v, false
		}
		v[i] = n
	}
	return v, true
}

func less(a, b [3]int) bool {
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}

// lookAtOptions looks at options that keep guardring from its work.
func (d *doctor) lookAtOptions(ctx context.Context, conn *torctl.Conn, of string) {
	for _, o := range []struct {
		name, key string
		fails     bool
		remedy    string
		bad       string // text, with the option's value
		good      string
	}{
		{"relay", "ORPort", true, "take ORPort out of torrc, or this Tor out of instances: in the agent's configuration", "it is a relay (ORPort %s): it cannot be a member", "it is a client"},
		{"bridges", "UseBridges", false, "nothing, if this is meant: guardring then only watches", "it uses bridges: it is observed only", "it uses none"},
		{"entry nodes", "EntryNodes", false, "nothing, if this is meant: guardring then only watches", "EntryNodes %s: Tor uses a selection of its own, and is observed only", "it chooses guards by itself"},
		{"entry guards", "UseEntryGuards", true, "take UseEntryGuards 0 out of torrc", "UseEntryGuards is 0: it has no guards at all", "it uses guards"},
		{"network", "DisableNetwork", false, "set DisableNetwork 0 (Whonix: its connection wizard does it)", "DisableNetwork is 1: it connects to nobody", "it may connect"},
	} {
		value, err := get(ctx, conn, "GETCONF", o.key)
		bad := value != "" && value != "0"
		if o.key == "UseEntryGuards" { // the one that must be set, and is unless somebody takes it away
			bad = value == "0"
		}
		switch {
		case err != nil:
			d.lines.Skip(o.name+of, "Tor does not say %s: %v", o.key, err)
		case !bad:
			d.lines.Pass(o.name+of, "%s", o.good)
		default:
			text := strings.Replace(o.bad, "%s", value, 1)
			if o.fails {
				d.lines.Fail(o.name+of, o.remedy, "%s", text)
			} else {
				d.lines.Warn(o.name+of, o.remedy, "%s", text)
			}
		}
	}
}

// lookAtState says whether Tor is awake, and knows the network.
func (d *doctor) lookAtState(ctx context.Context, conn *torctl.Conn, of string) {
	if v, err := get(ctx, conn, "GETINFO", "dormant"); err == nil && v != "" && v != "0" {
		d.lines.Warn("dormant"+of, "nothing: it wakes up with its first stream, and its claims stay", "it is dormant: it has no guard in use")
	} else {
		d.lines.Pass("dormant"+of, "it is awake")
	}
	until, err := get(ctx, conn, "GETINFO", "consensus/valid-until")
	at, parseErr := time.Parse(time.DateTime, until)
	switch {
	case err != nil || parseErr != nil:
		d.lines.Warn("consensus"+of, "wait until Tor has bootstrapped; look at its log if that takes minutes", "it has none yet")
	case d.cfg.Now().After(at.Add(24 * time.Hour)):
		d.lines.Warn("consensus"+of, "check this machine's network and clock", "it ended at %s", until)
	default:
		d.lines.Pass("consensus"+of, "valid until %s", until)
	}
}

// lookAtRestart says whether Tor has read its configuration since join.
func (d *doctor) lookAtRestart(ctx context.Context, conn *torctl.Conn, t Tor, st include.Status) {
	name := "restart of " + t.Name
	uptime, err := get(ctx, conn, "GETINFO", "uptime")
	seconds, parseErr := strconv.Atoi(uptime)
	file, statErr := os.Stat(t.Site.Torrc)
	if t.Site.Folder != "" {
		file, statErr = os.Stat(t.Site.Folder)
	}
	if err != nil || parseErr != nil || statErr != nil {
		d.lines.Skip(name, "it cannot be told when Tor was started")
		return
	}
	remedy := "restart it when it suits you"
	remedy += t.Restart
	older := d.cfg.Now().Add(-time.Duration(seconds+1) * time.Second).Before(file.ModTime())
	switch {
	case older && st.Sandbox:
		d.lines.Fail(name, strings.Replace(remedy, "when it suits you", "now", 1), "it was started before its configuration named our file, and under Sandbox 1 it ends at its next reload")
	case older:
		d.lines.Warn(name, remedy, "it was started before its configuration was changed: until it is restarted, exclusions are in its memory only")
	default:
		d.lines.Pass(name, "it was started with the present configuration")
	}
}

// get asks for one value; "" where Tor has none.
func get(ctx context.Context, conn *torctl.Conn, command, key string) (string, error) {
	r, err := conn.Do(ctx, command+" "+key)
	if err != nil {
		return "", err
	}
	if v := r.Values(key); len(v) > 0 {
		return v[0], nil
	}
	return "", nil
}
