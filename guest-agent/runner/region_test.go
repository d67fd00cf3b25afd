package runner

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"guardring/guest-agent/device"
	"guardring/shmproto"
)

func TestAStalledLockHolderIsPassedOver(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	r, err := shmproto.Open(d.mem)
	if err != nil {
		t.Fatal(err)
	}
	stalled := r.Guest(3, 99)
	if held, _ := stalled.Lock().TryAcquire(); !held {
		t.Fatal("the lock is not free")
	}
	run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d), LockPatience: 50 * time.Millisecond})
	d.until(t, 0, "guards", present)
	if !stalled.Lock().Revoked() {
		t.Error("the stalled holder was not revoked")
	}
}

func TestAnOverwrittenPublicationIsShownAgain(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d), SlowTick: 50 * time.Millisecond, LockPatience: time.Hour})
	d.until(t, 0, "guards", present)
	r, err := shmproto.Open(d.mem)
	if err != nil {
		t.Fatal(err)
	}
	other := r.Guest(3, 99)
	for held := false; !held; held, _ = other.Lock().TryAcquire() {
	}
	if err := other.Publish(0, &shmproto.Publication{Seq: 1, Member: "default", State: shmproto.MemberPresent}); err != nil {
		t.Fatal(err)
	}
	other.Lock().Release()
	d.until(t, 0, "our own again", func(p *shmproto.Publication) bool { return p.Incarnation == 7 && present(p) })
}

// TestNewRegion: while the server is away the old memory is used; when it comes
// back with another region, everything is shown there.
func TestNewRegion(t *testing.T) {
	tor := newFakeTor(t)
	first, second := newFakeDevice(t, "browsing"), newFakeDevice(t, "browsing")
	var mu sync.Mutex
	devices := []Device{first}
	fails := 0
	dial := func() (Device, device.Choice, error) {
		mu.Lock()
		defer mu.Unlock()
		if len(devices) == 0 {
			fails++
			return nil, device.Choice{}, errors.New("no server")
		}
		d := devices[0]
		devices = devices[1:]
		return d, device.Choice{}, nil
	}
	a, _ := run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: dial})
	first.until(t, 0, "guards", present)
	close(first.gone)
	first.order(t, 0, orderOf(1, 0))
	first.until(t, 0, "order in the old memory", applied)
	for deadline := time.Now().Add(patience); ; {
		doc := document(t, a)
		if doc.Region.Attached && !doc.Region.Connected && len(doc.Faults) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("status: %+v", doc.Region)
		}
	}
	mu.Lock()
	devices = []Device{second}
	mu.Unlock()
	second.until(t, 0, "the new region", applied)
	select {
	case <-first.closed:
	case <-time.After(patience):
		t.Error("the old device was not closed")
	}
}

func TestADamagedRegionIsNamed(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	clear(d.mem[:64])
	a, _ := run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d)})
	for deadline := time.Now().Add(patience); ; {
		doc := document(t, a)
		if strings.Contains(doc.Region.Error, shmproto.ErrMagic.Error()) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("status: %+v", doc.Region)
		}
	}
}

func TestHostAbsenceIsSaidAndReturnToo(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	const tick = 100 * time.Millisecond
	a, _ := run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d), SlowTick: tick})
	d.until(t, 0, "guards", present)
	h := d.host(t, 0)
	beating := make(chan struct{})
	var wg sync.WaitGroup
	beat := func() {
		wg.Go(func() {
			for n := uint64(1); ; n++ {
				h.SetLease(shmproto.Lease{Epoch: shmproto.Epoch{Number: 1}, Term: 3, Heartbeat: n, Acting: true})
				select {
				case <-beating:
					return
				case <-time.After(tick / 10):
				}
			}
		})
	}
	await(t, a, "no host agent", func(doc Document) bool { return !doc.Host.Acting })
	beat() // the region was there before the host agent
	// One look may find no new heartbeat on a busy machine.
	await(t, a, "a host agent and no problem", func(doc Document) bool {
		return doc.Host.Acting && doc.Host.Term == 3 && len(doc.Faults) == 0
	})
	close(beating)
	wg.Wait()
	// How soon, TestAHostThatComesALittleLaterIsNotMissed says.
	await(t, a, "no host agent any more", func(doc Document) bool { return !doc.Host.Acting })
}

// TestAHostThatComesALittleLaterIsNotMissed: the agent took its seat before the
// host agent showed its lease. The first look after that is a sign of life.
func TestAHostThatComesALittleLaterIsNotMissed(t *testing.T) {
	const tick = 30 * time.Second
	d := newFakeDevice(t, "browsing")
	r, err := shmproto.Open(d.mem)
	if err != nil {
		t.Fatal(err)
	}
	l := &loop{cfg: Config{SlowTick: tick}}
	l.cfg.fill()
	l.shore.guest = r.Guest(0, 7)
	lease := shmproto.Lease{Epoch: shmproto.Epoch{Number: 1}, Term: 3, Heartbeat: 1, Acting: true}
	start := time.Now()
	look := func(at time.Duration) bool { l.host.look(l, start.Add(at)); return l.host.told }
	if look(0) {
		t.Error("absent at the first look")
	}
	d.host(t, 0).SetLease(lease)
	if look(tick) {
		t.Error("a lease that appeared is no sign of life")
	}
	lease.Heartbeat++
	d.host(t, 0).SetLease(lease)
	if look(2 * tick) {
		t.Error("a new heartbeat is no sign of life")
	}
	if !look(3 * tick) {
		t.Error("the absence of a heartbeat was not noticed within a minute")
	}
	// A dead host's lease, found at the first look, is no sign of life.
	l.host = hostWatch{}
	look(4 * tick)
	if !look(5 * tick) {
		t.Error("a dead host's lease was taken for a living one's")
	}
}

// deafDevice blocks whoever rings it, as a peer can that misuses the shared eventfd.
type deafDevice struct {
	*fakeDevice
	rung, over chan struct{}
	once       sync.Once
}

func (d *deafDevice) Ring() error {
	d.once.Do(func() { close(d.rung) })
	<-d.over
	return nil
}

// TestBlockedRingHoldsNobody: a doorbell that blocks does not keep the agent from going
// over to the region's new server.
func TestBlockedRingHoldsNobody(t *testing.T) {
	tor := newFakeTor(t)
	deaf := &deafDevice{fakeDevice: newFakeDevice(t, "browsing"), rung: make(chan struct{}), over: make(chan struct{})}
	next := newFakeDevice(t, "browsing")
	devices := make(chan Device, 2)
	devices <- deaf
	devices <- next
	run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: func() (Device, device.Choice, error) { return <-devices, device.Choice{}, nil }})
	t.Cleanup(func() { close(deaf.over) })
	<-deaf.rung
	close(deaf.gone)
	next.until(t, 0, "guards in the new region", present)
}
