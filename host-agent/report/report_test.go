package report

import (
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const (
	shared = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	first  = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"
	second = "CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC"
)

// good is a coordinator's document in which nothing is wrong.
func good() Document {
	return Document{
		At:       now,
		Self:     Self{PID: 4711, Role: RoleActing, Since: now.Add(-time.Hour), Term: 2, Policy: "disjoint", Doorbells: 3},
		Gateways: []Gateway{{Name: "apps", Present: true, Attachment: 1}, {Name: "web", Present: true, Attachment: 1}},
		Members: []Member{
			{Member: "apps/default", State: "present", Guards: []Guard{{Fingerprint: shared, InUse: true, Primary: true, Stamp: 1, Claimed: now.Add(-50 * time.Hour)}}},
			{Member: "web/default", State: "present", Guards: []Guard{{Fingerprint: first, InUse: true, Primary: true, Stamp: 2, Claimed: now.Add(-time.Minute)}, {Fingerprint: second}}},
		},
	}
}

// sharing is good with a conflict in the given state.
func sharing(state string) Document {
	d := good()
	d.Members[1].Guards = append([]Guard{{Fingerprint: shared, InUse: true, Primary: true, Stamp: 3, Claimed: now.Add(-5 * time.Second)}}, d.Members[1].Guards...)
	d.Conflicts = []Conflict{{Level: "relay", Fingerprint: shared, Incumbent: "apps/default", Newcomer: "web/default", Since: now.Add(-5 * time.Second), State: state}}
	return d
}

// TestLeftAsksForNothing: the order of a member that has left is over.
func TestLeftAsksForNothing(t *testing.T) {
	m := Member{Member: "web/default", State: "left", Order: Order{Seq: 2}, Receipt: Receipt{Status: "none"}}
	if d := cmp.Diff([]string{"left"}, (Style{}).notes(m)); d != "" {
		t.Error(d)
	}
}

// judged is good with a change.
func judged(change func(d *Document)) Answers {
	d := good()
	change(&d)
	return Answers{Coordinators: []Document{d}}
}

// conflict gives the guards of good's members something in common.
func conflict(d *Document, level, state string) {
	over := ""
	if level == "relay" {
		d.Members[1].Guards = append([]Guard{{Fingerprint: shared, Primary: true, Stamp: 3, Claimed: now.Add(-time.Hour)}}, d.Members[1].Guards...)
		d.Conflicts = []Conflict{{Level: level, Fingerprint: shared}}
	} else {
		d.Conflicts, over = []Conflict{{Level: level, Fingerprint: first}}, shared
	}
	c := &d.Conflicts[0]
	c.Over, c.Incumbent, c.Newcomer, c.Since, c.Due, c.State = over, "apps/default", "web/default", now.Add(-time.Hour), now.Add(3*time.Hour), state
	c.Reason = "its budget of forced changes is spent"
}

func TestVerdictNamesTheWorstAndWhatToDo(t *testing.T) {
	for _, c := range []struct {
		name string
		in   Answers
		want Verdict
		text string // in the summary
		hint string // in some problem
	}{
		{"all well", Answers{Coordinators: []Document{good()}}, OK, "no guard is shared", ""},
		{"one away, one left", judged(func(d *Document) {
			d.Members[0].State = "left"
			d.Members[1].State = "away"
		}), OK, "2 members (1 away, 1 left), no guard is shared", ""},
		{"server away", Answers{ServerErr: errors.New("refused"), Coordinators: []Document{good()}}, Critical, "server does not answer", "guardring run"},
		{"no coordinator", Answers{CoordinatorErr: errors.New("no such file")}, Critical, "no coordinator answers", "guardring run"},
		{"may not ask", Answers{ServerErr: fs.ErrPermission, CoordinatorErr: fs.ErrPermission}, Unknown, "server does not answer: permission denied", "as root"},
		{"electing", Answers{Coordinators: []Document{{Self: Self{Role: RoleStandby}}}}, Warning, "no coordinator acts", "log"},
		{"ordered", Answers{Coordinators: []Document{sharing(ConflictOrdered)}}, Warning, "was told to give it up", ""},
		{"observed", Answers{Coordinators: []Document{sharing(ConflictObserved)}}, Warning, "would be told", "policy: disjoint"},
		{"unanswered", Answers{Coordinators: []Document{sharing(ConflictUnanswered)}}, Critical, "does not answer", "guardring-guest status"},
		{"newcomer away", Answers{Coordinators: []Document{sharing(ConflictAway)}}, Warning, "web/default is away", ""},
		{"stuck", Answers{Coordinators: []Document{sharing(ConflictStuck)}}, Critical, "stays", "guardring-guest status"},
		{"ledger full", Answers{Coordinators: []Document{func() Document { d := good(); d.Self.LedgerError = "no space"; return d }()}}, Critical, "no space", "ledger rebuild"},
		{"nobody joined", Answers{Coordinators: []Document{func() Document { d := good(); d.Members = nil; return d }()}}, Warning, "no gateway has a member", "guardring-guest run"},
		{"no gateways", Answers{Coordinators: []Document{func() Document { d := good(); d.Members, d.Gateways = nil, nil; return d }()}}, Warning, "no gateway is configured", "guardring gateway create"},
		{"region damaged", Answers{Coordinators: []Document{func() Document { d := good(); d.Gateways[1].Fault = "no header"; return d }()}}, Critical, "web is not watched: no header", "server's log"},
		{"relay", Answers{Coordinators: []Document{func() Document { d := good(); d.Members[1].State = "refused"; return d }()}}, Warning, "is a relay", "client"},
		{"delayed", judged(func(d *Document) { conflict(d, "relay", ConflictDelayed) }), Warning, "is told to give it up at 2026-11-21 15:00 UTC", ""},
		{"budget, one relay", judged(func(d *Document) { conflict(d, "relay", ConflictBudget) }), Critical, "its budget of forced changes is spent, it has more on 2026-11-21 15:00 UTC", "guardring allow web --once"},
		{"budget, one family", judged(func(d *Document) { conflict(d, "family", ConflictBudget) }), Warning, "guards of one family", "guardring allow web --once"},
		{"used by both", judged(func(d *Document) { conflict(d, "subnet", ConflictTolerated) }), OK, "nothing to do about 1 known conflict", ""},
		{"stuck, one network", judged(func(d *Document) { conflict(d, "subnet", ConflictStuck) }), Warning, "in one network", "guardring-guest status"},
		{"clone", judged(func(d *Document) { conflict(d, "relay", ConflictClone); d.Members[1].CloneOf = "apps/default" }), Critical, "web/default is a clone of apps/default", "guardring-guest fresh"},
		{"rolled back", judged(func(d *Document) { d.Members[1].RolledBack = now.Add(-time.Hour) }), Critical, "came back on 2026-11-21 11:00 UTC", "guardring-guest fresh"},
		{"rolled back days ago", judged(func(d *Document) { d.Members[1].RolledBack = now.Add(-50 * time.Hour) }), Warning, "a restored snapshot?", "guardring-guest fresh"},
		{"gated", judged(func(d *Document) { d.Members[1].Flags = []string{"gated"} }), Warning, "waits at its join gate", ""},
		{"claims wait", judged(func(d *Document) {
			d.Members[1].Budgets = []Budget{{Name: "new-claims", Burst: 3, Next: now.Add(time.Hour), Waiting: 2}}
		}), Warning, "2 guards of web/default cannot be protected before 2026-11-21 13:00 UTC", "guardring allow web --once"},
		{"spent, nothing waits", judged(func(d *Document) { d.Members[1].Budgets = []Budget{{Name: "forced-used", Burst: 1}} }), OK, "no guard is shared", ""},
		{"families left out", judged(func(d *Document) { d.Members[1].Flags = []string{"families-left-out"} }), OK, "no guard is shared", ""},
		{"contradiction", judged(func(d *Document) {
			d.Contradictions = []Contradiction{{first, "subnet", "apps/default", "web/default"}}
		}), Warning, "do not agree on the addresses of a guard", "lies"},
		{"no journal", judged(func(d *Document) { d.Self.JournalError = "no space" }), Warning, "decisions are not written down: no space", "free space"},
		{"too fast", judged(func(d *Document) { d.Gateways[1].Paced = now.Add(-59 * time.Second) }), Warning, "web rings, or changes what it says, faster than an honest one", "broken, or hostile"},
		{"was too fast", judged(func(d *Document) { d.Gateways[1].Paced = now.Add(-time.Minute) }), OK, "no guard is shared", ""},
		{"trouble at its socket", Answers{Server: json.RawMessage(`{"gateways":[{"name":"web","troubles":[{"what":"disconnected: the client sent data","times":2}]}]}`), Coordinators: []Document{good()}},
			Warning, "gateway web, in the last minute: disconnected: the client sent data (2 times since", "server's log"},
		{"a server's document of another version", Answers{Server: json.RawMessage(`[1]`), Coordinators: []Document{good()}}, OK, "no guard is shared", ""},
		{"bad consensus", judged(func(d *Document) { d.Self.ConsensusError = "line 3" }), Warning, "consensus file cannot be used: line 3", "last good one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Judge(c.in)
			if got.Verdict != c.want || !strings.Contains(got.Summary, c.text) {
				t.Errorf("%v: %q, want %v with %q", got.Verdict, got.Summary, c.want, c.text)
			}
			hints := ""
			for _, p := range got.Problems {
				hints += p.Hint + "\n"
			}
			if !strings.Contains(hints, c.hint) {
				t.Errorf("hints %q, want %q", hints, c.hint)
			}
		})
	}
}

func TestStandbyDoesNotHideTheActingOne(t *testing.T) {
	standby := Document{Self: Self{Role: RoleStandby, PID: 1}}
	got := Judge(Answers{Coordinators: []Document{standby, good()}})
	if got.Verdict != OK || len(got.Coordinators) != 2 || got.Coordinators[0].PID != 4711 {
		t.Errorf("got %v with coordinators %v", got.Verdict, got.Coordinators)
	}
}

func TestTable(t *testing.T) {
	leaving := sharing(ConflictOrdered)
	leaving.Members[1].Guards[0].Ordered = now.Add(-time.Second)
	leaving.Members[1].Order = Order{Seq: 1, Exclusions: []string{shared}}
	leaving.Members[1].Receipt.Status = "pending"
	away := good()
	away.Gateways[1].Present = false
	away.Members[1] = Member{Member: "web/default", State: "away", Since: now.Add(-3 * time.Hour), Guards: []Guard{{Fingerprint: first, Stamp: 2, Claimed: now.Add(-5 * time.Hour), Left: now.Add(-4 * time.Hour)}}}
	busy := good()
	conflict(&busy, "family", ConflictBudget)
	busy.Members[0].Role, busy.Members[1].Role = "apps", "browsing"
	busy.Members[1].Order, busy.Members[1].Receipt.Status = Order{Seq: 2}, "applied"
	busy.Members[1].Budgets = []Budget{
		{Name: "new-claims", Left: 2, Burst: 3}, {Name: "forced-unused", Burst: 3, Next: now.Add(100 * time.Hour), Waiting: 1}, {Name: "forced-used", Burst: -1},
	}
	busy.Members[1].Allowed = now.Add(-time.Minute)
	busy.Members = append(busy.Members, Member{Member: "updates/default", State: "present", CloneOf: "web/default", Guards: []Guard{{Fingerprint: first, Primary: true, Stamp: 9, Claimed: now.Add(-time.Minute)}}})
	busy.Conflicts = append([]Conflict{{Level: "relay", Fingerprint: first, Incumbent: "web/default", Newcomer: "updates/default", Since: now.Add(-time.Minute), State: ConflictClone}}, busy.Conflicts...)
	busy.Contradictions = []Contradiction{{Fingerprint: shared, Level: "subnet", One: "apps/default", Other: "web/default"}}
	busy.Layers = []Layer{{Fingerprint: second, Layer: 2, Members: []string{"apps/default", "web/default"}}}
	for name, d := range map[string]Document{"busy": busy, "good": good(), "away": away, "observed": sharing(ConflictObserved), "leaving": leaving} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := Write(&b, Judge(Answers{Coordinators: []Document{d}}), Style{Now: now}); err != nil {
				t.Fatal(err)
			}
			golden(t, name, b.String())
			if strings.Contains(b.String(), shared[:9]) {
				t.Error("a whole fingerprint is shown unasked")
			}
		})
	}
}

func TestShortenLeavesTheOriginalAlone(t *testing.T) {
	d := sharing(ConflictOrdered)
	d.Members[1].Order.Exclusions = []string{shared}
	before := sharing(ConflictOrdered)
	before.Members[1].Order.Exclusions = []string{shared}
	s := d.Shorten()
	if s.Conflicts[0].Fingerprint != shared[:8] || s.Members[1].Order.Exclusions[0] != shared[:8] || s.Members[0].Guards[0].Fingerprint != shared[:8] {
		t.Errorf("not shortened: %+v", s)
	}
	if diff := cmp.Diff(before, d); diff != "" {
		t.Errorf("the original changed:\n%s", diff)
	}
}
