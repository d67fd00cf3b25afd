package coordinator

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

var schedules = batchFlags("TestFailover", "schedules", 150, "schedule")

// batch says which schedules of a simulation are run.
type batch struct {
	n      *int
	after  *uint64 // they come after these
	only   *uint64 // 0: all of them
	replay string  // how to run a schedule again, but for its number
}

// batchFlags are a simulation's flags: how many schedules, and which one alone.
func batchFlags(test, many string, n int, one string) batch {
	return batch{
		n:      flag.Int(many, n, "how many schedules "+test+" runs"),
		after:  flag.Uint64(many+"-after", 0, "and of which number is the one before them"),
		only:   flag.Uint64(one, 0, "run only this schedule of "+test),
		replay: "go test -run " + test + " ./internal/coordinator -" + one,
	}
}

// seeds are those of the schedules to be run: what once was found comes first.
func (b batch) seeds(found []uint64) []uint64 {
	if *b.only != 0 {
		return []uint64{*b.only}
	}
	seeds := slices.Clone(found)
	for s := range *b.n {
		seeds = append(seeds, *b.after+uint64(s)+1)
	}
	return seeds
}

// found are schedules that once showed a fault: of the code, or of a rule that was
// taken out of it. They are run first.
var found = []uint64{
	// A publication was never read, because a late store had made its version one that
	// was read before.
	29443,
	// What a stopped coordinator wrote after its successor had read: two members with one
	// place in the order in which they became known, and two claims with one number; more
	// claims than a member may have; an order that lifted what the successor had ordered.
	689,
	343,
	823,
}

// TestFailover has two coordinators, each with the real election and the real core,
// and several gateways meet in real regions: coordinators are killed, started anew
// and stopped between any two effects, doorbells are lost, repeated and late, stores
// of agents come true word by word, in any order, also those of an agent that was
// replaced; agents and VMs are restarted; hostile gateways write what they like.
// After every step the invariants must hold; at the end, when everybody is well, one
// coordinator acts, everybody's order is in force, and no two members share a guard
// that the operator does not know of.
//
// The files of the ledger are in memory, and the Tors are fakeTor. The agent's own
// core has histories of its own, in guest-agent/rotation.
func TestFailover(t *testing.T) {
	seeds := schedules.seeds(found)
	var sum tally
	r := newRooms(t)
	for _, seed := range seeds {
		w := newFailover(t, seed, r)
		w.run()
		sum.add(w.tally)
	}
	t.Logf("%d schedules: %+v", len(seeds), sum)
	if n := len(seeds); n >= 100 && (sum.Acted < 2*n || sum.Obeyed < n || sum.Fenced < n/10 || sum.Torn < n/10 || sum.Kills < n || sum.Revoked < n/50) {
		t.Errorf("%d schedules hardly did anything: %+v", n, sum)
	}
}

// tally counts what happened, so that a simulation that does nothing is noticed.
type tally struct{ Acted, Kills, Steps, Orders, Obeyed, Fenced, Torn, Revoked, Violations, Merged int }

func (s *tally) add(o tally) {
	s.Acted, s.Kills, s.Steps, s.Orders = s.Acted+o.Acted, s.Kills+o.Kills, s.Steps+o.Steps, s.Orders+o.Orders
	s.Obeyed, s.Fenced, s.Torn = s.Obeyed+o.Obeyed, s.Fenced+o.Fenced, s.Torn+o.Torn
	s.Revoked, s.Violations, s.Merged = s.Revoked+o.Revoked, s.Violations+o.Violations, s.Merged+o.Merged
}

// rooms are memory for regions, used again for each schedule.
type rooms struct {
	regions [3][]byte
	before  []byte
	version int // offset of the version word of slot 0's publication
}

// newRooms finds out where the version lies: it is the first word that changes.
func newRooms(t *testing.T) *rooms {
	r := &rooms{before: make([]byte, shmproto.RegionSize)}
	mem := r.region(t, 0, shmproto.Header{Gateway: "gw0"})
	region, err := shmproto.Open(mem)
	if err != nil {
		t.Fatal(err)
	}
	guest := region.Guest(0, 1)
	guest.Lock().TryAcquire()
	copy(r.before, mem)
	if err := guest.Publish(0, &shmproto.Publication{Member: "default", State: shmproto.MemberPresent}); err != nil {
		t.Fatal(err)
	}
	for mem[r.version] == r.before[r.version] {
		r.version++
	}
	r.version &^= 7
	return r
}

// region returns the memory of region i, formatted.
func (r *rooms) region(t *testing.T, i int, h shmproto.Header) []byte {
	if r.regions[i] == nil {
		r.regions[i] = make([]byte, shmproto.RegionSize)
	}
	if err := shmproto.Format(r.regions[i], h); err != nil {
		t.Fatal(err)
	}
	return r.regions[i]
}

// failover is the world.
type failover struct {
	t       *testing.T
	seed    uint64
	rooms   *rooms
	rng     *rand.Rand
	now     time.Time
	cfg     Config
	free    bool // nothing is limited or delayed
	next    int  // the next relay that is nobody's
	board   []byte
	claimed map[shmproto.Term]bool
	books   map[shmproto.Term]*book
	durable map[string]bool // orders that some ledger holds or held
	acted   map[shmproto.Term]bool
	procs   [shmproto.HostSeats]*proc
	gates   []*gate
	calm    bool
	tally   tally

	steps  int
	pause  time.Duration // between two steps, at most
	rounds int           // at the end, with everybody well
	lull   time.Duration // between two of them
	batch  batch         // that this schedule is of
	net    *network      // of real agents' Tors
	agents agentTally

	crossing *rand.Rand // nil: each coordinator has the same seat everywhere
	crossed  int        // 1: who has one seat of the board has the other one in the regions
	stops    *rand.Rand // not nil: coordinators are stopped, for long, when they have decided and not written
}

// book is the ledger file of one term.
type book struct {
	snapshot []Record
	lines    [][]Record
	follows  map[shmproto.Term]int // how many lines of the older files the snapshot knows
	judge    *Judge                // of its writer
}

// emptyWorld has no gateways yet.
func emptyWorld(t *testing.T, seed uint64, r *rooms, rng *rand.Rand) *failover {
	w := &failover{
		t: t, seed: seed, rooms: r, rng: rng, now: testStart, claimed: map[shmproto.Term]bool{},
		books: map[shmproto.Term]*book{}, durable: map[string]bool{}, acted: map[shmproto.Term]bool{}, board: make([]byte, shmproto.LeaseBoardSize),
	}
	if seed%4 == 2 {
		w.crossing = rand.New(rand.NewPCG(seed, 24)) // of its own, so that the other schedules stay what they are
	}
	if seed%8 == 4 {
		w.stops = rand.New(rand.NewPCG(seed, 25))
	}
	w.cfg = Config{Policy: PolicyDisjoint, Epoch: testEpoch, Levels: RelayOnly, Budgets: generous, DelayMin: time.Second, DelayMax: 3 * time.Minute}
	if w.free = seed%2 == 0; w.free {
		w.cfg = atWill(w.cfg)
	}
	shmproto.FormatLeaseBoard(w.board)
	return w
}

// newGate is gateway i, without anybody in it.
func (w *failover) newGate(i int) *gate {
	g := &gate{w: w, name: fmt.Sprintf("gw%d", i), shown: map[string]string{}, kept: map[guardstate.Fingerprint]bool{}, quit: map[shmproto.Incarnation]bool{}}
	g.mem = w.rooms.region(w.t, i, shmproto.Header{Gateway: g.name, Attachment: 1, Compatible: shmproto.FeatureEnded})
	return g
}

func newFailover(t *testing.T, seed uint64, r *rooms) *failover {
	w := emptyWorld(t, seed, r, rand.New(rand.NewPCG(seed, 23)))
	w.batch = schedules
	w.steps, w.pause = 650, 1500*time.Millisecond
	w.rounds, w.lull = 60, 10*time.Second
	relays := 16 + w.rng.IntN(12)
	for i := range 2 + w.rng.IntN(2) {
		g := w.newGate(i)
		g.tor = randomTor(w.rng, g.name, 12, relays)
		if w.rng.IntN(5) == 0 {
			g.mood = []mood{deaf, hostile}[w.rng.IntN(2)]
		}
		g.start(0)
		w.gates = append(w.gates, g)
	}
	w.start(0)
	w.start(1)
	return w
}

func (w *failover) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\nreplay: %s %d", fmt.Sprintf(format, args...), w.batch.replay, w.seed)
}

// log tells what happens in a schedule that is run alone.
func (w *failover) log(format string, args ...any) {
	if *w.batch.only != 0 {
		w.t.Logf(format, args...)
	}
}

func (w *failover) run() {
	w.t.Helper()
	for range w.steps {
		if w.crossing != nil && w.crossing.IntN(200) == 0 {
			// Both are killed, and those who come after them meet the seats in another order.
			w.tally.Kills += 2
			w.crossed = 1 - w.crossed
			w.start(0)
			w.start(1)
		}
		w.now = w.now.Add(time.Duration(w.rng.IntN(int(w.pause/time.Millisecond))) * time.Millisecond)
		if n := w.rng.IntN(2 + len(w.gates)); n < 2 {
			w.procs[n].advance()
		} else {
			w.gates[n-2].advance()
		}
	}
	w.settle()
}

func orderKey(gateway, instance string, seq uint64, all []guardstate.Fingerprint) string {
	return fmt.Sprint(gateway, instance, seq, all)
}

// keep notes which orders are durable now.
func (w *failover) keep(records []Record) {
	for _, r := range records {
		if r.Kind == RecordOrder {
			var all []guardstate.Fingerprint
			for _, x := range r.Exclusions {
				f, _ := x.Key.Relay()
				all = append(all, f)
			}
			w.durable[orderKey(r.Gateway, r.Instance, r.Seq, all)] = true
		}
	}
}
