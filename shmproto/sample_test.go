package shmproto

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"guardring/internal/guardstate"
)

// newMemory returns a formatted region of gateway "browsing".
func newMemory(t testing.TB) []byte {
	t.Helper()
	b := make([]byte, RegionSize)
	if err := Format(b, Header{Gateway: "browsing", RegionEpoch: [16]byte{1, 2, 3}, Attachment: 7, Compatible: FeatureEnded}); err != nil {
		t.Fatal(err)
	}
	return b
}

func newRegion(t testing.TB) *Region {
	t.Helper()
	r, err := Open(newMemory(t))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// newGuest returns a guest agent that holds the lock.
func newGuest(t testing.TB, r *Region, w int) *Guest {
	t.Helper()
	g := r.Guest(w, Incarnation(0x1000+w))
	if held, by := g.Lock().TryAcquire(); !held {
		t.Fatalf("lock of a fresh region is held by %+v", by)
	}
	return g
}

// fingerprint returns the n-th of a fixed row of distinct fingerprints.
func fingerprint(n int) guardstate.Fingerprint {
	sum := sha256.Sum256(binary.LittleEndian.AppendUint64([]byte("relay"), uint64(n)))
	return guardstate.Fingerprint(sum[:])
}

func fingerprints(from, to int) []guardstate.Fingerprint {
	var l []guardstate.Fingerprint
	for n := from; n < to; n++ {
		l = append(l, fingerprint(n))
	}
	slices.SortFunc(l, guardstate.Fingerprint.Compare)
	return l
}

// samplePublication has n guards with one or two addresses and one family ID
// each, as a typical member has. With families it also has declared families, as
// many as fit with 60 guards, four addresses and two family IDs.
func samplePublication(n int, families bool) *Publication {
	p := &Publication{
		Seq: 3, Member: "default", State: MemberPresent, Selection: SelectionDefault,
		Flags: MemberOnionService, NumPrimary: 3, PassPercent: 97, TorVersion: "0.4.8.12",
		Receipt: Receipt{
			Epoch: Epoch{1700000000000, 9}, Term: 2, Seq: 5,
			Digest: [16]byte{0xd1}, Status: ReceiptRefused, Reason: ReasonTooFewGuards,
		},
	}
	for i := range n {
		g := Guard{
			Fingerprint: fingerprint(i),
			Flags:       GuardListed | GuardFiltered,
			Addrs:       []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i), 2, 3}), 9001)},
			FamilyIDs:   [][32]byte{sha256.Sum256([]byte{byte(i / 2)})},
		}
		if i < 3 {
			g.Flags |= GuardPrimary | GuardConfirmed | GuardInUse
		}
		six := netip.AddrFrom16([16]byte{0xfd, 0, 15: byte(i + 1)})
		if i%2 == 1 || families {
			g.Addrs = append(g.Addrs, netip.AddrPortFrom(six, 443))
		}
		if families {
			g.Addrs = append(g.Addrs, netip.AddrPortFrom(six, 444), netip.AddrPortFrom(six, 445))
			g.FamilyIDs = append(g.FamilyIDs, sha256.Sum256([]byte{1, byte(i)}))
			slices.SortFunc(g.FamilyIDs, func(a, b [32]byte) int { return slices.Compare(a[:], b[:]) })
			g.Family = fingerprints(100*i, 100*i+16)
		}
		p.Guards = append(p.Guards, g)
	}
	return p
}

// gatedPublication has what came with families, roles and the join gate.
func gatedPublication() *Publication {
	p := samplePublication(3, true)
	p.Flags |= MemberGated | MemberFamiliesLeftOut
	p.Role = "updates"
	p.Layer2, p.Layer3 = fingerprints(200, 204), fingerprints(300, 300+MaxLayer)
	for i := range p.Guards {
		p.Guards[i].Flags |= GuardFamilyStated
	}
	p.Guards[2].FamilyIDs, p.Guards[2].Family = nil, nil
	return p
}

func sampleOrder(exclusions int) *Order {
	return &Order{
		Epoch: Epoch{1700000000000, 9}, Term: 2, Seq: 5, Member: "default",
		Answers:    Answers{Attachment: 7, Incarnation: 0x1000, Seq: 3},
		Exclusions: fingerprints(0, exclusions),
	}
}
