package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"guardring/guest-agent/device"
	"guardring/guest-agent/include"
	"guardring/guest-agent/rotation"
	"guardring/guest-agent/torctl"
	"guardring/shmproto"
)

// site prepares a torrc as join does.
func site(t *testing.T) include.Site {
	t.Helper()
	dir := t.TempDir()
	s := include.Site{Torrc: filepath.Join(dir, "torrc"), Include: filepath.Join(dir, "guardring", "x.conf"), UID: -1, GID: -1}
	if err := os.WriteFile(s.Torrc, []byte("SocksPort 9050\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := include.Join(s, rotation.EmptyInclude()); err != nil {
		t.Fatal(err)
	}
	return s
}

// patience bounds what would else hang for ever. No test waits so long for what it expects.
const patience = time.Minute

func torOf(t *testing.T, name string, f *fakeTor) Tor {
	return Tor{Name: name, Control: torctl.Config{Address: f.path, Timeout: patience}, Site: site(t)}
}

// document asks the agent for its status.
func document(t *testing.T, a *Agent) Document {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		d, answered := a.Status().(Document) // on a busy machine the loop may have no time for it
		if answered {
			return d
		}
		if time.Now().After(deadline) {
			t.Fatal("the agent's loop does not answer")
		}
	}
}

// run starts an agent. Goroutines that outlive it fail the test.
func run(t *testing.T, cfg Config) (*Agent, <-chan error) {
	t.Helper()
	before := runtime.NumGoroutine()
	cfg.Incarnation = 7
	cfg.Rotation.PublishGap = time.Millisecond
	if cfg.BackoffMin == 0 {
		cfg.BackoffMin, cfg.BackoffMax = time.Millisecond, 10*time.Millisecond
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	finished := make(chan struct{})
	go func() { defer close(finished); ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-finished:
		case <-time.After(patience):
			t.Error("the agent does not end")
			return
		}
		for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before+2*len(cfg.Tors); runtime.Gosched() {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<16)
				t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
				return
			}
		}
	})
	return a, ended
}

func orderOf(seq uint64, guards ...int) shmproto.Order {
	o := shmproto.Order{Epoch: shmproto.Epoch{Number: 1, Random: 1}, Term: 1, Seq: shmproto.Seq(seq), Member: "default"}
	for _, n := range guards {
		o.Exclusions = append(o.Exclusions, fp(n))
	}
	return o
}

func TestOrderIsAppliedInOrder(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	cfg := Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d)}
	path := cfg.Tors[0].Site.Include
	var beforeSet string
	tor.set(func() {
		tor.onSet = func() {
			if b, err := os.ReadFile(path); err == nil && beforeSet == "" {
				beforeSet = string(b)
			}
		}
	})
	a, _ := run(t, cfg)
	d.until(t, 0, "guards", present)
	o := orderOf(5, 0)
	d.order(t, 0, o)
	p := d.until(t, 0, "receipt", applied)
	if p.Receipt.Digest != o.Digest() || p.Receipt.Seq != 5 {
		t.Errorf("receipt %+v", p.Receipt)
	}
	if strings.Contains(beforeSet, "reject 127") {
		t.Error("the include file was written before SETCONF was answered")
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), "reject 127.10.0.1") {
		t.Errorf("include file: %q, %v", text, err)
	}
	if got := tor.asked("SETCONF", "CLOSECIRCUIT"); len(got) != 3 || !strings.HasPrefix(got[0], "SETCONF ReachableORAddresses=") ||
		!strings.HasPrefix(got[1], "CLOSECIRCUIT 1") || !strings.HasPrefix(got[2], "CLOSECIRCUIT 2") {
		t.Errorf("requests: %q", got)
	}
	if got := tor.asked("SIGNAL", "SAVECONF", "+"); got != nil {
		t.Errorf("forbidden requests: %q", got)
	}
	doc := document(t, a)
	m := doc.Members[0]
	if m.Order == nil || m.Order.Seq != 5 || m.Receipt == nil || m.Receipt.Status != "applied" || !m.Guards[0].Excluded {
		t.Errorf("status: %+v", m)
	}
	t.Logf("order seen to SETCONF %.2f ms, own %.2f ms; last event to receipt %.2f ms", m.Timing.Setconf, m.Timing.OwnShare, m.Timing.ToReceipt)
	if m.Timing.OwnShare < 0 || m.Timing.OwnShare > m.Timing.Setconf { // in whole microseconds
		t.Errorf("own share: %+v", m.Timing)
	}
	if m.Timing.Closed != 2 || m.Timing.Setconf <= 0 || m.Timing.LastGone <= 0 {
		t.Errorf("timing: %+v", m.Timing)
	}
	// The same order again, and an older one, change nothing.
	n := len(tor.asked("SETCONF"))
	d.order(t, 0, o)
	older := orderOf(4)
	d.order(t, 0, older)
	document(t, a)
	if len(tor.asked("SETCONF")) != n {
		t.Error("an old order was obeyed")
	}
	// An empty order lifts everything.
	d.order(t, 0, orderOf(6))
	d.until(t, 0, "lifted", func(p *shmproto.Publication) bool { return applied(p) && p.Receipt.Seq == 6 })
	if text, _ := os.ReadFile(path); strings.Contains(string(text), "reject 127") {
		t.Errorf("include file after lifting: %q", text)
	}
}

// TestAnOrderFromBeforeTheStartIsSeenAtOnce: nobody rings for it again.
func TestAnOrderFromBeforeTheStartIsSeenAtOnce(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	d.order(t, 0, orderOf(1, 0))
	<-d.bell // the doorbell was taken by an agent that is gone
	run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d), SlowTick: time.Hour})
	d.until(t, 0, "receipt", applied)
}

func TestRefusalIsAReceipt(t *testing.T) {
	tor := newFakeTor(t)
	tor.set(func() { tor.refuse = true })
	d := newFakeDevice(t, "browsing")
	cfg := Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d)}
	a, _ := run(t, cfg)
	d.until(t, 0, "guards", present)
	d.order(t, 0, orderOf(1, 0))
	p := d.until(t, 0, "receipt", func(p *shmproto.Publication) bool { return p.Receipt.Status == shmproto.ReceiptFailed })
	if p.Receipt.Reason != shmproto.ReasonSetconf {
		t.Errorf("%+v", p.Receipt)
	}
	if got := tor.asked("CLOSECIRCUIT"); got != nil {
		t.Errorf("circuits were closed: %q", got)
	}
	if text, _ := os.ReadFile(cfg.Tors[0].Site.Include); strings.Contains(string(text), "reject 127") {
		t.Error("the include file was written")
	}
	if faults := document(t, a).Faults; len(faults) == 0 {
		t.Error("the status names no problem")
	}
}

func TestTorGoesAndComesBack(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d)})
	d.until(t, 0, "guards", present)
	tor.stop()
	away := func(p *shmproto.Publication) bool { return p.Flags&shmproto.MemberUnreachable != 0 }
	p := d.until(t, 0, "absence", away)
	if len(p.Guards) != fakeGuards {
		t.Error("the last good guards were forgotten")
	}
	tor.start()
	d.until(t, 0, "return", func(p *shmproto.Publication) bool { return !away(p) && present(p) })
}

func TestAHangingTorHoldsUpNobodyElse(t *testing.T) {
	bad, good := newFakeTor(t), newFakeTor(t)
	bad.set(func() { bad.hang = true })
	d := newFakeDevice(t, "browsing")
	a, _ := run(t, Config{Tors: []Tor{torOf(t, "bad", bad), torOf(t, "good", good)}, Dial: oneDevice(d)})
	slot := func() int {
		for _, m := range document(t, a).Members {
			if m.Name == "good" && m.Slot >= 0 {
				return m.Slot
			}
		}
		return -1
	}
	for deadline := time.Now().Add(patience); slot() < 0; {
		if time.Now().After(deadline) {
			t.Fatal("no slot")
		}
	}
	p := d.until(t, slot(), "the good one", present)
	if p.Member != "good" {
		t.Errorf("member %q", p.Member)
	}
}

func TestLeave(t *testing.T) {
	for _, tt := range []struct {
		name   string
		torUp  bool
		region bool
	}{{"with everything", true, true}, {"tor away", false, true}, {"no server", true, false}} {
		t.Run(tt.name, func(t *testing.T) {
			tor := newFakeTor(t)
			d := newFakeDevice(t, "browsing")
			leave := make(chan string)
			cfg := Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d), Leave: leave}
			if !tt.region {
				cfg.Dial = func() (Device, device.Choice, error) { return nil, device.Choice{}, errors.New("no server") }
			}
			_, ended := run(t, cfg)
			if tt.region {
				d.until(t, 0, "guards", present)
				d.order(t, 0, orderOf(1, 0))
				d.until(t, 0, "receipt", applied)
			}
			if !tt.torUp {
				tor.stop()
				d.until(t, 0, "absence", func(p *shmproto.Publication) bool { return p.Flags&shmproto.MemberUnreachable != 0 })
			}
			close(leave)
			select {
			case err := <-ended:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(patience):
				t.Fatal("the agent has not left")
			}
			if tt.region {
				d.until(t, 0, "left", func(p *shmproto.Publication) bool { return p.State == shmproto.MemberLeft })
			}
			if text, _ := os.ReadFile(cfg.Tors[0].Site.Include); strings.Contains(string(text), "reject 127") {
				t.Errorf("include file: %q", text)
			}
			tor.set(func() {
				if tt.torUp && len(tor.or) > 0 {
					t.Errorf("Tor still has %q", tor.or)
				}
			})
		})
	}
}

// TestPurposeChangesAreSeen: Tor says with CIRC_MINOR that a circuit has become
// something else; the circuits are asked for again, as they are after events
// that make no sense.
func TestPurposeChangesAreSeen(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d)})
	inUse := func(n int) func(*shmproto.Publication) bool {
		return func(p *shmproto.Publication) bool {
			return present(p) && p.Guards[n].Flags&shmproto.GuardInUse != 0
		}
	}
	d.until(t, 0, "guards", present)
	for n, event := range map[int]string{
		4: "CIRC_MINOR 3 PURPOSE_CHANGED $" + fp(1).String() + "~g BUILD_FLAGS=NEED_CAPACITY PURPOSE=PATH_BIAS_TESTING OLD_PURPOSE=GENERAL",
		5: "CIRC nonsense",
	} {
		// The circuit appears without an event of its own: only asking shows it.
		tor.set(func() { tor.circuits[fmt.Sprint(40+n)] = fp(n).String() })
		tor.tell(event)
		d.until(t, 0, event, inUse(n))
	}
}

// TestIdleAgentWakesRarely: with nothing happening there is one timer.
func TestIdleAgentWakesRarely(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	const tick = 200 * time.Millisecond // 30 s, 150 times faster
	cfg := Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d), SlowTick: tick}
	cfg.Rotation.PollEvery = 2 * tick
	a, _ := run(t, cfg)
	d.until(t, 0, "guards", present)
	before, began := document(t, a).Wakeups, time.Now()
	<-time.After(4 * tick) // two minutes
	n := document(t, a).Wakeups - before
	if took := time.Since(began); n > uint64(2*took/tick) { // on a busy machine it was longer
		t.Errorf("%d wake-ups of the timer in %s, with a tick of %s", n, took, tick)
	}
}
