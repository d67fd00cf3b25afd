package rotation

import (
	"slices"
	"strings"
	"time"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// publisher remembers what was published.
type publisher struct {
	last shmproto.Publication // as published; Seq 0: nothing yet
	at   time.Time            // when
	due  time.Time            // when the next may be; zero: nothing waits
}

// publish shows the member's state if it changed, not more often than PublishGap.
func (m *Machine) publish() {
	t := &m.tor
	m.pub.due = time.Time{}
	// Nothing is shown before all of it was seen: half a picture would read as
	// guards left.
	if m.pub.last.Seq == 0 && !m.left && !(t.confRead && t.consensusRead && (t.relay() || t.entryRead && t.circuitsRead && m.relaysKnown() && m.passKnown())) {
		return
	}
	p := m.publication()
	if samePublication(&p, &m.pub.last) && p.Receipt == m.pub.last.Receipt && m.pub.last.Seq != 0 {
		return
	}
	if next := m.pub.at.Add(m.cfg.PublishGap); m.pub.last.Seq != 0 && m.now.Before(next) && !m.left {
		m.pub.due = next
		return
	}
	p.Seq = m.pub.last.Seq
	if p.Seq == 0 || !samePublication(&p, &m.pub.last) {
		p.Seq++
	}
	m.pub.last, m.pub.at = p, m.now
	if p.Flags&shmproto.MemberGated != 0 && len(p.Guards) > 0 && m.gate.first == 0 {
		m.gate.first = p.Seq
	}
	m.do(Publish{Publication: &p})
}

// relaysKnown reports that every sampled guard was asked for.
func (m *Machine) relaysKnown() bool {
	return !slices.ContainsFunc(m.tor.entry, func(g guardstate.EntryGuard) bool {
		_, ok := m.tor.relays[g.Fingerprint]
		return !ok
	})
}

// passKnown reports that the share of passing guards is known, or cannot be.
func (m *Machine) passKnown() bool {
	_, known := m.tor.passPercent()
	return known || !m.tor.live || m.tor.policyErr != nil
}

// publication is the present truth, without Seq and binding.
func (m *Machine) publication() shmproto.Publication {
	t := &m.tor
	p := shmproto.Publication{
		Member: m.cfg.Member, Role: m.cfg.Role, State: shmproto.MemberPresent, Selection: t.selection(),
		NumPrimary: uint8(t.numPrimary()), TorVersion: cutVersion(t.version), Receipt: m.receipt,
	}
	if pc, ok := t.passPercent(); ok {
		p.PassPercent = uint8(pc)
	}
	switch {
	case m.left:
		p.State = shmproto.MemberLeft
		return p
	case t.relay():
		p.State = shmproto.MemberRefused
		return p
	case m.cfg.Observe || p.Selection == shmproto.SelectionBridges:
		p.State = shmproto.MemberObserveOnly
	}
	// With a picture that was lost, or is read only in part after a reconnection,
	// the last good guards stay.
	if !t.up || !t.confRead || !t.entryRead || !t.circuitsRead || !m.relaysKnown() {
		last := m.pub.last
		last.Seq, last.Receipt = 0, m.receipt
		if !t.up {
			last.Flags |= shmproto.MemberUnreachable
		}
		return last
	}
	prim := t.primaries()
	t.remember(prim)
	p.Flags = m.memberFlags(prim)
	p.Guards = m.guards(prim, &p.Flags)
	p.Layer2, p.Layer3 = t.layer(optionLayer2, &p.Flags), t.layer(optionLayer3, &p.Flags)
	return p
}

func (m *Machine) memberFlags(prim guardstate.Primaries) shmproto.MemberFlags {
	t := &m.tor
	var f shmproto.MemberFlags
	set := func(cond bool, bit shmproto.MemberFlags) {
		if cond {
			f |= bit
		}
	}
	set(t.dormant, shmproto.MemberDormant)
	set(prim.Ambiguous, shmproto.MemberAmbiguous)
	set(!t.live, shmproto.MemberNoConsensus)
	set(m.gate.closed(), shmproto.MemberGated)
	pc, known := t.passPercent()
	set(known && pc < m.cfg.MinPassPercent || m.receipt.Reason == shmproto.ReasonTooFewGuards, shmproto.MemberFewGuards)
	for _, c := range t.circuits {
		set(strings.HasPrefix(c.Purpose, "HS_SERVICE_"), shmproto.MemberOnionService)
	}
	return f
}

func (m *Machine) guards(prim guardstate.Primaries, flags *shmproto.MemberFlags) []shmproto.Guard {
	t := &m.tor
	used := t.inUse()
	if t.dormant { // circuits were closed for want of activity: the guard was not left
		for _, g := range m.pub.last.Guards {
			if g.Flags&shmproto.GuardInUse != 0 {
				used[g.Fingerprint] = true
			}
		}
	}
	var out []shmproto.Guard
	for _, g := range t.entry {
		if slices.ContainsFunc(out, func(o shmproto.Guard) bool { return o.Fingerprint == g.Fingerprint }) {
			continue
		}
		if len(out) == shmproto.MaxGuards {
			*flags |= shmproto.MemberTruncated
			break
		}
		if g.Fingerprint.IsZero() {
			continue // a bridge whose identity Tor does not know yet
		}
		r := t.relays[g.Fingerprint]
		o := shmproto.Guard{Fingerprint: g.Fingerprint}
		if !t.bridges() { // a bridge's address is a secret, and a transport's is nobody's
			o.Addrs = slices.Clone(r.Addrs)
		}
		if len(o.Addrs) > shmproto.MaxAddrs {
			o.Addrs = o.Addrs[:shmproto.MaxAddrs]
			*flags |= shmproto.MemberTruncated
		}
		set := func(cond bool, bit shmproto.GuardFlags) {
			if cond {
				o.Flags |= bit
			}
		}
		set(g.Confirmed(), shmproto.GuardConfirmed)
		set(r.Listed, shmproto.GuardListed)
		set(t.passesUser(g), shmproto.GuardFiltered)
		set(slices.Contains(prim.Primary, g.Fingerprint), shmproto.GuardPrimary)
		set(slices.Contains(prim.Possible, g.Fingerprint), shmproto.GuardPossiblePrimary)
		set(used[g.Fingerprint], shmproto.GuardInUse)
		set(m.excluded(g.Fingerprint) && t.split.Own != nil, shmproto.GuardExcluded)
		set(g.Status == guardstate.EntryGuardDown || t.down[g.Fingerprint], shmproto.GuardDown)
		set(t.bridges(), shmproto.GuardBridge)
		out = append(out, o)
	}
	m.stateFamilies(out, flags)
	return out
}

// samePublication compares what is compared: everything but Seq, binding and receipt.
func samePublication(a, b *shmproto.Publication) bool {
	return a.Member == b.Member && a.Role == b.Role && a.State == b.State && a.Selection == b.Selection && a.Flags == b.Flags &&
		a.NumPrimary == b.NumPrimary && a.PassPercent == b.PassPercent && a.TorVersion == b.TorVersion &&
		slices.Equal(a.Layer2, b.Layer2) && slices.Equal(a.Layer3, b.Layer3) &&
		slices.EqualFunc(a.Guards, b.Guards, func(g, h shmproto.Guard) bool {
			return g.Fingerprint == h.Fingerprint && g.Flags == h.Flags && slices.Equal(g.Addrs, h.Addrs) &&
				slices.Equal(g.FamilyIDs, h.FamilyIDs) && slices.Equal(g.Family, h.Family)
		})
}

func cutVersion(v string) string {
	out := make([]byte, 0, shmproto.MaxNameLen)
	for i := 0; i < len(v) && len(out) < shmproto.MaxNameLen; i++ {
		if v[i] >= 0x20 && v[i] < 0x7f {
			out = append(out, v[i])
		}
	}
	return string(out)
}
