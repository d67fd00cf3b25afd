package shmproto

import "guardring/internal/guardstate"

// Order is the whole set of guards that a member must not use. It replaces
// every earlier one; an empty set lifts all exclusions. It carries no reason
// and no other holder: a gateway must not learn another's guards.
type Order struct {
	Epoch      Epoch
	Term       Term
	Seq        Seq    // counts the orders of this member within the epoch
	Member     string // the instance it is for: a slot can change hands
	Answers    Answers
	Exclusions []guardstate.Fingerprint // sorted, without repetition, at most MaxExclusions
}

// Answers names the publication that an order was decided on. The agent only
// echoes it in its log; it never makes an order invalid.
type Answers struct {
	Attachment  Attachment  `json:"attachment"`
	Incarnation Incarnation `json:"incarnation"`
	Seq         Seq         `json:"seq"`
}

// Compare orders (epoch, term, seq): -1, 0 or +1. The highest valid one counts.
func (o *Order) Compare(p *Order) int {
	switch {
	case o.Epoch != p.Epoch:
		return o.Epoch.Compare(p.Epoch)
	case o.Term != p.Term:
		return compare(o.Term, p.Term)
	default:
		return compare(o.Seq, p.Seq)
	}
}

// Compare orders epochs by Number, then Random: -1, 0 or +1.
func (e Epoch) Compare(f Epoch) int {
	if e.Number != f.Number {
		return compare(e.Number, f.Number)
	}
	return compare(e.Random, f.Random)
}

func compare[T ~uint64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Lease is what the holder of a host seat says of itself.
type Lease struct {
	Epoch     Epoch
	Term      Term   // 0 while the holder stands by and has never held one
	Heartbeat uint64 // grows while the holder lives; only its change has a meaning
	Acting    bool   // holds the lease, as far as it knows
	Observe   bool   // the policy is observe: no orders will come
}
