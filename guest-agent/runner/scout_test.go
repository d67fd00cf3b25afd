package runner

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"guardring/guest-agent/include"
	"guardring/guest-agent/rotation"
	"guardring/guest-agent/torctl"
	"guardring/shmproto"
)

// machine is what a look for Tors finds.
type machine struct {
	mu    sync.Mutex
	tors  []Tor
	looks int
}

func (m *machine) look() ([]Tor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.looks++
	return slices.Clone(m.tors), nil
}

// looked waits until the agent has looked and has dealt with what it found: that is told by
// nothing, but the loop asks for each look, and has done much else when it has asked so often.
func (m *machine) looked(t *testing.T, a *Agent) {
	t.Helper()
	count := func() int {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.looks
	}
	from := count()
	await(t, a, "looks", func(Document) bool { return count() >= from+4*goneAfter })
}

func (m *machine) set(tors ...Tor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tors = tors
}

// member waits for a publication of a member, in whatever slot.
func (d *fakeDevice) member(t *testing.T, name, what string, wanted func(p *shmproto.Publication) bool) shmproto.Publication {
	t.Helper()
	h := d.host(t, 1)
	deadline := time.After(patience)
	for {
		var shown []string
		for slot := range shmproto.MaxMembers {
			var p shmproto.Publication
			if err := h.ReadPublication(slot, &p); err == nil {
				if p.Member == name && wanted(&p) {
					return p
				}
				shown = append(shown, fmt.Sprintf("%d: %s state %d", slot, p.Member, p.State))
			}
		}
		select {
		case <-d.toHost:
		case <-deadline:
			t.Fatalf("%s: %s: not published; shown %v", name, what, shown)
		}
	}
}

func left(p *shmproto.Publication) bool { return p.State == shmproto.MemberLeft }

// await asks the agent for its status until it is as wanted.
func await(t *testing.T, a *Agent, what string, wanted func(Document) bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		d, answered := a.Status().(Document) // on a busy machine the loop may have no time for it
		if answered && wanted(d) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: last status %+v", what, d)
		}
	}
}

func (d Document) member(name string) *Member {
	for i := range d.Members {
		if d.Members[i].Name == name {
			return &d.Members[i]
		}
	}
	return nil
}

const fastTick = 20 * time.Millisecond

// TestTorsComeAndGo: a Tor that is created while the agent runs is taken up; one
// that is stopped stays a member; one whose files are gone leaves, and its slot is
// the next one's.
func TestTorsComeAndGo(t *testing.T) {
	d := newFakeDevice(t, "browsing")
	first, second := newFakeTor(t), newFakeTor(t)
	web := torOf(t, "web", second)
	web.Role = "browsing"
	web.State = filepath.Join(filepath.Dir(web.Site.Torrc), "state")
	var m machine
	initial := torOf(t, "default", first)
	m.set(initial)
	a, _ := run(t, Config{Tors: []Tor{initial}, Discover: m.look, Dial: oneDevice(d), SlowTick: fastTick})
	d.member(t, "default", "guards", present)

	m.set(initial, web)
	if p := d.member(t, "web", "guards", present); p.Role != "browsing" {
		t.Errorf("role %q", p.Role)
	}
	o := orderOf(1, 0)
	o.Member = "web"
	d.order(t, 1, o)
	d.member(t, "web", "receipt", applied)

	// Stopped, and its torrc is away: its state is there, so it may come back.
	second.stop()
	torrc, err := os.ReadFile(web.Site.Torrc)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.WriteFile(web.State, nil, 0o600), os.Remove(web.Site.Torrc)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	m.set(initial)
	d.member(t, "web", "unreachable", func(p *shmproto.Publication) bool { return p.Flags&shmproto.MemberUnreachable != 0 })
	m.looked(t, a)
	if document(t, a).member("web") == nil {
		t.Fatal("a Tor that is only stopped was let go")
	}
	if err := os.WriteFile(web.Site.Torrc, torrc, 0o644); err != nil {
		t.Fatal(err)
	}
	m.set(initial, web)
	second.start()
	d.member(t, "web", "return", func(p *shmproto.Publication) bool { return p.Flags&shmproto.MemberUnreachable == 0 })

	// Removed.
	second.stop()
	for _, path := range []string{web.Site.Torrc, web.State} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	os.Remove(second.path)
	m.set(initial)
	d.member(t, "web", "left", left)
	await(t, a, "end of the member", func(doc Document) bool { return doc.member("web") == nil })
	if _, err := os.Stat(web.Site.Include); !os.IsNotExist(err) {
		t.Errorf("the include file of a Tor that is gone: %v", err)
	}
}

// TestLeaveByName: one member leaves while the other stays, and comes back only
// after its include line had gone and is there again.
func TestLeaveByName(t *testing.T) {
	d := newFakeDevice(t, "browsing")
	tors := []Tor{torOf(t, "default", newFakeTor(t)), torOf(t, "web", newFakeTor(t))}
	var m machine
	m.set(tors...)
	leave := make(chan string)
	a, _ := run(t, Config{Tors: tors, Discover: m.look, Dial: oneDevice(d), SlowTick: fastTick, Leave: leave})
	d.member(t, "default", "guards", present)
	d.member(t, "web", "guards", present)
	leave <- "web"
	d.member(t, "web", "left", left)
	await(t, a, "end of the member", func(doc Document) bool { return doc.member("web") == nil })
	m.looked(t, a)
	if doc := document(t, a); doc.member("web") != nil || doc.member("default") == nil {
		t.Fatalf("members %+v", doc.Members)
	}
	site := tors[1].Site
	if _, err := include.Leave(site); err != nil {
		t.Fatal(err)
	}
	m.looked(t, a)
	if _, err := include.Join(site, rotation.EmptyInclude()); err != nil {
		t.Fatal(err)
	}
	d.member(t, "web", "return", present)
}

// TestMoreTorsThanRoom: the ninth is named, and served when one has left.
func TestMoreTorsThanRoom(t *testing.T) {
	d := newFakeDevice(t, "browsing")
	f := newFakeTor(t) // one control port does for all
	var tors []Tor
	for i := range shmproto.MaxMembers + 1 {
		tors = append(tors, torOf(t, fmt.Sprintf("t%d", i), f))
	}
	tors = append(tors, Tor{Name: "two words", Control: torctl.Config{Address: f.path}})
	var m machine
	m.set(tors...)
	leave := make(chan string)
	a, _ := run(t, Config{Tors: tors[:1], Discover: m.look, Dial: oneDevice(d), SlowTick: fastTick, Leave: leave})
	complains := func(doc Document, name string) bool {
		return slices.ContainsFunc(doc.Faults, func(c Complaint) bool { return c.Member == name && c.Hint != "" })
	}
	await(t, a, "the ninth", func(doc Document) bool {
		return len(doc.Members) == shmproto.MaxMembers && complains(doc, "t8") && complains(doc, "two words")
	})
	d.member(t, "t3", "guards", present)
	leave <- "t3"
	d.member(t, "t8", "guards", present)
	await(t, a, "no complaint", func(doc Document) bool { return !complains(doc, "t8") && doc.member("t3") == nil })
}

// TestATorThatIsNotRunning: one that is installed but was never started is no
// problem; one that the configuration names is.
func TestATorThatIsNotRunning(t *testing.T) {
	for _, discover := range []bool{true, false} {
		off := newFakeTor(t)
		off.stop()
		os.Remove(off.path)
		cfg := Config{Tors: []Tor{torOf(t, "default", off)}, Dial: oneDevice(newFakeDevice(t, "browsing"))}
		if discover {
			var m machine
			m.set(cfg.Tors...)
			cfg.Discover = m.look
		}
		a, _ := run(t, cfg)
		await(t, a, "control port away", func(doc Document) bool {
			complained := slices.ContainsFunc(doc.Faults, func(c Complaint) bool { return c.Member == "default" })
			return doc.Members[0].Idle == discover && complained != discover
		})
	}
}

// TestOddInstanceHarmsNoOther: a folder among the instances whose name no member can
// have is left out, and said so; the others are served, also at the start.
func TestOddInstanceHarmsNoOther(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	odd := []Tor{torOf(t, "web (copy)", tor), torOf(t, ".trash", tor), torOf(t, strings.Repeat("x", 300), tor)}
	all := append([]Tor{torOf(t, "default", tor)}, odd...)
	a, _ := run(t, Config{Tors: all, Discover: func() ([]Tor, error) { return all, nil }, Dial: oneDevice(d), SlowTick: 100 * time.Millisecond})
	d.member(t, "default", "present", present)
	await(t, a, "the odd ones in the status", func(d Document) bool {
		n := 0
		for _, c := range d.Faults {
			if strings.Contains(c.Text, "not served") {
				n++
			}
		}
		return len(d.Members) == 1 && n == len(odd)
	})
}
