package runner

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"guardring/guest-agent/enforce"
	"guardring/internal/guardstate"
	"guardring/internal/hint"
)

// fakeFilter remembers what it was told.
type fakeFilter struct {
	mu      sync.Mutex
	calls   []string
	fail    error
	checked bool
}

func (f *fakeFilter) call(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	return f.fail
}

func (f *fakeFilter) Name() string { return "inet test" }
func (f *fakeFilter) Set(member string, uid uint32, rejects []guardstate.Reject) error {
	n := 0
	for _, r := range rejects {
		n += len(r.Addrs)
	}
	return f.call("set %s %d: %d", member, uid, n)
}
func (f *fakeFilter) Drop(member string) error    { return f.call("drop %s", member) }
func (f *fakeFilter) Keep(members []string) error { return f.call("keep %v", members) }
func (f *fakeFilter) Check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.checked = true
	return f.fail
}
func (f *fakeFilter) Remove() error { return f.call("remove") }
func (f *fakeFilter) State() (map[string]enforce.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return map[string]enforce.State{"default": {UID: 107, Addresses: 2, Dropped: 3}}, f.fail
}

func (f *fakeFilter) await(t *testing.T, call string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		f.mu.Lock()
		there, all := slices.Contains(f.calls, call), fmt.Sprint(f.calls)
		f.mu.Unlock()
		if there {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s was not called: %s", call, all)
		}
	}
}

func TestEnforcement(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	tor := newFakeTor(t) // does not say whose it is
	d := newFakeDevice(t, "browsing")
	var f fakeFilter
	leave := make(chan string)
	cfg := Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d), Enforcer: &f, SlowTick: fastTick, Leave: leave}
	cfg.Tors[0].User = me.Username
	a, ended := run(t, cfg)
	f.await(t, "keep [default]")
	f.await(t, "set default "+me.Uid+": 0")
	d.until(t, 0, "guards", present)
	d.order(t, 0, orderOf(1, 0))
	d.until(t, 0, "receipt", applied)
	f.await(t, "set default "+me.Uid+": 1")
	await(t, a, "status", func(doc Document) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.checked && doc.Enforce != nil && doc.Enforce.Error == "" && *doc.Members[0].Rules == Rules{UID: 107, Addresses: 2, Dropped: 3}
	})
	f.mu.Lock()
	f.fail = hint.Wrap(errors.New("no"), "do something")
	f.mu.Unlock()
	await(t, a, "complaint", func(doc Document) bool {
		return doc.Enforce.Error == "no" && slices.ContainsFunc(doc.Faults, func(c Complaint) bool { return c.Hint == "do something" })
	})
	f.mu.Lock()
	f.fail = nil
	f.mu.Unlock()
	close(leave)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if last := f.calls[len(f.calls)-1]; last != "remove" {
		t.Errorf("%v: the table is not removed last", f.calls)
	}
}

// TestRulesStay: an agent that ends leaves the rules; one that serves a part only
// takes away no more than that part's.
func TestRulesStay(t *testing.T) {
	d := newFakeDevice(t, "browsing")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []bool{false, true} {
		var f fakeFilter
		leave := make(chan string)
		cfg := Config{Tors: []Tor{torOf(t, "default", newFakeTor(t))}, Dial: oneDevice(d), Enforcer: &f, Part: part, Leave: leave}
		cfg.Tors[0].User = me.Username
		t.Run(fmt.Sprint("part=", part), func(t *testing.T) {
			_, ended := run(t, cfg)
			f.await(t, "set default "+me.Uid+": 0")
			if part {
				close(leave)
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		})
		if slices.Contains(f.calls, "remove") || slices.Contains(f.calls, "keep [default]") == part || slices.Contains(f.calls, "drop default") != part {
			t.Errorf("part %t: %v", part, f.calls)
		}
	}
}

// TestUserOfAnother: a Tor that names another user than the one it should have gets no
// rules, and takes none from that user's own Tor.
func TestUserOfAnother(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	liar, honest := newFakeTor(t), newFakeTor(t)
	liar.set(func() { liar.uid = "4242" })
	honest.set(func() { honest.uid = me.Uid })
	d := newFakeDevice(t, "browsing")
	var f fakeFilter
	cfg := Config{Tors: []Tor{torOf(t, "liar", liar), torOf(t, "honest", honest), torOf(t, "free", liar)}, Dial: oneDevice(d), Enforcer: &f}
	cfg.Tors[0].User, cfg.Tors[1].User = me.Username, me.Username
	a, _ := run(t, cfg)
	f.await(t, "set honest "+me.Uid+": 0")
	f.await(t, "set free 4242: 0") // nobody says otherwise
	await(t, a, "a notice", func(doc Document) bool {
		return slices.ContainsFunc(doc.Members[0].Notices, func(n Note) bool { return strings.Contains(n.Text, "it should be "+me.Username) })
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.ContainsFunc(f.calls, func(c string) bool { return strings.HasPrefix(c, "set liar") }) {
		t.Errorf("%v", f.calls)
	}
}
