package failover

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"
)

// gateways is how many play at most.
const gateways = 6

// asked is what a gateway does to one guard by one publication: it shows the guard as its own, or it does not.
type asked struct {
	guard   int
	gateway int
	number  int // counts the gateway's publications
	what    deed
}

// deed is what is done to a guard.
type deed string

const (
	claims  deed = "claims"
	gives   deed = "gives up"
	revoked deed = "is told to give up what it held:" // nobody asked for it
)

// answer is what the order that answered the publication says of the guard.
type answer string

const (
	keeps   answer = "keeps it"
	moves   answer = "must not use it"
	nothing answer = "" // to what needs no answer
	unknown answer = "was not waited for"
)

// holder is the register of one guard: which gateway came first. Every publication of a gateway is the whole truth and takes the
// place of the one before, so one that was not waited for either counted before the next one, or never.
type holder struct {
	gateway int           // 1 and more; 0: nobody
	seen    [gateways]int // the last publication of each gateway that counted
}

// guardModel is the sequential specification of claims: whoever comes first keeps a guard until it gives it up; all others are told not
// to use it. Each guard is checked by itself, which is the same as all together (Herlihy and Wing: linearizability is local).
var guardModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		return split(history, func(in any) int { return in.(asked).guard })
	},
	Init: func() any { return holder{} },
	Step: func(state, input, output any) (bool, any) { return state.(holder).step(input.(asked), output.(answer)) },
	DescribeOperation: func(input, output any) string {
		in := input.(asked)
		return fmt.Sprintf("gateway %d, publication %d: %s guard %d %s", in.gateway, in.number, in.what, in.guard, output)
	},
	DescribeState: func(state any) string { return fmt.Sprintf("held by %d", state.(holder).gateway) },
}

func (h holder) step(in asked, out answer) (bool, holder) {
	seen := &h.seen[in.gateway-1]
	if in.number < *seen {
		return out == unknown, h // the next one took its place before anybody read it
	}
	*seen = in.number
	first := h.gateway == 0 || h.gateway == in.gateway
	switch {
	case in.what == revoked:
		return false, h
	case in.what == gives:
		if h.gateway == in.gateway {
			h.gateway = 0
		}
		return true, h
	case out == keeps && !first, out == moves && first:
		return false, h
	case first:
		h.gateway = in.gateway
	}
	return true, h
}

// split sorts a history into parts, by what a question is about.
func split(history []porcupine.Operation, part func(input any) int) (parts [][]porcupine.Operation) {
	at := map[int]int{}
	for _, op := range history {
		key := part(op.Input)
		i, ok := at[key]
		if !ok {
			i, at[key] = len(parts), len(parts)
			parts = append(parts, nil)
		}
		parts[i] = append(parts[i], op)
	}
	return parts
}

// checkTime is how long a search may take; it takes a second.
const checkTime = 30 * time.Second
