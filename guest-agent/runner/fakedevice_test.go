package runner

import (
	"os"
	"sync"
	"testing"
	"time"

	"guardring/guest-agent/device"
	"guardring/shmproto"
)

// fakeDevice is a region in this process. The test is the host.
type fakeDevice struct {
	mem    []byte
	toHost chan struct{} // rung by the agent
	bell   chan struct{} // rung by the host
	gone   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newFakeDevice(t *testing.T, gateway string) *fakeDevice {
	t.Helper()
	d := &fakeDevice{
		mem: make([]byte, shmproto.RegionSize), toHost: make(chan struct{}, 1), bell: make(chan struct{}, 1),
		gone: make(chan struct{}), closed: make(chan struct{}),
	}
	if err := shmproto.Format(d.mem, shmproto.Header{Gateway: gateway, RegionEpoch: [16]byte{1}}); err != nil {
		t.Fatal(err)
	}
	shmproto.SetAttachment(d.mem, 1)
	return d
}

func (d *fakeDevice) Memory() []byte { return d.mem }

func (d *fakeDevice) Ring() error {
	select {
	case d.toHost <- struct{}{}:
	default:
	}
	return nil
}

func (d *fakeDevice) Wait() error {
	select {
	case <-d.bell:
		return nil
	case <-d.closed:
		return os.ErrClosed
	}
}

func (d *fakeDevice) Gone() <-chan struct{} { return d.gone }

func (d *fakeDevice) Close() error { d.once.Do(func() { close(d.closed) }); return nil }

func (d *fakeDevice) host(t *testing.T, seat int) *shmproto.Host {
	t.Helper()
	r, err := shmproto.Open(d.mem)
	if err != nil {
		t.Fatal(err)
	}
	return r.Host(seat)
}

func (d *fakeDevice) order(t *testing.T, slot int, o shmproto.Order) {
	t.Helper()
	if err := d.host(t, 0).WriteOrder(slot, &o); err != nil {
		t.Fatal(err)
	}
	select {
	case d.bell <- struct{}{}:
	default:
	}
}

// until waits for a publication that is as wanted.
func (d *fakeDevice) until(t *testing.T, slot int, what string, wanted func(p *shmproto.Publication) bool) shmproto.Publication {
	t.Helper()
	h := d.host(t, 1)
	deadline := time.After(patience)
	var p shmproto.Publication
	for {
		err := h.ReadPublication(slot, &p)
		if err == nil && wanted(&p) {
			return p
		}
		select {
		case <-d.toHost:
		case <-deadline:
			t.Fatalf("%s: not published; last %+v, %v", what, p, err)
		}
	}
}

func present(p *shmproto.Publication) bool {
	return p.State == shmproto.MemberPresent && len(p.Guards) == fakeGuards && p.Guards[0].Flags&shmproto.GuardInUse != 0
}

func applied(p *shmproto.Publication) bool { return p.Receipt.Status == shmproto.ReceiptApplied }

func oneDevice(d Device) func() (Device, device.Choice, error) {
	return func() (Device, device.Choice, error) {
		return d, device.Choice{Kind: device.ByPolling, Address: "0000:00:10.0", Reason: "a test"}, nil
	}
}
