package failover

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
)

// op is one that takes from..to.
func op(in, out any, from, to int64) porcupine.Operation {
	who := 0
	switch in := in.(type) {
	case asked:
		who = in.gateway - 1
	case seen:
		who = in.gateway - 1
	}
	return porcupine.Operation{ClientId: who, Input: in, Call: from, Output: out, Return: to}
}

func TestGuards(t *testing.T) {
	one := func(number int, d deed) asked { return asked{7, 1, number, d} }
	two := func(number int, d deed) asked { return asked{7, 2, number, d} }
	for _, c := range []struct {
		name  string
		right bool
		ops   []porcupine.Operation
	}{
		{"the first keeps it, the second moves", true, []porcupine.Operation{op(one(1, claims), keeps, 0, 10), op(two(1, claims), moves, 20, 30)}},
		{"asked at once, either may be first", true, []porcupine.Operation{op(one(1, claims), moves, 0, 10), op(two(1, claims), keeps, 5, 15)}},
		{"both keep it", false, []porcupine.Operation{op(one(1, claims), keeps, 0, 10), op(two(1, claims), keeps, 5, 15)}},
		{"both members move", false, []porcupine.Operation{op(one(1, claims), moves, 0, 10), op(two(1, claims), moves, 5, 15)}},
		{"the incumbent moves", false, []porcupine.Operation{op(one(1, claims), keeps, 0, 10), op(two(1, claims), keeps, 20, 30), op(one(1, revoked), nothing, 30, 40)}},
		{"the incumbent is told later, for a reason or not", false, []porcupine.Operation{op(one(1, claims), keeps, 0, 10), op(one(1, revoked), nothing, 20, 30)}},
		{"nobody holds it, and it must not be used", false, []porcupine.Operation{op(one(1, claims), keeps, 0, 10), op(one(2, gives), nothing, 20, 30), op(two(1, claims), moves, 40, 50)}},
		{"given up, so the next one keeps it", true, []porcupine.Operation{op(one(1, claims), keeps, 0, 10), op(one(2, gives), nothing, 20, 30), op(two(1, claims), keeps, 25, 50)}},
		{"kept before it was given up", false, []porcupine.Operation{op(one(1, claims), keeps, 0, 10), op(two(1, claims), keeps, 11, 19), op(one(2, gives), nothing, 20, 30)}},
		{"claimed again after it was given up, and the other one was first", false,
			[]porcupine.Operation{op(one(1, claims), keeps, 0, 10), op(one(2, gives), nothing, 20, 30), op(two(1, claims), keeps, 40, 50), op(one(3, claims), keeps, 60, 70)}},
		{"one that was not waited for counted", true, []porcupine.Operation{op(one(1, claims), unknown, 0, 40), op(two(1, claims), moves, 20, 30), op(one(2, gives), nothing, 20, 40)}},
		{"one that was not waited for never counted", true, []porcupine.Operation{op(one(1, claims), unknown, 0, 40), op(two(1, claims), keeps, 20, 30), op(one(2, gives), nothing, 20, 40)}},
		{"one that was not waited for counts after the next", false,
			[]porcupine.Operation{op(one(1, claims), unknown, 0, 40), op(one(2, gives), nothing, 10, 40), op(two(1, claims), moves, 50, 60)}},
	} {
		if err := check(guardModel, c.ops); (err == nil) != c.right {
			t.Errorf("%s: %v", c.name, err)
		} else if err != nil && !strings.Contains(err.Error(), "-> ") {
			t.Errorf("%s: no time line: %v", c.name, err)
		}
	}
}

func TestOrders(t *testing.T) {
	for _, c := range []struct {
		name  string
		right bool
		ops   []porcupine.Operation
	}{
		{"a newer term", true, []porcupine.Operation{op(seen{1, order, 1, 4}, nil, 0, 1), op(seen{1, lease, 2, 0}, nil, 2, 3), op(seen{1, order, 2, 4}, nil, 4, 5)}},
		{"an order of an older term after a newer lease", false, []porcupine.Operation{op(seen{1, lease, 2, 0}, nil, 0, 1), op(seen{1, order, 1, 5}, nil, 2, 3)}},
		{"at once", true, []porcupine.Operation{op(seen{1, lease, 2, 0}, nil, 0, 5), op(seen{1, order, 1, 5}, nil, 2, 3)}},
		{"an order of an older term after one of a newer", false, []porcupine.Operation{op(seen{1, order, 2, 5}, nil, 0, 1), op(seen{1, order, 1, 6}, nil, 2, 3)}},
		{"an older order of the same term", false, []porcupine.Operation{op(seen{1, order, 2, 5}, nil, 0, 1), op(seen{1, order, 2, 4}, nil, 2, 3)}},
		{"a newer coordinator that knows less", false, []porcupine.Operation{op(seen{1, order, 1, 5}, nil, 0, 1), op(seen{1, order, 2, 4}, nil, 2, 3)}},
		{"a lease that falls", false, []porcupine.Operation{op(seen{1, lease, 2, 0}, nil, 0, 1), op(seen{1, lease, 1, 0}, nil, 2, 3)}},
		{"another gateway", true, []porcupine.Operation{op(seen{1, lease, 2, 0}, nil, 0, 1), op(seen{2, order, 1, 5}, nil, 2, 3)}},
	} {
		if err := check(orderModel, c.ops); (err == nil) != c.right {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestChanged makes long right histories, and then changes one answer of each: with a wrong answer none is right any more. A gateway holds a
// guard for several publications, so each answer has consequences.
func TestChanged(t *testing.T) {
	const histories = 200
	for n := range uint64(histories) {
		random := rand.New(rand.NewPCG(n, 1))
		ops := invent(random)
		if err := check(guardModel, ops); err != nil {
			t.Fatalf("history %d: %v", n, err)
		}
		// One that is asked while nobody else asks has only one right answer.
		var alone []int
		for i, o := range ops {
			if o.Output != any(nothing) && !slices.ContainsFunc(ops, func(p porcupine.Operation) bool {
				return p.Input != o.Input && p.Input.(asked).guard == o.Input.(asked).guard && p.Call <= o.Return && p.Return >= o.Call
			}) {
				alone = append(alone, i)
			}
		}
		changed := &ops[alone[random.IntN(len(alone))]]
		was := changed.Output
		changed.Output = map[any]answer{keeps: moves, moves: keeps}[was]
		if err := check(guardModel, ops); err == nil {
			t.Errorf("history %d is right with %v, although it was %v", n, *changed, was)
		}
	}
}

// invent makes a right history: each question takes effect at a time of its own, and takes longer than that, so that questions overlap.
func invent(random *rand.Rand) (ops []porcupine.Operation) {
	const guards, rounds = 3, 60
	state := map[int]holder{}
	var number [gateways]int
	var free [gateways]int64 // when a gateway has its answer
	for at := int64(0); at < rounds*10; at += 10 {
		g := random.IntN(gateways)
		if free[g] >= at-9 {
			continue
		}
		number[g]++
		from, to := at-random.Int64N(min(9, at-free[g]+1)), at+random.Int64N(12)
		free[g] = to + 1
		for guard := range guards {
			in, out := asked{guard, g + 1, number[g], gives}, nothing
			if random.IntN(2) == 0 {
				in.what, out = claims, keeps
				if ok, _ := state[guard].step(in, out); !ok {
					out = moves
				}
			}
			_, state[guard] = state[guard].step(in, out)
			ops = append(ops, op(in, out, from, to))
		}
	}
	return ops
}
