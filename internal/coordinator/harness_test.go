package coordinator

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

var testEpoch = shmproto.Epoch{Number: 1_700_000_000_000, Random: 42}

// testStart is the host's clock at the start of every test.
var testStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// fp returns the fingerprint of the test guard Gn.
func fp(n int) guardstate.Fingerprint {
	var f guardstate.Fingerprint
	binary.BigEndian.PutUint32(f[:], uint32(n))
	f[19] = 1
	return f
}

// number is the reverse of fp.
func number(f guardstate.Fingerprint) int { return int(binary.BigEndian.Uint32(f[:])) }

// atWill returns cfg without budgets and delays, for what is not about them.
func atWill(cfg Config) Config {
	free := Budget{Burst: -1}
	cfg.Budgets = Budgets{NewClaims: free, SampleChanges: free, ForcedUnused: free, ForcedUsed: free, ForcedUsedPerYear: -1, CausedMost: -1}
	cfg.DelayMin, cfg.DelayMax = -1, -1
	return cfg
}

// harness owns a core as a runner does, and checks after every step what must
// hold whatever the events are.
type harness struct {
	t     testing.TB
	cfg   Config
	core  *Coordinator
	saved []Record // the ledger
	seats map[seatKey]shmproto.Order
	term  shmproto.Term
	deep  bool // compare a restored core after every step
	// mirror: every so many steps a second core goes on from a checkpoint, and must
	// do the same; 0: none. See checkpoint_test.go.
	mirror int
	twin   *Coordinator
	record Recorder // what player plays
	player *Player
	steps  int
}

type seatKey struct {
	gateway string
	slot    int
}

func newHarness(t testing.TB, cfg Config) *harness {
	t.Helper()
	cfg.Epoch = testEpoch
	h := &harness{t: t, cfg: cfg, seats: map[seatKey]shmproto.Order{}, deep: true}
	h.start()
	return h
}

// start makes a core from the ledger, in a new term.
func (h *harness) start() {
	h.t.Helper()
	h.term++
	h.core, h.twin = h.restored(h.saved), nil
}

func (h *harness) restored(records []Record) *Coordinator {
	h.t.Helper()
	c, err := New(h.cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := c.Restore(records); err != nil {
		h.t.Fatal(err)
	}
	return c
}

// step does one event and everything that its Ready asks for.
func (h *harness) step(e Event) Ready {
	h.t.Helper()
	r := h.stepCore(e)
	h.keep(r.Save)
	h.write(r.Orders)
	h.check(r)
	return r
}

// durable fails the test if an order says anything else than the last record of
// it in the ledger.
func (h *harness) durable(orders []SlotOrder) {
	h.t.Helper()
	for _, o := range orders {
		m := Member{o.Gateway, o.Order.Member}
		i := len(h.saved) - 1
		for i >= 0 && (h.saved[i].Kind != RecordOrder || h.saved[i].member() != m) {
			i--
		}
		if i < 0 || h.saved[i].Seq != uint64(o.Order.Seq) || len(h.saved[i].Exclusions) != len(o.Order.Exclusions) {
			h.t.Fatalf("order %s is not what the ledger holds", describeOrder(o))
		}
		for j, x := range h.saved[i].Exclusions {
			if x.Key != RelayKey(o.Order.Exclusions[j]) {
				h.t.Fatalf("order %s is not what the ledger holds", describeOrder(o))
			}
		}
	}
}

// keep appends to the ledger by way of JSON, as the real one does.
func (h *harness) keep(records []Record) {
	h.t.Helper()
	for _, r := range records {
		b, err := json.Marshal(r)
		if err != nil {
			h.t.Fatal(err)
		}
		var back Record
		if err := json.Unmarshal(b, &back); err != nil {
			h.t.Fatalf("%s: %v", b, err)
		}
		h.saved = append(h.saved, back)
	}
}

func (h *harness) write(orders []SlotOrder) {
	for _, o := range orders {
		o.Order.Epoch, o.Order.Term = testEpoch, h.term
		h.seats[seatKey{o.Gateway, o.Slot}] = o.Order
	}
}

// check fails the test if an invariant does not hold.
func (h *harness) check(r Ready) {
	h.t.Helper()
	h.durable(r.Orders)
	if err := h.core.valid(); err != nil {
		h.t.Fatal(err)
	}
	if err := h.core.reported(); err != nil {
		h.t.Fatal(err)
	}
	if !h.deep {
		return
	}
	want := h.core.Snapshot()
	for name, from := range map[string][]Record{"ledger": h.saved, "snapshot": want} {
		c := h.restored(from)
		if got := c.Snapshot(); !reflect.DeepEqual(want, got) {
			h.t.Fatalf("state restored from the %s differs (-live +restored):\n%s", name, cmp.Diff(want, got))
		}
		if err := c.valid(); err != nil {
			h.t.Fatalf("restored from the %s: %v", name, err)
		}
	}
	if h.cfg.Policy == PolicyObserve {
		for _, o := range r.Orders {
			if len(h.standing(o)) != len(o.Order.Exclusions) {
				h.t.Fatalf("order under observe: %v", o)
			}
		}
	}
}

// standing returns the exclusions that the ledger has for an order's member.
func (h *harness) standing(o SlotOrder) []Exclusion {
	return h.core.byName[Member{o.Gateway, o.Order.Member}].exclusions
}

// valid checks the invariants that Coordinator states, and that the index is
// what a dumb walk over all members finds.
func (c *Coordinator) valid() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	stamps := map[uint64]bool{}
	dumb := map[Key][]*claim{}
	expected := map[Key]int{}
	for i, m := range c.members {
		if i > 0 && c.members[i-1].name.Compare(m.name) >= 0 {
			fail("members out of order at %s", m.name)
		}
		if c.byName[m.name] != m {
			fail("%s is not what its name finds", m.name)
		}
		if len(m.claims) > c.cfg.MaxClaims {
			fail("%s has %d claims", m.name, len(m.claims))
		}
		if len(m.exclusions) > c.cfg.MaxExclusions {
			fail("%s has %d exclusions", m.name, len(m.exclusions))
		}
		if m.gone && (len(m.claims) > 0 || len(m.exclusions) > 0) {
			fail("%s is gone and has claims or exclusions", m.name)
		}
		if m.shown() && (!m.away.IsZero() || m.gone || c.gatewayOf[m.name.Gateway].slots[m.slot] != m) {
			fail("%s is and is not in slot %d", m.name, m.slot)
		}
		if m.dirty {
			fail("%s was not planned", m.name)
		}
		for j, cl := range m.claims {
			if j > 0 && m.claims[j-1].key.Compare(cl.key) >= 0 {
				fail("claims of %s out of order", m.name)
			}
			if cl.m != m || cl.stamp.Counter == 0 || cl.stamp.Counter > c.stamp || stamps[cl.stamp.Counter] {
				fail("%s: claim with stamp %d", m.name, cl.stamp.Counter)
			}
			if r := c.known(cl.key); cl.at == nil || cl.at != r {
				fail("%s: claim on %s is not at its entry", m.name, cl.key)
			}
			if !cl.live() && !cl.used {
				fail("%s retains a guard that it never used", m.name)
			}
			stamps[cl.stamp.Counter] = true
			dumb[cl.key] = append(dumb[cl.key], cl)
		}
		for _, x := range m.exclusions {
			if o := c.byName[x.For]; o != nil {
				if y := o.exclusion(x.guard()); y != nil && y.For == m.name && y.guard() == x.Key {
					fail("%s and %s gave up %s and %s in favour of each other", m.name, o.name, x.Key, y.Key)
				}
				// Nor did the other one give that guard up for another guard of m's: of two
				// that meet there only one moves. To meet at the very same relay, after one
				// of them gave up another guard, is another conflict.
				if y := o.exclusion(x.guard()); y != nil && y.For == m.name && x.Why == WhyConflict && y.Why == WhyConflict &&
					(x.Level <= LevelRelay || y.Level > LevelRelay) {
					fail("%s gave up %s in favour of %s at %s, which gave that up in favour of its %s", m.name, x.Key, o.name, x.guard(), y.guard())
				}
				// A successor may be avoided for whoever gave way once; a guard that
				// is held is kept.
				if x.Why == WhyConflict && x.Level > LevelRelay && o.yielded(m.name, x.Key) {
					fail("%s gave up %s in favour of %s, which had given way to it there", m.name, x.Key, o.name)
				}
			}
			if x.For == m.name {
				fail("%s gave up %s in favour of itself", m.name, x.Key)
			}
		}
		for _, e := range m.expects {
			expected[e.key]++
		}
	}
	for id, r := range c.relays {
		k := RelayKey(id)
		want := dumb[k]
		slices.SortFunc(want, func(a, b *claim) int { return int(a.stamp.Counter) - int(b.stamp.Counter) })
		if !slices.Equal(want, r.claims) {
			fail("index of %s: %d claims, want %d, in the order of their stamps", k, len(r.claims), len(want))
		}
		if len(r.expects) != expected[k] {
			fail("index of %s: %d expected, want %d", k, len(r.expects), expected[k])
		}
		if len(r.claims)+len(r.expects)+len(r.stated) == 0 {
			fail("index of %s is empty and was kept", k)
		}
		delete(dumb, k)
		delete(expected, k)
	}
	errs = append(errs, c.validOrigins())
	if len(dumb) > 0 || len(expected) > 0 {
		fail("index lacks %d keys of claims and %d of expectations", len(dumb), len(expected))
	}
	return errors.Join(errs...)
}

// reported checks by comparing everyone with everyone that no two members claim
// the same guard without a conflict being shown.
func (c *Coordinator) reported() error {
	type at struct {
		m Member
		k Key
	}
	shown := map[at]bool{}
	for _, x := range c.State().Conflicts {
		shown[at{x.Mover, x.Key}] = true
	}
	for i, m := range c.members {
		for _, o := range c.members[:i] {
			for _, cl := range m.claims {
				other := o.claim(cl.key)
				if other == nil || !other.live() || !cl.live() {
					continue
				}
				if !shown[at{m.name, cl.key}] && !shown[at{o.name, cl.key}] {
					return fmt.Errorf("%s and %s both claim %s and no conflict is shown", m.name, o.name, cl.key)
				}
			}
		}
	}
	return nil
}

// generous are budgets that nothing exhausts, for tests of other rules.
var generous = Budgets{
	NewClaims: plenty, SampleChanges: plenty, ForcedUnused: plenty, ForcedUsed: plenty, ForcedUsedPerYear: 1000,
}

var plenty = Budget{Join: 1000, Every: time.Minute, Burst: 1000}
