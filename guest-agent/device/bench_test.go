package device

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"testing"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// kindVariable names the environment variable that says on what the benchmarks
// run: vfio, poll or auto for the region of the guest that they run in, with
// nothing else using it, or nothing for plain memory. They are built for a guest
// with go test -c.
const kindVariable = "GUARDRING_DEVICE"

// benched opens what the variable says.
func benched(b *testing.B) (*shmproto.Region, Device) {
	b.Helper()
	kind := os.Getenv(kindVariable)
	if kind == "" {
		mem := make([]byte, shmproto.RegionSize)
		if err := shmproto.Format(mem, shmproto.Header{Gateway: "bench"}); err != nil {
			b.Fatal(err)
		}
		r, err := shmproto.Open(mem)
		if err != nil {
			b.Fatal(err)
		}
		return r, nil
	}
	d, c, err := Open(Options{Kind: Kind(kind), GID: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.Close() })
	r, err := shmproto.Open(d.Memory())
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%s, %s", c.Kind, c.Address)
	return r, d
}

// publication is one as a Tor with 20 sampled guards makes it, with one more family
// member each where families is more than 0.
func publication(families int) *shmproto.Publication {
	p := &shmproto.Publication{Seq: 1, Member: "default", State: shmproto.MemberPresent, Selection: shmproto.SelectionDefault, NumPrimary: 3, PassPercent: 100, TorVersion: "0.4.9.11"}
	for n := range byte(20) {
		g := shmproto.Guard{Fingerprint: guardstate.Fingerprint{n, 1}, Flags: shmproto.GuardListed | shmproto.GuardFiltered,
			Addrs: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, n, 0, 1}), 443)}}
		if families > 0 && n < 8 {
			g.Flags |= shmproto.GuardFamilyStated
			for m := range families {
				g.Family = append(g.Family, guardstate.Fingerprint{n, 2, byte(m >> 8), byte(m)})
			}
		}
		p.Guards = append(p.Guards, g)
	}
	return p
}

// BenchmarkPublish is one publication with its record in the ring, without the
// doorbell.
func BenchmarkPublish(b *testing.B) {
	for _, families := range []int{0, 100} {
		b.Run(fmt.Sprintf("family=%d", families), func(b *testing.B) {
			r, _ := benched(b)
			g, p := r.Guest(0, 7), publication(families)
			publish(b, g, p)
			for b.Loop() {
				publish(b, g, p)
			}
		})
	}
}

func publish(b *testing.B, g *shmproto.Guest, p *shmproto.Publication) {
	for !acquire(g) {
	}
	p.Seq++
	err := cmp.Or(g.Publish(0, p), g.Append(shmproto.Journal{Kind: shmproto.JournalPublished}))
	g.Lock().Release()
	if err != nil {
		b.Fatal(err)
	}
}

func acquire(g *shmproto.Guest) bool {
	held, by := g.Lock().TryAcquire()
	if !held {
		g.Lock().Revoke(by) // of a killed agent: nobody else is here
	}
	return held
}

// BenchmarkVerify is what the slow tick does for each member.
func BenchmarkVerify(b *testing.B) {
	r, _ := benched(b)
	g := r.Guest(0, 7)
	publish(b, g, publication(0))
	for b.Loop() {
		if err := g.Verify(0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReadOrder is what each ring of the doorbell costs a member.
func BenchmarkReadOrder(b *testing.B) {
	r, _ := benched(b)
	h, g := r.Host(1), r.Guest(0, 7)
	o := shmproto.Order{Epoch: shmproto.Epoch{Number: math.MaxUint64}, Term: 1, Seq: 1, Member: "default"}
	for n := range byte(3) {
		o.Exclusions = append(o.Exclusions, guardstate.Fingerprint{n, 1})
	}
	if err := h.WriteOrder(0, &o); err != nil { // of an epoch that no lease fences
		b.Fatal(err)
	}
	for b.Loop() {
		var got shmproto.Order
		if err := g.ReadOrder(0, "default", &got); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReadLease is what looking for the host's heartbeat costs.
func BenchmarkReadLease(b *testing.B) {
	r, _ := benched(b)
	g := r.Guest(0, 7)
	for b.Loop() {
		if _, err := g.ReadLease(0); err != nil && !errors.Is(err, shmproto.ErrEmpty) {
			b.Fatal(err)
		}
	}
}

// BenchmarkLook is one look of the polling device.
func BenchmarkLook(b *testing.B) {
	r, _ := benched(b)
	for b.Loop() {
		_ = r.HostRings()
	}
}

// BenchmarkRing is ringing both host seats; on plain memory there is nothing to ring.
func BenchmarkRing(b *testing.B) {
	_, d := benched(b)
	if d == nil {
		b.Skip("skipping, there is no doorbell (try: in a guest, with " + kindVariable + "=auto)")
	}
	for b.Loop() {
		if err := d.Ring(); err != nil {
			b.Fatal(err)
		}
	}
}
