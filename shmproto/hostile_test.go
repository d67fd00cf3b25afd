package shmproto

import (
	"errors"
	"math"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// published is a region with one good record in slot 0, and its bytes.
func published(t *testing.T) (r *Region, h *Host, g *Guest, c cell, record []byte) {
	t.Helper()
	r = newRegion(t)
	h, g = r.Host(0), newGuest(t, r, 0)
	if err := g.Publish(0, samplePublication(3, true)); err != nil {
		t.Fatal(err)
	}
	c = publicationCell(guestArea(r.mem), 0)
	return r, h, g, c, c.mem[c.bufferOff(c.version()):][:c.bufferSize()]
}

// mend gives a scribbled record a good checksum, as a hostile guest would.
func mend(record []byte) {
	n := int(le.Uint32(record[recordShapeOff:]))
	if end := recordHeaderSize + (n+7)&^7; end <= len(record) {
		le.PutUint64(record, checksum(record[recordVersionOff:end]))
	}
}

// whileOthersWrite tries, with a writer on another processor, until done is true. A reader is
// torn only by stores between its own loads, which one processor hardly ever interleaves.
func whileOthersWrite(t *testing.T, done func() bool) {
	t.Helper()
	if min(runtime.NumCPU(), runtime.GOMAXPROCS(0)) < 2 {
		t.Skip("skipping, nobody can write while somebody reads (try: a machine with two processors)")
	}
	for end := time.Now().Add(time.Minute); !done(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("never torn in a minute")
		}
	}
}

// TestReaderGivesUp: a guest that changes the version all the time keeps no reader for longer
// than a few tries.
func TestReaderGivesUp(t *testing.T) {
	_, h, _, c, _ := published(t)
	for v := range uint64(2) { // records of no version
		store(c.mem, c.bufferOff(v)+recordVersionOff, math.MaxUint64)
	}
	var over atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for v := uint64(0); !over.Load(); v++ {
			store(c.mem, cellVersionOff, v)
		}
	}()
	defer func() { over.Store(true); <-done }()
	var p Publication
	whileOthersWrite(t, func() bool { return errors.Is(h.ReadPublication(0, &p), ErrTorn) })
}

func TestHostileRecords(t *testing.T) {
	payload := recordHeaderSize
	for name, scribble := range map[string]func(c cell, record []byte){
		"checksum":          func(c cell, b []byte) { b[0] ^= 1 },
		"payload":           func(c cell, b []byte) { b[payload+20] ^= 1 },
		"half old":          func(c cell, b []byte) { clear(b[payload+100:]) },
		"too short":         func(c cell, b []byte) { le.PutUint32(b[recordShapeOff:], 3); mend(b) },
		"length zero":       func(c cell, b []byte) { le.PutUint32(b[recordShapeOff:], 0); mend(b) },
		"one too long":      func(c cell, b []byte) { le.PutUint32(b[recordShapeOff:], uint32(len(b)-recordHeaderSize+1)) },
		"32-bit length":     func(c cell, b []byte) { le.PutUint32(b[recordShapeOff:], math.MaxUint32) },
		"32-bit overflow":   func(c cell, b []byte) { le.PutUint32(b[recordShapeOff:], math.MaxUint32-recordHeaderSize+1) },
		"31-bit length":     func(c cell, b []byte) { le.PutUint32(b[recordShapeOff:], math.MaxInt32-6) },
		"kind":              func(c cell, b []byte) { b[recordShapeOff+4] = kindOrder; mend(b) },
		"writer":            func(c cell, b []byte) { b[recordShapeOff+6] = MaxWriters; mend(b) },
		"writer 65535":      func(c cell, b []byte) { le.PutUint16(b[recordShapeOff+6:], math.MaxUint16); mend(b) },
		"version of record": func(c cell, b []byte) { b[recordVersionOff]++; mend(b) },
		"version of cell":   func(c cell, b []byte) { store(c.mem, cellVersionOff, c.version()+2) },
		"field length":      func(c cell, b []byte) { le.PutUint16(b[payload+2:], math.MaxUint16); mend(b) },
		"field repeated":    func(c cell, b []byte) { copy(b[payload+11:], b[payload:payload+11]); mend(b) },
	} {
		r, h, g, c, record := published(t)
		scribble(c, record)
		var p Publication
		var v *ViolationError
		if err := h.ReadPublication(0, &p); !errors.As(err, &v) {
			t.Errorf("%s: %v, want a violation", name, err)
		}
		if p.Member != "" || p.Guards != nil {
			t.Errorf("%s: the caller's publication has changed", name)
		}
		if err := g.Verify(0); err == nil {
			t.Errorf("%s: the writer finds its record standing", name)
		}
		// It hits nobody else: not another slot, not the next record.
		if err := g.Publish(1, samplePublication(1, false)); err != nil {
			t.Fatal(err)
		}
		if err := h.ReadPublication(1, &p); err != nil {
			t.Errorf("%s: another slot: %v", name, err)
		}
		if err := g.Publish(0, samplePublication(1, false)); err != nil {
			t.Fatal(err)
		}
		if err := r.Host(1).ReadPublication(0, &p); err != nil {
			t.Errorf("%s: the next record: %v", name, err)
		}
	}
}

// A lock that is never freed, with whatever in its words, does not touch the
// host, and an agent that waits long enough gets it.
func TestHostileLock(t *testing.T) {
	for _, state := range []uint64{lockIdle, lockChoosing, lockCompeting, 77, math.MaxUint64} {
		for _, ticket := range []uint64{0, 1, counterStart, counterStart + 1, 1 << 63, 1<<63 - 1, math.MaxUint64} {
			r := newRegion(t)
			area := lockWords(guestArea(r.mem))
			for _, w := range []int{0, 2, 3} {
				area.set(w, lockStateOff, state)
				area.set(w, lockTicketOff, ticket)
			}
			g, h := r.Guest(1, 1), r.Host(0)
			held := false
			for range 2 * MaxWriters {
				var by Blocker
				if held, by = g.Lock().TryAcquire(); held {
					break
				}
				g.Lock().Revoke(by)
			}
			if !held {
				t.Errorf("state %#x, ticket %#x: still blocked", state, ticket)
				continue
			}
			if err := g.Publish(0, samplePublication(1, false)); err != nil {
				t.Errorf("state %#x, ticket %#x: %v", state, ticket, err)
			}
			var p Publication
			if err := h.ReadPublication(0, &p); err != nil {
				t.Errorf("state %#x, ticket %#x: host: %v", state, ticket, err)
			}
		}
	}
	// Whoever passes everything over makes all records void, and no more.
	r, h, g, _, _ := published(t)
	area := lockWords(guestArea(r.mem))
	for w := range MaxWriters {
		area.set(3, lockRevokedOff+8*w, area.get(0, lockTicketOff)+1000)
	}
	var p Publication
	if err := h.ReadPublication(0, &p); !errors.Is(err, ErrFenced) {
		t.Errorf("host: %v, want ErrFenced", err)
	}
	mustAcquire(t, g.Lock())
	if err := g.Publish(0, samplePublication(1, false)); err != nil {
		t.Error(err)
	}
}

// Another process scribbles over the whole guest area while we read all of it.
func TestScribblingProcess(t *testing.T) {
	f, _, r := sharedRegion(t)
	h := r.Host(0)
	for seed := range 2 {
		child(t, f, "scribble", seed)
	}
	answers := map[string]int{}
	var p Publication
	journal := make([]Journal, 64)
	worst := time.Duration(0)
	begun := time.Now()
	reached := func() bool { return answers["violation"] > 0 && answers["fenced"]+answers["good"] > 0 }
	// The other processes need a while to start, on an emulated machine a long one.
	for time.Since(begun) < 700*time.Millisecond || !reached() && time.Since(begun) < time.Minute {
		for slot := range MaxMembers {
			begin := time.Now()
			err := h.ReadPublication(slot, &p)
			worst = max(worst, time.Since(begin))
			var v *ViolationError
			switch {
			case err == nil:
				answers["good"]++
				if _, err := p.appendTo(make([]byte, 0, maxPublicationPayload)); err != nil {
					t.Fatalf("accepted %v", err)
				}
			case errors.As(err, &v):
				answers["violation"]++
			case errors.Is(err, ErrTorn):
				answers["torn"]++
			case errors.Is(err, ErrFenced):
				answers["fenced"]++
			case errors.Is(err, ErrEmpty):
				answers["empty"]++
			default:
				t.Fatalf("undocumented answer %v", err)
			}
		}
		if n, _ := h.ReadJournal(journal); n > len(journal) {
			t.Fatalf("%d records", n)
		}
	}
	t.Logf("%v, slowest read %v", answers, worst)
	if !reached() {
		t.Error("the scribblers did not reach the reader")
	}
}

// What is being replaced during every attempt is torn, not a violation.
func TestTorn(t *testing.T) {
	_, h, _, c, record := published(t)
	done := make(chan struct{})
	quit := make(chan struct{})
	go func() {
		defer close(done)
		bad := [8]byte{1}
		for v := c.version(); ; v += 2 {
			select {
			case <-quit:
				return
			default:
				copyIn(record, 0, bad[:])
				store(c.mem, cellVersionOff, v)
			}
		}
	}()
	defer func() { close(quit); <-done }()
	var p Publication
	whileOthersWrite(t, func() bool { return errors.Is(h.ReadPublication(0, &p), ErrTorn) })
}
