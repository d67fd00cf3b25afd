package coordinator

import (
	"slices"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// fakeTor is a Tor client with its agent: it has a sample, chooses primaries and
// obeys orders. It is written from guard-spec, apart from the core's own idea of
// what Tor does.
type fakeTor struct {
	gateway string
	slot    int
	pub     shmproto.Publication
	using   int // how many of its first primaries carry circuits
}

func (t *fakeTor) name() Member { return Member{t.gateway, t.pub.Member} }

func usableIn(g shmproto.Guard) bool {
	for _, need := range []shmproto.GuardFlags{shmproto.GuardListed, shmproto.GuardFiltered} {
		if g.Flags&need == 0 {
			return false
		}
	}
	return g.Flags&(shmproto.GuardExcluded|shmproto.GuardBridge) == 0
}

// settle chooses the primaries anew and moves the circuits.
func (t *fakeTor) settle() {
	p := &t.pub
	var chosen []int
	take := func(flag shmproto.GuardFlags) {
		for i, g := range p.Guards {
			if len(chosen) < int(p.NumPrimary) && usableIn(g) && g.Flags&flag == flag && !slices.Contains(chosen, i) {
				chosen = append(chosen, i)
			}
		}
	}
	take(shmproto.GuardConfirmed)
	take(shmproto.GuardPrimary)
	take(0)
	used := 0
	for i := range p.Guards {
		p.Guards[i].Flags &^= shmproto.GuardPrimary | shmproto.GuardPossiblePrimary | shmproto.GuardInUse
	}
	slices.Sort(chosen)
	for _, i := range chosen {
		p.Guards[i].Flags |= shmproto.GuardPrimary
		if used < t.using {
			p.Guards[i].Flags |= shmproto.GuardInUse | shmproto.GuardConfirmed
			used++
		}
	}
}

// obey applies an order and answers it.
func (t *fakeTor) obey(o shmproto.Order) {
	for i := range t.pub.Guards {
		g := &t.pub.Guards[i]
		g.Flags &^= shmproto.GuardExcluded
		if slices.Contains(o.Exclusions, g.Fingerprint) {
			g.Flags |= shmproto.GuardExcluded
		}
	}
	t.settle()
	t.pub.Seq++
	t.answer(o, shmproto.ReceiptApplied, shmproto.ReasonNone)
}

func (t *fakeTor) answer(o shmproto.Order, s shmproto.ReceiptStatus, r shmproto.ReceiptReason) {
	t.pub.Receipt = shmproto.Receipt{Epoch: o.Epoch, Term: o.Term, Seq: o.Seq, Digest: o.Digest(), Status: s, Reason: r}
}

// holds returns the guards that are compared: in use or primary.
func (t *fakeTor) holds() (fs []guardstate.Fingerprint) {
	for _, g := range t.pub.Guards {
		if g.Flags&(shmproto.GuardPrimary|shmproto.GuardInUse) != 0 {
			fs = append(fs, g.Fingerprint)
		}
	}
	return fs
}

// settleUp is settle, but a guard that is believed to be down is not chosen
// anew.
func (t *fakeTor) settleUp() {
	for i := range t.pub.Guards {
		f := &t.pub.Guards[i].Flags
		if *f&(shmproto.GuardDown|shmproto.GuardConfirmed|shmproto.GuardPrimary) == shmproto.GuardDown {
			*f |= shmproto.GuardExcluded
		}
	}
	t.settle()
}
