package device

import (
	"errors"
	"os"
	"testing"
	"time"

	"guardring/shmproto"
)

// TestPoll: we ring through the register, and find out about each order by looking.
func TestPoll(t *testing.T) {
	d := card()
	d.Enabled = true
	_, o := machine(t, d)
	dev, _, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	p := dev.(*Poll)
	waits := make(chan error)
	go func() {
		for {
			err := p.Wait()
			waits <- err
			if err != nil {
				return
			}
		}
	}()
	if err := p.Ring(); err != nil {
		t.Fatal(err)
	}
	if got := load32(p.registers, registerDoorbell); got != 1<<16|shmproto.VectorChanged {
		t.Errorf("doorbell register %#x after both seats were rung", got)
	}
	r, err := shmproto.Open(p.Memory())
	if err != nil {
		t.Fatal(err)
	}
	for seat := range shmproto.HostSeats {
		r.Host(seat).Append(shmproto.Journal{Kind: shmproto.JournalOrdered})
		if err := <-waits; err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waits; !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := p.Ring(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("ring after Close: %v", err)
	}
	if err := p.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
}

// TestPollingSlowsDown: from change to idle it looks eleven times, then less than once
// a second.
func TestPollingSlowsDown(t *testing.T) {
	looks, at := 0, time.Duration(0)
	for pause := pollFirst; pause < pollLast; pause = min(2*pause, pollLast) {
		at += pause
		looks++
	}
	if looks != 11 || at > 3*time.Second || pollLast <= time.Second {
		t.Errorf("%d looks in %s until it idles, then one in %s", looks, at, pollLast)
	}
}
