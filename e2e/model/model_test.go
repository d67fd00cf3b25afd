//go:build e2e

package model

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// bound is one configuration of a model that is searched to the end.
type bound struct {
	model  string
	defs   string
	states int // at least: fewer mean that the model hardly does anything
}

// bounds are those of docs/model/README.md, together under three minutes on two
// calm cores.
var bounds = []bound{
	{"lock.pml", "STALLS=1 KILLS=0 READS=1", 3_000_000},
	{"lock.pml", "STALLS=0 KILLS=1 READS=1", 800_000},
	{"lock.pml", "STALLS=0 KILLS=1 RESTARTS=1 READS=0", 3_000_000},
	{"lock.pml", "STALLS=1 KILLS=1 READS=0", 1_000_000},
	{"lock.pml", "STALLS=2 KILLS=0 READS=0", 1_000_000},
	{"lock.pml", "WRITERS=3 STALLS=0 KILLS=0 READS=0", 5_000_000},
	{"lease.pml", "TERMS=2 DECISIONS=2 KILLS=0 RESTARTS=1 SPURIOUS=0", 1_000_000},
	{"lease.pml", "TERMS=2 DECISIONS=2 KILLS=0 RESTARTS=1 SPURIOUS=0 BLIND", 1_000_000},
	{"lease.pml", "TERMS=3 DECISIONS=1 KILLS=0 RESTARTS=1 SPURIOUS=0", 1_000_000},
	{"lease.pml", "TERMS=2 DECISIONS=1 KILLS=1 RESTARTS=0 SPURIOUS=0", 400_000},
	{"lease.pml", "TERMS=2 DECISIONS=1 KILLS=0 RESTARTS=0 SPURIOUS=0 CROSSED BLIND", 200_000},
	{"lease.pml", "TERMS=2 DECISIONS=2 KILLS=0 RESTARTS=0 SPURIOUS=1 TEARS=2", 1_000_000},
	{"conflict.pml", "MEMBERS=2 KILLS=1 DOWNS=2", 500_000},
	{"conflict.pml", "MEMBERS=3 KILLS=0 DOWNS=0", 3_000},
	{"conflict.pml", "MEMBERS=3 KILLS=1 DOWNS=0", 40_000},
	{"conflict.pml", "MEMBERS=3 KILLS=0 DOWNS=1", 1_500_000},
	{"conflict.pml", "MEMBERS=2 KILLS=0 DOWNS=0 DEAF=1", 100},
	{"conflict.pml", "MEMBERS=3 GUARDS=2 KILLS=0 DOWNS=0", 1_000},
}

func TestProperties(t *testing.T) {
	for _, b := range bounds {
		t.Run(b.model+" "+b.defs, func(t *testing.T) {
			t.Parallel()
			v := search(t, b.model, strings.Fields(b.defs))
			switch {
			case v.violated != "":
				t.Fatalf("%s is violated:\n%s", v.violated, v.trail)
			case !v.complete:
				t.Fatal("the search was not completed: raise its bounds, or lower the model's")
			case v.states < b.states:
				t.Errorf("%d states, want at least %d: the model hardly does anything", v.states, b.states)
			}
			t.Logf("%d states, depth %d, %.0f MB, %.1f s", v.states, v.depth, v.memory, v.seconds)
		})
	}
}

// mutant is a model with one rule disabled, the smallest bounds in which that
// shows, and the property that it breaks.
type mutant struct {
	model, name, defs, breaks string
}

var mutants = []mutant{
	{"lock.pml", "no_choosing", "STALLS=0 KILLS=0 READS=0", "two_holders"},
	{"lock.pml", "no_fence_while_choosing", "STALLS=0 KILLS=0 READS=0", "two_holders"},
	{"lock.pml", "no_fence_behind_ticket", "STALLS=0 KILLS=0 READS=0", "two_holders"},
	{"lock.pml", "no_fence_behind_revocation", "STALLS=1 KILLS=0 READS=0", "two_holders"},
	{"lock.pml", "no_revocation", "STALLS=0 KILLS=1 READS=0", "lock_stuck"},
	{"lock.pml", "no_verify", "STALLS=0 KILLS=1 READS=0", "nothing_shown"},
	{"lock.pml", "no_checksum", "STALLS=1 KILLS=0 READS=1", "mixed_record"},
	{"lock.pml", "no_fence_rule", "STALLS=1 KILLS=0 READS=1", "late_record"},

	{"lease.pml", "claim_not_exclusive", "TERMS=2 DECISIONS=1 KILLS=0 RESTARTS=0 SPURIOUS=0", "term_acts_twice"},
	{"lease.pml", "no_lease_shown", "TERMS=2 DECISIONS=1 KILLS=0 RESTARTS=0 SPURIOUS=0", "lost_order"},
	{"lease.pml", "no_fence", "TERMS=2 DECISIONS=1 KILLS=0 RESTARTS=0 SPURIOUS=0", "lost_order"},
	{"lease.pml", "ledger_read_before_fence", "TERMS=2 DECISIONS=1 KILLS=0 RESTARTS=0 SPURIOUS=0", "lost_order"},
	{"lease.pml", "order_before_ledger", "TERMS=2 DECISIONS=1 KILLS=0 RESTARTS=0 SPURIOUS=0", "lost_order"},
	{"lease.pml", "no_lease_check", "TERMS=2 DECISIONS=1 KILLS=0 RESTARTS=0 SPURIOUS=0 BLIND", "lost_order"},
	{"lease.pml", "leases_before_orders", "TERMS=2 DECISIONS=2 KILLS=0 RESTARTS=1 SPURIOUS=0 BLIND", "lost_order"},
	{"lease.pml", "fence_falls_at_restart", "TERMS=2 DECISIONS=1 KILLS=1 RESTARTS=0 SPURIOUS=0", "lost_order"},
	{"lease.pml", "fence_of_own_seat", "TERMS=2 DECISIONS=1 KILLS=0 RESTARTS=0 SPURIOUS=0 CROSSED BLIND", "lost_order"},
	{"lease.pml", "unreadable_lease_ignored", "TERMS=2 DECISIONS=2 KILLS=0 RESTARTS=0 SPURIOUS=1 TEARS=2", "older_order"},
	{"lease.pml", "last_seat_wins", "TERMS=2 DECISIONS=2 KILLS=0 RESTARTS=0 SPURIOUS=0", "order_unseen"},
	{"lease.pml", "receipt_before_effect", "TERMS=2 DECISIONS=1 KILLS=0 RESTARTS=0 SPURIOUS=0", "false_receipt"},
	{"lease.pml", "no_file", "TERMS=2 DECISIONS=1 KILLS=0 RESTARTS=1 SPURIOUS=0", "order_unseen"},
	{"lease.pml", "no_slow_tick", "TERMS=2 DECISIONS=1 KILLS=0 RESTARTS=0 SPURIOUS=0", "order_unseen"},

	{"conflict.pml", "favour_forgotten", "MEMBERS=2 KILLS=0 DOWNS=2", "both_moved"},
	{"conflict.pml", "no_stamps", "MEMBERS=2 KILLS=0 DOWNS=2", "incumbent_moved"},
	{"conflict.pml", "no_hold", "MEMBERS=2 KILLS=0 DOWNS=2", "guard_taken_back"},
	{"conflict.pml", "order_before_ledger", "MEMBERS=2 KILLS=1 DOWNS=0", "guard_taken_back"},
	{"conflict.pml", "used_guards_stay", "MEMBERS=2 KILLS=0 DOWNS=0", "unresolved"},
	{"conflict.pml", "operator_not_told", "MEMBERS=3 GUARDS=2 KILLS=0 DOWNS=0", "unresolved"},
	{"conflict.pml", "no_reservations", "MEMBERS=3 KILLS=0 DOWNS=0", "moved_into_conflict"},
}

func TestMutants(t *testing.T) {
	for _, m := range mutants {
		t.Run(strings.TrimSuffix(m.model, ".pml")+"/"+m.name, func(t *testing.T) {
			t.Parallel()
			if v := search(t, m.model, append(strings.Fields(m.defs), "MUTANT_"+m.name)); v.violated != m.breaks {
				t.Errorf("it breaks %q, want %q (%d states)\n%s", v.violated, m.breaks, v.states, v.trail)
			}
		})
	}
}

// TestComplete: every mutant that a model has is in the table, every property is
// broken by one, and docs/model/README.md names both.
func TestComplete(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(folder, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	models, err := filepath.Glob(filepath.Join(folder, "*.pml"))
	if err != nil || len(models) == 0 {
		t.Fatalf("no models in %s: %v", folder, err)
	}
	named := func(what, name string) {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/model/README.md does not name the %s %s", what, name)
		}
	}
	for _, path := range models {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		model := filepath.Base(path)
		for _, m := range regexp.MustCompile(`MUTANT_([a-z_]+)`).FindAllStringSubmatch(string(text), -1) {
			if !slices.ContainsFunc(mutants, func(x mutant) bool { return x.model == model && x.name == m[1] }) {
				t.Errorf("%s: no test has the mutant %s", model, m[1])
			}
			named("mutant", m[1])
		}
		properties := regexp.MustCompile(`(?m)^bool ([a-z_]+);\t/\*`).FindAllStringSubmatch(string(text), -1)
		if len(properties) < 4 {
			t.Errorf("%s: %d properties, want more", model, len(properties))
		}
		for _, p := range properties {
			broken := slices.ContainsFunc(mutants, func(x mutant) bool { return x.model == model && x.breaks == p[1] })
			if !strings.Contains(string(text), "PROVE("+p[1]+",") {
				t.Errorf("%s: %s is proved nowhere", model, p[1])
			}
			if !broken {
				t.Errorf("%s: no mutant breaks %s: it may hold for no reason", model, p[1])
			}
			named("property", p[1])
		}
	}
	for _, b := range bounds {
		if !strings.Contains(string(page), "`"+b.defs+"`") {
			t.Errorf("docs/model/README.md does not state the bounds %s of %s", b.defs, b.model)
		}
	}
}
