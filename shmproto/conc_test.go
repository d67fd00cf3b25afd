package shmproto

import (
	"errors"
	"sync"
	"testing"

	"guardring/internal/guardstate"
)

// numbered is a publication whose every part follows from seq.
func numbered(seq int) *Publication {
	p := &Publication{Seq: Seq(seq), Member: "default", State: MemberPresent, NumPrimary: uint8(seq % 60)}
	for i := range seq%50 + 1 {
		g := Guard{Flags: GuardFlags(seq % 512)}
		le.PutUint64(g.Fingerprint[:], uint64(seq))
		g.Fingerprint[19] = byte(i)
		p.Guards = append(p.Guards, g)
	}
	return p
}

// checkNumbered reports a mix of several numbered publications.
func checkNumbered(t *testing.T, p *Publication) {
	t.Helper()
	seq := int(p.Seq)
	if int(p.NumPrimary) != seq%60 || len(p.Guards) != seq%50+1 {
		t.Fatalf("a mix: seq %d, %d primaries, %d guards", seq, p.NumPrimary, len(p.Guards))
	}
	for i := range p.Guards {
		want := guardstate.Fingerprint{19: byte(i)}
		le.PutUint64(want[:], uint64(seq))
		if p.Guards[i].Fingerprint != want || p.Guards[i].Flags != GuardFlags(seq%512) {
			t.Fatalf("a mix: seq %d, guard %d is %v", seq, i, p.Guards[i])
		}
	}
}

// follow reads slot 0 until the publication last is there. A reader that is
// lapped may find a record torn, but nothing else, and time never runs backwards.
func follow(t *testing.T, h *Host, last int, alive func() bool) {
	t.Helper()
	var p Publication
	var good, torn int
	for seen := Seq(0); seen != Seq(last); {
		running := alive()
		switch err := h.ReadPublication(0, &p); {
		case errors.Is(err, ErrTorn):
			torn++
		case errors.Is(err, ErrEmpty):
		case err != nil:
			t.Fatalf("read after publication %d: %v", seen, err)
		case p.Seq < seen:
			t.Fatalf("publication %d after %d", p.Seq, seen)
		default:
			checkNumbered(t, &p)
			seen = p.Seq
			good++
		}
		if !running && seen != Seq(last) {
			t.Fatalf("the writer has ended, and publication %d is the last one read", seen)
		}
	}
	t.Logf("%d good reads, %d torn", good, torn)
}

// The race detector does not see the assembly; under -race this shows that
// nothing else is shared between the two sides of a region.
func TestGoroutinePair(t *testing.T) {
	const last = 5000
	r := newRegion(t)
	h, g := r.Host(0), newGuest(t, r, 0)
	done := make(chan struct{})
	var fault error
	go func() {
		defer close(done)
		for seq := 1; seq <= last && fault == nil; seq++ {
			fault = g.Publish(0, numbered(seq))
		}
	}()
	follow(t, h, last, func() bool {
		select {
		case <-done:
			return false
		default:
			return true
		}
	})
	<-done
	if fault != nil {
		t.Fatal(fault)
	}
}

func TestProcessPair(t *testing.T) {
	const last = 5000
	f, _, r := sharedRegion(t)
	h := r.Host(0)
	cmd := child(t, f, "publish", last)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var status error
	running := true
	follow(t, h, last, func() bool {
		if running {
			select {
			case status = <-done:
				running = false
			default:
			}
		}
		return running
	})
	if running {
		status = <-done
	}
	if status != nil {
		t.Fatal(status)
	}
}

// Agents add to a plain word under the lock, as goroutines and as processes. A
// lost addition is two agents in the lock at once.
func TestLockExcludes(t *testing.T) {
	const each = 1000
	f, mem, r := sharedRegion(t)
	procs := []interface{ Wait() error }{child(t, f, "count", 10*each+2), child(t, f, "count", 10*each+3)}
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() { countUnderLock(r, w, each) })
	}
	wg.Wait()
	for _, p := range procs {
		if err := p.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if got := load(mem, counterOff); got != 4*each {
		t.Errorf("%d additions, want %d", got, 4*each)
	}
}
