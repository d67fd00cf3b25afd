package failover

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// seen is one look at a gateway's memory: the highest term that a lease shows, or the order that stands.
type seen struct {
	gateway   int
	what      sight
	term, seq uint64
}

// sight is what was looked at.
type sight string

const (
	lease sight = "lease"
	order sight = "order"
)

// highest is the register of one gateway: the highest term that was visible, and the highest order.
type highest struct{ fence, term, seq uint64 }

// orderModel is the sequential specification of orders: from the moment at which a lease of a newer term is visible, no order of an
// older one stands; terms never fall, and orders neither.
var orderModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		return split(history, func(in any) int { return in.(seen).gateway })
	},
	Init: func() any { return highest{} },
	Step: func(state, input, _ any) (bool, any) { return state.(highest).step(input.(seen)) },
	DescribeOperation: func(input, _ any) string {
		in := input.(seen)
		if in.what == lease {
			return fmt.Sprintf("gateway %d: the highest lease is of term %d", in.gateway, in.term)
		}
		return fmt.Sprintf("gateway %d: order %d of term %d stands", in.gateway, in.seq, in.term)
	},
	DescribeState: func(state any) string { return fmt.Sprintf("%+v", state) },
}

func (h highest) step(in seen) (bool, highest) {
	if in.what == lease {
		ok := in.term >= h.fence
		h.fence = max(h.fence, in.term)
		return ok, h
	}
	ok := in.term >= h.fence && in.term >= h.term && in.seq >= h.seq
	h.term, h.seq = in.term, in.seq
	return ok, h
}
