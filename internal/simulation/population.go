package simulation

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"guardring/internal/guardstate"
)

// identity is a relay that stands, or stood, at one of the network's places.
type identity struct {
	relay int    // its place
	born  uint32 // how many stood there before it
}

// fingerprint is the same in every trial; it says nothing of the weight.
func (id identity) fingerprint() guardstate.Fingerprint {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(id.relay))
	binary.BigEndian.PutUint32(b[8:], id.born)
	sum := sha256.Sum256(b[:])
	return guardstate.Fingerprint(sum[:20])
}

// population is who stands at the network's places in one trial.
type population struct {
	shape  *Network
	relays []standing
	addrs  [][]netip.AddrPort // by relay, as publications carry them
	ids    [][][32]byte
}

type standing struct {
	born   uint32
	down   bool
	listed bool
}

func newPopulation(shape *Network) *population {
	p := &population{shape: shape, relays: make([]standing, len(shape.Relays))}
	for i := range p.relays {
		p.relays[i].listed = true
		r := &shape.Relays[i]
		p.addrs = append(p.addrs, []netip.AddrPort{r.Addr})
		p.ids = append(p.ids, [][32]byte{familyID(r.Family)})
	}
	return p
}

func (p *population) current(relay int) identity { return identity{relay, p.relays[relay].born} }

func (p *population) listed(id identity) bool {
	s := &p.relays[id.relay]
	return s.listed && s.born == id.born
}

func (p *population) up(id identity) bool {
	s := &p.relays[id.relay]
	return !s.down && s.born == id.born
}
