package runner

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/guest-agent/rotation"
	"guardring/shmproto"
)

// TestJoinGate: the file, then the option; what waits is let go only after the order
// that answers this agent's gated publication is applied.
func TestJoinGate(t *testing.T) {
	tor := newFakeTor(t)
	tor.set(func() { tor.waiting = []string{"12", "13"} })
	d := newFakeDevice(t, "browsing")
	cfg := Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d), Rotation: rotation.Config{Gate: rotation.GateClosed}}
	path := cfg.Tors[0].Site.Include
	var files []string // at each SETCONF
	tor.set(func() {
		tor.onSet = func() {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Error(err)
			}
			files = append(files, string(b))
		}
	})
	a, _ := run(t, cfg)
	p := d.until(t, 0, "a gated publication", func(p *shmproto.Publication) bool { return present(p) && p.Flags&shmproto.MemberGated != 0 })
	if got := tor.asked("ATTACHSTREAM"); len(got) > 0 {
		t.Errorf("let go before the answer: %v", got)
	}
	o := orderOf(5, 0)
	o.Answers = shmproto.Answers{Attachment: p.Attachment, Incarnation: p.Incarnation, Seq: p.Seq}
	d.order(t, 0, o)
	d.until(t, 0, "the open gate", func(p *shmproto.Publication) bool { return applied(p) && p.Flags&shmproto.MemberGated == 0 })
	awaitRequest(t, tor, "ATTACHSTREAM 13 0")
	requests := tor.asked("SETCONF", "RESETCONF", "ATTACHSTREAM")
	if len(requests) != 5 || requests[0] != `SETCONF __LeaveStreamsUnattached="1"` || !strings.HasPrefix(requests[1], "SETCONF ReachableORAddresses") ||
		!slices.Equal(requests[2:], []string{"RESETCONF __LeaveStreamsUnattached", "ATTACHSTREAM 12 0", "ATTACHSTREAM 13 0"}) {
		t.Errorf("requests %q", requests)
	}
	tor.set(func() {
		if len(files) < 3 || !strings.Contains(files[0], "# guardring gate closed since=") || !strings.Contains(files[2], "# guardring gate opening why=answered") {
			t.Errorf("the include file at each SETCONF and RESETCONF: %q", files)
		}
	})
	for deadline := time.Now().Add(patience); ; runtime.Gosched() { // the file is written last
		doc := document(t, a)
		if g := doc.Members[0].Gate; g != nil && g.State == "open" {
			if g.LetGo != 2 || g.Why == "" {
				t.Errorf("status of the gate %+v", g)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the gate never opens")
		}
	}
}

// TestStopOpensTheGate: an agent that is stopped while the join gate is closed lets the
// streams go before it ends, for nobody else would; also one of several whose Tor does
// not answer does not keep the others closed, nor the agent from ending.
func TestStopOpensTheGate(t *testing.T) {
	tor, hung := newFakeTor(t), newFakeTor(t)
	for _, f := range []*fakeTor{tor, hung} {
		f.set(func() { f.waiting = []string{"12", "13"} })
	}
	d := newFakeDevice(t, "browsing")
	cfg := Config{Tors: []Tor{torOf(t, "hung", hung), torOf(t, "default", tor)}, Dial: oneDevice(d), Rotation: rotation.Config{Gate: rotation.GateOpen}}
	cfg.Tors[0].Control.Timeout = time.Hour
	cfg.BackoffMin, cfg.BackoffMax = time.Millisecond, 10*time.Millisecond
	cfg.Rotation.PublishGap = time.Millisecond
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	for _, name := range []string{"hung", "default"} {
		d.member(t, name, "a gated publication", func(p *shmproto.Publication) bool { return present(p) && p.Flags&shmproto.MemberGated != 0 })
	}
	hung.set(func() { hung.hang = true })
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the agent does not end")
	}
	if got := tor.asked("RESETCONF", "ATTACHSTREAM"); !slices.Equal(got, []string{"RESETCONF __LeaveStreamsUnattached", "ATTACHSTREAM 12 0", "ATTACHSTREAM 13 0"}) {
		t.Errorf("on the way out %q", got)
	}
}
