package shmproto

import (
	"bytes"
	"errors"
	"os/exec"
	"syscall"
	"testing"
)

func oldRecord() *Publication {
	p := samplePublication(2, false)
	p.Seq, p.TorVersion = 1, "old"
	return p
}

func newRecord() *Publication {
	p := samplePublication(3, false)
	p.Seq, p.TorVersion = 2, "new"
	return p
}

func thirdRecord() *Publication {
	p := samplePublication(1, true)
	p.Seq, p.TorVersion = 3, "third"
	return p
}

// show publishes p in slot 0 under g's lock, which must be free.
func show(t *testing.T, g *Guest, p *Publication) {
	t.Helper()
	if held, by := g.Lock().TryAcquire(); !held {
		t.Fatalf("%+v holds the lock", by)
	}
	if err := g.Publish(0, p); err != nil {
		t.Fatal(err)
	}
}

// which returns the TorVersion of the record in slot 0, after checking that all
// of that record is there; or the error.
func which(t *testing.T, h *Host) (string, error) {
	t.Helper()
	var p Publication
	if err := h.ReadPublication(0, &p); err != nil {
		return "", err
	}
	for _, want := range []*Publication{oldRecord(), newRecord(), thirdRecord()} {
		if p.TorVersion == want.TorVersion {
			a, err := p.appendTo(make([]byte, 0, maxPublicationPayload))
			b, err2 := want.appendTo(make([]byte, 0, maxPublicationPayload))
			if err != nil || err2 != nil || !bytes.Equal(a, b) || p.Seq != want.Seq {
				t.Fatalf("record %q is a mix: %+v", p.TorVersion, p)
			}
			return p.TorVersion, nil
		}
	}
	t.Fatalf("record of nobody: %+v", p)
	return "", nil
}

// survived reports whether a child ended by itself, rightly, and not by SIGKILL.
func survived(t *testing.T, ws syscall.WaitStatus) bool {
	t.Helper()
	switch {
	case ws.Signaled() && ws.Signal() == syscall.SIGKILL:
		return false
	case ws.Exited() && ws.ExitStatus() == exitDone:
		return true
	}
	t.Fatalf("child ended with status %#x", ws)
	return false
}

// An agent is killed before its n-th store, for every n. The reader has the old
// or the new record; then another agent passes the dead one over, or a new agent
// takes its slot, and publishes.
func TestAgentKilledAtEveryStore(t *testing.T) {
	outcomes := map[string]int{}
	revocations, points := 0, 0
	for n := 1; ; n++ {
		f, mem, r := sharedRegion(t)
		g := r.Guest(0, 1)
		show(t, g, oldRecord())
		g.Lock().Release()
		alive := survived(t, ended(t, child(t, f, "agent-kill", n)))

		got, err := which(t, r.Host(0))
		if err != nil {
			t.Fatalf("killed at store %d: %v", n, err)
		}
		outcomes[got]++
		if alive && got != "new" {
			t.Fatalf("nobody was killed, and the record is %q", got)
		}

		restarted := &Region{mem: bytes.Clone(mem), header: r.header}
		show(t, restarted.Guest(1, 0x3333), thirdRecord())
		if got, err := which(t, restarted.Host(1)); err != nil || got != "third" {
			t.Fatalf("killed at store %d, restarted: %q, %v", n, got, err)
		}

		held, by := g.Lock().TryAcquire()
		if !held {
			revocations++
			g.Lock().Revoke(by)
			if held, by = g.Lock().TryAcquire(); !held {
				t.Fatalf("killed at store %d: still blocked by %+v after Revoke", n, by)
			}
		}
		// A reader keeps its last good record when the new one is void.
		if again, err := which(t, r.Host(0)); err != nil && !errors.Is(err, ErrFenced) || err == nil && again != got {
			t.Fatalf("killed at store %d, passed over: %q, %v", n, again, err)
		}
		if err := g.Publish(0, thirdRecord()); err != nil {
			t.Fatal(err)
		}
		if got, err := which(t, r.Host(0)); err != nil || got != "third" {
			t.Fatalf("killed at store %d, recovered: %q, %v", n, got, err)
		}
		if alive {
			break
		}
		points++
	}
	t.Logf("%d stores, records seen: %v, %d revocations", points, outcomes, revocations)
	if points < 50 || outcomes["old"] == 0 || outcomes["new"] < 2 || revocations == 0 || revocations == points {
		t.Errorf("the enumeration has missed something")
	}
}

// An agent is stopped before its n-th store, for every n; another one passes it
// over and publishes; the stopped one continues, with its late stores. They never
// make a record, and the new holder finds out when they spoil its own.
func TestAgentStoppedAtEveryStore(t *testing.T) {
	exits := map[int]int{}
	spoiled, points := 0, 0
	for n := 1; ; n++ {
		f, _, r := sharedRegion(t)
		h, g := r.Host(0), r.Guest(0, 1)
		show(t, g, oldRecord())
		g.Lock().Release()
		cmd := child(t, f, "agent-stop", n)
		if !stopped(t, cmd) {
			if got, err := which(t, h); err != nil || got != "new" {
				t.Fatalf("nobody was stopped, and the record is %q, %v", got, err)
			}
			break
		}
		points++
		held, by := g.Lock().TryAcquire()
		if !held {
			g.Lock().Revoke(by)
			if held, by = g.Lock().TryAcquire(); !held {
				t.Fatalf("stopped at store %d: still blocked by %+v after Revoke", n, by)
			}
		}
		if err := g.Publish(0, thirdRecord()); err != nil {
			t.Fatal(err)
		}
		if got, err := which(t, h); err != nil || got != "third" {
			t.Fatalf("stopped at store %d: %q, %v", n, got, err)
		}

		if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		ws := ended(t, cmd)
		if !ws.Exited() {
			t.Fatalf("stopped at store %d: ended with status %#x", n, ws)
		}
		exits[ws.ExitStatus()]++

		got, err := which(t, h)
		switch verdict := g.Verify(0); {
		case err == nil && got != "third":
			t.Fatalf("stopped at store %d: late stores became the record %q", n, got)
		case (err == nil) != (verdict == nil):
			t.Fatalf("stopped at store %d: the reader has %v, the writer %v", n, err, verdict)
		case verdict != nil:
			spoiled++
			if err := g.Publish(0, thirdRecord()); err != nil {
				t.Fatal(err)
			}
			if got, err := which(t, h); err != nil || got != "third" {
				t.Fatalf("stopped at store %d, published again: %q, %v", n, got, err)
			}
		}
	}
	t.Logf("%d stores, exit codes %v, %d times the late stores spoiled the record", points, exits, spoiled)
	if points < 50 || exits[exitFenced] == 0 || exits[exitLocked] == 0 || exits[exitFault] != 0 || spoiled == 0 {
		t.Errorf("the enumeration has missed something")
	}
}

// stopped waits until the child stops itself or ends; in that case it is false.
func stopped(t *testing.T, cmd *exec.Cmd) bool {
	t.Helper()
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(cmd.Process.Pid, &ws, syscall.WUNTRACED, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if ws.Stopped() {
		return true
	}
	if !survived(t, ws) {
		t.Fatal("child killed")
	}
	cmd.Process.Release()
	return false
}

// A coordinator is killed before its n-th store, for every n. The guest has the
// old or the new order and lease, and an order never before its lease.
func TestHostKilledAtEveryStore(t *testing.T) {
	seen := map[Term]int{}
	points := 0
	for n := 1; ; n++ {
		f, _, r := sharedRegion(t)
		g, old := r.Guest(0, 1), r.Host(0)
		old.SetLease(Lease{Epoch: Epoch{1, 1}, Term: 1, Acting: true})
		o := sampleOrder(2)
		o.Epoch, o.Term = Epoch{1, 1}, 1
		if err := old.WriteOrder(0, o); err != nil {
			t.Fatal(err)
		}
		alive := survived(t, ended(t, child(t, f, "host-kill", n)))
		l, err := g.ReadLease(0)
		if err != nil {
			t.Fatalf("killed at store %d: lease: %v", n, err)
		}
		var got Order
		switch err := g.ReadOrder(0, "default", &got); {
		case errors.Is(err, ErrEmpty):
			// The lease of term 2 stands, the order is still of term 1: fenced.
			if l.Term != 2 {
				t.Fatalf("killed at store %d: the order is gone in term %d", n, l.Term)
			}
			seen[0]++
		case err != nil:
			t.Fatalf("killed at store %d: order: %v", n, err)
		case got.Term != l.Term || len(got.Exclusions) != 2*int(got.Term):
			t.Fatalf("killed at store %d: order %+v, lease %+v", n, got, l)
		default:
			seen[got.Term]++
		}
		// The next holder of the seat is heard.
		next := r.Host(0)
		next.SetLease(Lease{Epoch: Epoch{1, 1}, Term: 3, Acting: true})
		o.Term = 3
		if err := next.WriteOrder(0, o); err != nil {
			t.Fatal(err)
		}
		if err := g.ReadOrder(0, "default", &got); err != nil || got.Term != 3 {
			t.Fatalf("killed at store %d: next holder's order: term %d, %v", n, got.Term, err)
		}
		if alive {
			break
		}
		points++
	}
	t.Logf("%d stores, orders seen by term (0: none): %v", points, seen)
	if points < 30 || seen[0] == 0 || seen[1] == 0 || seen[2] == 0 {
		t.Errorf("the enumeration has missed something")
	}
}
