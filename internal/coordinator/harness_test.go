package coordinator

import (
	"encoding/binary"
	"encoding/json"
	"reflect"
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
	if err := h.core.Invariants(); err != nil {
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

// generous are budgets that nothing exhausts, for tests of other rules.
var generous = Budgets{
	NewClaims: plenty, SampleChanges: plenty, ForcedUnused: plenty, ForcedUsed: plenty, ForcedUsedPerYear: 1000,
}

var plenty = Budget{Join: 1000, Every: time.Minute, Burst: 1000}
