package rotation

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/internal/guardstate"
)

var historySeed = flag.Uint64("history-seed", 1, "seed of the random histories, 0 for a new one")

// history is one random life of a member; every choice comes from the seed.
type history struct {
	*rand.Rand
	t   *testing.T
	a   *agent
	seq int
	ops []string
}

func (h *history) guard() guardstate.Fingerprint { return guard(h.IntN(8)) }

// addr is an address of guard i. No two guards ever share one: a rejected
// address takes out everything that is there, and rightly so.
func (h *history) addr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 200, byte(i), byte(h.IntN(250))}), uint16(1+h.IntN(9)))
}

func (h *history) step() {
	f, op := h.a.tor, h.IntN(14)
	h.ops = append(h.ops, fmt.Sprint(op))
	switch op {
	case 0, 1, 2:
		h.seq++
		gs := []guardstate.Fingerprint{}
		for range h.IntN(4) {
			gs = append(gs, h.guard())
		}
		slices.SortFunc(gs, guardstate.Fingerprint.Compare)
		h.a.order(h.seq, slices.Compact(gs)...)
	case 3:
		h.a.step(f.hup())
	case 4:
		h.a.step(ControlDown{Reason: "restart"})
		f.hup()
		h.a.up()
	case 5: // the agent is killed at the next effect of something
		n := h.IntN(3)
		h.a.stop = func(Action) bool { n--; return n < 0 }
		h.seq++
		h.a.order(h.seq, h.guard())
		h.restartAgent()
	case 6:
		i := h.IntN(8)
		r := f.relays[guard(i)]
		r.Addrs, r.Listed = []netip.AddrPort{h.addr(i), h.addr(i)}, true
		r.Addrs = guardstate.SortAddrs(r.Addrs)
		f.relays[r.Fingerprint] = r
		h.a.step(ConsensusArrived{})
	case 7:
		r := f.relays[h.guard()]
		r.Addrs, r.Listed = nil, false
		f.relays[r.Fingerprint] = r
		h.a.step(ConsensusArrived{})
	case 8:
		f.set[optionOR] = []string{"accept *:*"}
		h.a.step(ConfChanged{Keys: []string{"reachableoraddresses"}})
	case 9:
		f.torrc[optionOR] = [][]string{nil, {"reject 10.3.0.0/16, accept *:*"}, {"accept *:1-10000", "accept *:*"}}[h.IntN(3)]
		h.a.step(f.hup())
	case 10:
		id := fmt.Sprint(100 + len(h.ops))
		f.addCircuit(id, h.guard(), []string{"GENERAL", "HS_SERVICE_INTRO", "CONFLUX_LINKED"}[h.IntN(3)], "")
		if h.IntN(2) == 0 {
			f.streams["s"+id] = guardstate.CircuitID(id)
			h.a.step(StreamChanged{Stream: guardstate.Stream{ID: "s" + id, Status: "SUCCEEDED", Circuit: guardstate.CircuitID(id)}})
		}
		h.a.step(CircuitChanged{Circuit: f.circ[guardstate.CircuitID(id)]})
	case 11:
		f.live = h.IntN(2) == 0
		h.a.step(ConsensusArrived{})
	case 12:
		f.failWrite = h.IntN(2) == 0
	case 13:
		f.conf[h.guard()] = true
		h.a.step(GuardChanged{Fingerprint: h.guard(), Status: "UP"})
	}
	h.a.sleep(time.Duration(h.IntN(20)) * time.Second)
}

func (h *history) restartAgent() {
	b := newAgent(h.a.tor, h.a.cfg)
	b.now = h.a.now
	h.a = b
	h.a.up()
	if h.seq > 0 && h.IntN(2) == 0 {
		h.a.order(h.seq, h.guard())
	}
}

// TestRandomHistories: whatever happened, once the world is well again the last
// order is in force exactly, the file says the same, and it stays so after a HUP.
func TestRandomHistories(t *testing.T) {
	seed := *historySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	for n := range uint64(120) {
		h := &history{Rand: rand.New(rand.NewPCG(seed, n)), t: t, a: newAgent(newFakeTor(8), Config{})}
		h.a.up()
		for range 30 {
			h.step()
		}
		f := h.a.tor
		f.failWrite, f.live = false, true
		clear(f.streams)
		for i := range 8 {
			if r := f.relays[guard(i)]; len(r.Addrs) == 0 {
				r.Addrs, r.Listed = []netip.AddrPort{h.addr(i)}, true
				f.relays[guard(i)] = r
			}
		}
		h.a.step(ConsensusArrived{})
		final := []guardstate.Fingerprint{guard(1), guard(5)}
		h.a.order(h.seq+1, final...)
		h.a.sleep(20 * time.Minute) // introduction circuits go one by one

		fail := func(format string, args ...any) {
			t.Fatalf("seed %d, history %d, ops %s: %s\n%s", seed, n, strings.Join(h.ops, " "), fmt.Sprintf(format, args...), named(strings.Join(h.a.log[max(0, len(h.a.log)-20):], "\n")))
		}
		if got := receiptName(h.a.last.Receipt); got != "applied" {
			fail("receipt %s", got)
		}
		for _, hup := range []bool{false, true} {
			if hup {
				h.a.step(f.hup())
				h.a.sleep(3 * time.Second)
			}
			for i := range 8 {
				if g := guard(i); f.filtered(g) == slices.Contains(final, g) && userPasses(f, g) {
					fail("after hup=%t: g%d passes the filter: %t", hup, i, f.filtered(g))
				}
			}
		}
		for id, c := range f.circ {
			if first, _ := c.First(); slices.Contains(final, first) {
				fail("circuit %s through %s is left", id, first.Short())
			}
		}
	}
}

// userPasses evaluates the user's own lines alone.
func userPasses(f *fakeTor, g guardstate.Fingerprint) bool {
	user, _ := guardstate.ReadFirewall(f.getconf())
	p, err := user.Policy()
	if err != nil {
		panic(err)
	}
	return slices.ContainsFunc(f.relays[g].Addrs, p.Accepts)
}

// FuzzParseInclude: any text is read without a panic, and what is read is
// written and read back as the same.
func FuzzParseInclude(f *testing.F) {
	f.Add(EmptyInclude())
	f.Add("# guardring exclusion $A001000000000000000000000000000000000000 addrs=1.2.3.4:443,[::1]:9 moved=2026-11-01T00:00:00Z whole=1\nReachableORAddresses accept *:*\n")
	f.Fuzz(func(t *testing.T, text string) {
		ex, _ := parseInclude(text)
		back, damaged := parseInclude(formatInclude(ex, nil))
		if damaged != 0 || !sameExclusions(ex, back) {
			t.Fatalf("%+v reads back as %+v", ex, back)
		}
	})
}
