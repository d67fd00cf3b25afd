package rotation

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// relatives are n fingerprints of a family, sorted.
func relatives(family byte, n int) []guardstate.Fingerprint {
	out := make([]guardstate.Fingerprint, n)
	for i := range out {
		out[i] = guardstate.Fingerprint{family, byte(i >> 8), byte(i), 1}
	}
	return out
}

// stated lists the guards whose family is stated, by number in the sample.
func (a *agent) stated() []int {
	var out []int
	for i, g := range a.last.Guards {
		if g.Flags&shmproto.GuardFamilyStated != 0 {
			out = append(out, i)
		} else if len(g.Family)+len(g.FamilyIDs) > 0 {
			panic("a family without the flag")
		}
	}
	return out
}

func family(f *fakeTor, i int, list []guardstate.Fingerprint, ids ...[32]byte) {
	r := f.relays[guard(i)]
	r.FamilyKnown, r.Family, r.FamilyIDs = true, list, ids
	f.relays[r.Fingerprint] = r
}

// TestFamiliesOfGuardsThatMatter: in use, primary, possible, confirmed and usable, and
// the next eight; not the whole sample.
func TestFamiliesOfGuardsThatMatter(t *testing.T) {
	f := newFakeTor(20)
	for i := range 20 {
		family(f, i, relatives(byte(i+1), 2), [32]byte{byte(i + 1)})
	}
	f.conf[guard(1)], f.conf[guard(15)], f.conf[guard(16)] = true, true, true
	r := f.relays[guard(16)]
	r.Listed = false // confirmed and not usable
	f.relays[guard(16)] = r
	f.addCircuit("1", guard(19), "GENERAL", "")
	a := newAgent(f, Config{})
	a.up()
	// Primary: 1, 15, 0; possible: 2, 3; in use: 19; then 4 to 11.
	if d := cmp.Diff([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 19}, a.stated()); d != "" {
		t.Errorf("families stated (-want +got):\n%s", d)
	}
	if g := a.last.Guards[1]; !slices.Equal(g.Family, relatives(2, 2)) || !slices.Equal(g.FamilyIDs, [][32]byte{{2}}) {
		t.Errorf("guard 1 states %v and %v", g.Family, g.FamilyIDs)
	}
	if a.last.Flags&(shmproto.MemberFamiliesLeftOut|shmproto.MemberTruncated) != 0 {
		t.Errorf("flags %#x: nothing was left out for want of room", a.last.Flags)
	}
}

// TestFamiliesWithoutRoom: what does not fit is left out whole, the guards that matter
// least first, and it is said. The fullest publication fits the memory.
func TestFamiliesWithoutRoom(t *testing.T) {
	f := newFakeTor(60)
	for i := range 60 {
		family(f, i, relatives(byte(i+1), 450), [32]byte{1})
		r := f.relays[guard(i)]
		r.Addrs = nil
		for k := range shmproto.MaxAddrs {
			a := netip.AddrFrom16([16]byte{0x20, 1, byte(i), byte(k)})
			r.Addrs = append(r.Addrs, netip.AddrPortFrom(a, 443))
		}
		f.relays[guard(i)] = r
	}
	family(f, 7, nil, [32]byte{1})
	f.addCircuit("1", guard(30), "GENERAL", "")
	for _, key := range []string{optionLayer2, optionLayer3} {
		var v string
		for i, fp := range relatives(0x40, 20) {
			if i > 0 {
				v += ","
			}
			v += "$" + fp.String()
		}
		f.torrc[key] = []string{v}
	}
	a := newAgent(f, Config{})
	a.up()
	if d := cmp.Diff([]int{0, 7, 30}, a.stated()); d != "" {
		t.Errorf("families stated (-want +got):\n%s", d)
	}
	if want := shmproto.MemberFamiliesLeftOut | shmproto.MemberTruncated; a.last.Flags&want != want {
		t.Errorf("flags %#x, want families left out, and layers truncated", a.last.Flags)
	}
	mem := make([]byte, shmproto.RegionSize)
	if err := shmproto.Format(mem, shmproto.Header{Gateway: "g", RegionEpoch: [16]byte{1}}); err != nil {
		t.Fatal(err)
	}
	region, err := shmproto.Open(mem)
	if err != nil {
		t.Fatal(err)
	}
	g := region.Guest(0, 1)
	if held, _ := g.Lock().TryAcquire(); !held {
		t.Fatal("the lock is held")
	}
	p := *a.last
	for i := range p.Guards { // all room for families, in the shape that needs most
		p.Guards[i].Family, p.Guards[i].FamilyIDs = nil, nil
	}
	room := familyRoom
	for i := range p.Guards {
		n := (room - 5 - 32) / 20 / (60 - i)
		p.Guards[i].FamilyIDs, p.Guards[i].Family = [][32]byte{{1}}, relatives(1, n)
		room -= 5 + 32 + 20*n
	}
	p.TorVersion, p.Role = "0.4.9.11-aaaaaaaaaaaaaaaaaaaaaaa", "updates-updates-updates-updates-"
	p.Receipt = shmproto.Receipt{Status: shmproto.ReceiptApplied}
	if err := g.Publish(0, &p); err != nil {
		t.Errorf("the fullest publication: %v", err)
	}
}

// TestFamilyChurn: a microdescriptor that is not fetched yet takes no family back, and
// what the consensus says of the same family changes nothing.
func TestFamilyChurn(t *testing.T) {
	f := newFakeTor(8)
	for i := range 8 {
		family(f, i, relatives(byte(i+1), 3))
	}
	missing := f.relays[guard(5)]
	missing.FamilyKnown, missing.Family = false, nil
	f.relays[guard(5)] = missing
	a := newAgent(f, Config{})
	a.up()
	if slices.Contains(a.stated(), 5) || len(a.stated()) != 7 {
		t.Errorf("stated %v: guard 5's family is not known", a.stated())
	}
	seq := a.last.Seq
	kept := f.relays[guard(0)]
	lost := kept
	lost.FamilyKnown, lost.Family = false, nil
	f.relays[guard(0)] = lost
	a.step(ConsensusArrived{})
	a.sleep(5 * time.Second)
	if a.last.Seq != seq {
		t.Errorf("published %d times more because a microdescriptor is not there yet", a.last.Seq-seq)
	}
	kept.Family = relatives(1, 4)
	f.relays[guard(0)] = kept
	family(f, 5, nil)
	a.sleep(2 * time.Minute) // no event: the next poll asks again
	if a.last.Seq != seq+1 || len(a.last.Guards[0].Family) != 4 || !slices.Contains(a.stated(), 5) {
		t.Errorf("seq %d after %d, families of %v", a.last.Seq, seq, a.stated())
	}
}

// TestFamilyParameters: the consensus decides which declarations make a family.
func TestFamilyParameters(t *testing.T) {
	for _, p := range []guardstate.Params{{}, {IgnoreFamilyLists: true}, {IgnoreFamilyIDs: true}} {
		f := newFakeTor(8)
		family(f, 0, relatives(1, 2), [32]byte{7})
		f.params = p
		a := newAgent(f, Config{})
		a.up()
		g := a.last.Guards[0]
		if g.Flags&shmproto.GuardFamilyStated == 0 || len(g.Family) == 0 != p.IgnoreFamilyLists || len(g.FamilyIDs) == 0 != p.IgnoreFamilyIDs {
			t.Errorf("%+v: stated %t, list %v, IDs %v", p, g.Flags&shmproto.GuardFamilyStated != 0, g.Family, g.FamilyIDs)
		}
	}
}

// TestBridgesStateNothing: no address and no family of a bridge leaves the gateway.
func TestBridgesStateNothing(t *testing.T) {
	f := newFakeTor(8)
	for i := range 8 {
		family(f, i, relatives(1, 2), [32]byte{7})
	}
	f.torrc["UseBridges"] = []string{"1"}
	f.sample = append(f.sample, guardstate.Fingerprint{}) // "Bridge ADDRESS": not met yet
	a := newAgent(f, Config{})
	a.up()
	if len(a.last.Guards) != 8 {
		t.Errorf("%d guards published", len(a.last.Guards))
	}
	for i, g := range a.last.Guards {
		if len(g.Addrs)+len(g.Family)+len(g.FamilyIDs) > 0 || g.Flags&shmproto.GuardBridge == 0 {
			t.Errorf("guard %d of a Tor with bridges: %+v", i, g)
		}
	}
	if a.last.State != shmproto.MemberObserveOnly {
		t.Errorf("state %d", a.last.State)
	}
}

// TestLayers: only fingerprints, sorted; another controller's change is published.
func TestLayers(t *testing.T) {
	f := newFakeTor(8)
	two := relatives(9, 2)
	f.torrc[optionLayer2] = []string{two[1].String() + ",nick,{de},$" + two[0].String() + "~nick"}
	a := newAgent(f, Config{})
	a.up()
	if !slices.Equal(a.last.Layer2, two) || a.last.Layer3 != nil {
		t.Errorf("layers %v and %v", a.last.Layer2, a.last.Layer3)
	}
	f.set[optionLayer3] = []string{two[0].String()}
	a.step(ConfChanged{Keys: []string{"HSLayer3Nodes"}})
	a.sleep(2 * time.Second)
	if !slices.Equal(a.last.Layer3, two[:1]) {
		t.Errorf("layer 3 %v after a SETCONF", a.last.Layer3)
	}
	for _, l := range a.log {
		if len(l) > 7 && l[:7] == "setconf" {
			t.Errorf("we changed an option: %s", l)
		}
	}
}
