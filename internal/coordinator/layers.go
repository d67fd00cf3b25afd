package coordinator

import (
	"cmp"
	"slices"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// The further layers of onion services' circuits (HSLayer2Nodes, HSLayer3Nodes,
// as the vanguards add-on sets them) are compared between members and reported.
// Nothing is ever changed because of them, so a gateway learns nothing by them.

// pin is a relay in a further layer.
type pin struct {
	layer int // 2 or 3
	id    guardstate.Fingerprint
}

func (p pin) compare(q pin) int {
	return cmp.Or(cmp.Compare(p.layer, q.layer), p.id.Compare(q.id))
}

// sharedPin is a pin that the operator knows to be another's too.
type sharedPin struct {
	pin
	other Member
}

// pin files the layers that m shows, and tells the operator of each that another
// member shows, once for each pair as long as m goes on pinning it.
func (c *Coordinator) pin(m *member, layer2, layer3 []guardstate.Fingerprint) {
	var buf [2 * shmproto.MaxLayer]pin
	now := buf[:0]
	for i, layer := range [...][]guardstate.Fingerprint{layer2, layer3} {
		for _, id := range layer[:min(len(layer), shmproto.MaxLayer)] {
			now = append(now, pin{2 + i, id})
		}
	}
	if slices.Equal(now, m.pins) {
		return
	}
	c.unpin(m)
	m.pins = slices.Clone(now)
	slices.SortFunc(m.pins, pin.compare)
	m.pins = slices.Compact(m.pins)
	m.shared = slices.DeleteFunc(m.shared, func(s sharedPin) bool { return !slices.Contains(m.pins, s.pin) })
	for _, p := range m.pins {
		at := c.pins[p]
		for _, o := range at {
			s := sharedPin{p, o.name}
			if slices.Contains(m.shared, s) || slices.Contains(o.shared, sharedPin{p, m.name}) {
				continue
			}
			m.shared = append(m.shared, s)
			c.notify(Notice{Kind: NoticeLayer, Member: m.name, Other: o.name, Key: RelayKey(p.id), Count: p.layer})
		}
		i, _ := slices.BinarySearchFunc(at, m, func(a, b *member) int { return a.name.Compare(b.name) })
		c.pins[p] = slices.Insert(at, i, m)
	}
}

// unpin takes m's layers out of the comparison; what was told stays told.
func (c *Coordinator) unpin(m *member) {
	for _, p := range m.pins {
		at := slices.DeleteFunc(c.pins[p], func(o *member) bool { return o == m })
		if len(at) == 0 {
			delete(c.pins, p)
		} else {
			c.pins[p] = at
		}
	}
	m.pins = nil
}

// layerStatus returns the relays that two members or more pin in one layer.
func (c *Coordinator) layerStatus() []LayerStatus {
	var all []LayerStatus
	for p, at := range c.pins {
		if len(at) < 2 {
			continue
		}
		s := LayerStatus{Relay: p.id, Layer: p.layer}
		for _, m := range at {
			s.Members = append(s.Members, m.name)
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b LayerStatus) int {
		return cmp.Or(cmp.Compare(a.Layer, b.Layer), a.Relay.Compare(b.Relay))
	})
	return all
}
