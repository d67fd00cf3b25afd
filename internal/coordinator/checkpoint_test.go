package coordinator

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// stepCore steps the core, and with mirror set also a twin that was resumed from
// a checkpoint some steps ago; both must say the same and end alike.
func (h *harness) stepCore(e Event) Ready {
	h.t.Helper()
	if h.mirror == 0 {
		return h.core.Step(e)
	}
	if h.twin == nil || h.steps%h.mirror == 0 {
		h.twin = resumed(h.t, h.core)
		h.record = Recorder{}
		var err error
		if h.player, err = newPlayer(resumed(h.t, h.core)); err != nil {
			h.t.Fatal(err)
		}
		if !reflect.DeepEqual(h.core, h.twin) {
			h.t.Fatalf("what was resumed differs from what was written")
		}
	}
	h.steps++
	tick, isTick := e.(Tick)
	idle := isTick && !h.core.Due(tick.At)
	var before *Coordinator
	if idle {
		before = resumed(h.t, h.core)
	}
	r, twins := h.core.Step(e), h.twin.Step(e)
	if !reflect.DeepEqual(r, twins) {
		h.t.Fatalf("%s: the core says\n%+v\nand the resumed one\n%+v", e, r, twins)
	}
	if idle {
		before.now = h.core.now
		if len(r.Save)+len(r.Orders)+len(r.Notices) > 0 || !reflect.DeepEqual(before, h.core) {
			h.t.Fatalf("%s was not due and changed something: %+v", e, r)
		}
	}
	if !idle {
		line, err := h.record.Line(e, r)
		if err != nil {
			h.t.Fatal(err)
		}
		if _, _, err := h.player.Play(line); err != nil {
			h.t.Fatalf("replay: %v of\n%s", err, line)
		}
	}
	if !reflect.DeepEqual(h.core, h.twin) {
		h.t.Fatalf("after %s the resumed core differs", e)
	}
	return r
}

func resumed(t testing.TB, c *Coordinator) *Coordinator {
	t.Helper()
	text, err := json.Marshal(c.Checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	var p Checkpoint
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	d, err := Resume(p)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestResumeGoesOnAlike lets the simulation of TestSimulation run with a twin.
func TestResumeGoesOnAlike(t *testing.T) {
	for seed := range 8 {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			s := newSim(t, uint64(1000+seed))
			s.h.mirror, s.h.deep = 1+seed, false
			s.h.cfg.Levels = WithFamily | WithSubnet
			s.h.cfg.Groups = []Group{{Name: "one", Relays: []guardstate.Fingerprint{fp(1), fp(5), fp(9)}}}
			real := seed%2 == 1 // real budgets and delays: then not everything is resolved at the end
			if real {
				s.h.cfg.Budgets, s.h.cfg.DelayMin, s.h.cfg.DelayMax = Budgets{}, 0, 0
			}
			s.h.start()
			for _, tor := range s.tors {
				for i := range tor.pub.Guards {
					related(&tor.pub.Guards[i])
				}
			}
			s.step(ConsensusRead{At: s.now, Guards: []Facts{{Relay: fp(3), Subnets: []Key{subnetKey(t, "11.1.0.1")}}}})
			if !real {
				s.run()
				return
			}
			for i := range 150 {
				s.random()
				if i%10 == 0 {
					s.step(Allowed{At: s.now, Gateway: s.tors[i%len(s.tors)].gateway})
				}
			}
		})
	}
}

// related gives a guard a network and a family that others share.
func related(g *shmproto.Guard) {
	n := number(g.Fingerprint)
	g.Flags |= shmproto.GuardFamilyStated
	g.Addrs = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(n % 9), 0, byte(n)}), 443)}
	if n%3 == 0 {
		g.FamilyIDs = [][32]byte{{byte(n % 7)}}
	}
	g.Family = []guardstate.Fingerprint{fp(n ^ 1)}
}

func subnetKey(t *testing.T, addr string) Key {
	k, ok := SubnetKey(netip.MustParseAddr(addr))
	if !ok {
		t.Fatalf("%s is in no network", addr)
	}
	return k
}

func TestReplayTellsADifference(t *testing.T) {
	h := newHarness(t, Config{Policy: PolicyDisjoint})
	begin := h.core.Checkpoint()
	var record Recorder
	tor := randomTor(rand.New(rand.NewPCG(1, 2)), "gw", 20, 60)
	var lines []string
	for _, e := range []Event{GatewaySeen{At: testStart, Gateway: "gw", Present: true}, Published{At: testStart, Gateway: "gw", Publication: &tor.pub}} {
		line, err := record.Line(e, h.core.Step(e))
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(line))
	}
	play := func(lines ...string) (err error) {
		p, err := NewPlayer(begin)
		for i := 0; i < len(lines) && err == nil; i++ {
			_, _, err = p.Play([]byte(lines[i]))
		}
		return err
	}
	if err := play(lines...); err != nil {
		t.Fatal(err)
	}
	var diff *Difference
	if err := play(lines[0], strings.Replace(lines[1], `"kind":"joined"`, `"kind":"left"`, 1)); !errors.As(err, &diff) || diff.What != "notices" || !strings.Contains(diff.Now, `"kind":"joined"`) {
		t.Errorf("another notice: %v", err)
	}
	for _, bad := range []string{"{", `{"kind":"order"}`, `{"kind":"published","event":{}}`, `{"kind":"published","event":{"Slot":8,"Publication":{}}}`,
		`{"kind":"published","event":{"Publication":{}},"kept":true,"changed":{"3":{}}}`} {
		if err := play(bad); err == nil || errors.As(err, &diff) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestResumeRefuses(t *testing.T) {
	c, err := New(Config{Policy: PolicyDisjoint})
	if err != nil {
		t.Fatal(err)
	}
	good := c.Checkpoint()
	for name, x := range map[string]struct {
		spoil func(*Checkpoint)
		want  error
	}{
		"version": {func(p *Checkpoint) { p.Version++ }, ErrOtherBuild},
		"shape":   {func(p *Checkpoint) { p.Shape = "0" }, ErrOtherBuild},
		"state": {func(p *Checkpoint) {
			p.State = json.RawMessage(strings.Replace(string(p.State), "disjoint", "disjoynt", 1))
		}, ErrDamaged},
		"no object": {func(p *Checkpoint) { p.State = json.RawMessage("[]"); p.Sum = sum(p.State) }, ErrDamaged},
	} {
		p := good
		x.spoil(&p)
		if _, err := Resume(p); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
	}
}
