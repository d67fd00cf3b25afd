//go:build e2e

package hostile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"guardring/e2e/impostor"
	"guardring/e2e/rig"
)

// What a member may ask at its join with the default budgets (docs/SECURITY.md): so many claims, and so many guards that are new in its sample.
const (
	claimsAtJoin  = 3
	changesAtJoin = 26
)

// TestProbe: a gateway that asks for ever other guards, three at a time and as fast as it can, learns what its budget at join buys, from
// orders and from silence together, and nothing more. What it learns from then on in a day and a year is simulated (docs/ANONYMITY.md).
func TestProbe(t *testing.T) {
	s := newScene(t)
	s.rig.Protection = "levels: [relay, family]\n" // and the defaults
	if err := s.rig.WriteHostConfig(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	// A restart of everything is the plain way to other budgets; whoever has a seat takes it again.
	if err := s.server.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.server, err = s.rig.StartHost(ctx); err != nil {
		t.Fatal(err)
	}
	honest, err := impostor.Take(s.socket(first))
	if err != nil {
		t.Fatal(err)
	}
	defer honest.Close()
	if err := honest.Publish(sample(first)...); err != nil {
		t.Fatal(err)
	}
	s.await("the first gateway", func(st rig.Status) bool { return st.Holds(first+"/default", sample(first)[0].Fingerprint) })
	prober, err := impostor.Take(s.socket(hostile))
	if err != nil {
		t.Fatal(err)
	}
	defer prober.Close()

	const questions = 40
	told, claimed := map[string]bool{}, map[string]bool{}
	after := make([]int, questions)
	for n := range questions {
		// One of the guards that somebody has in use, and two that nobody has.
		ask := []impostor.Guard{sample(first)[n%20], invented(2 * n), invented(2*n + 1)}
		for k := range ask {
			ask[k].Primary, ask[k].InUse = true, false
		}
		if err := prober.Publish(append(ask, sample(hostile)[3:]...)...); err != nil {
			t.Fatal(err)
		}
		s.await(fmt.Sprintf("question %d is looked at", n), func(st rig.Status) bool {
			m := st.Member(hostile + "/default")
			for _, g := range m.Guards {
				if !g.Claimed.IsZero() {
					claimed[g.Fingerprint] = true
				}
			}
			return m.Publication.Seq == uint64(n+1)
		})
		if o, err := prober.AwaitOrder(0, 0); err == nil {
			for _, fp := range o.Exclusions {
				told[fp.String()] = true
			}
		}
		after[n] = len(claimed) + len(told)
	}
	learned := maps.Clone(told)
	maps.Copy(learned, claimed)
	t.Logf("figures: of %d guards in %d questions it was told of %d, and heard of %d more by silence; after each question: %v", 3*questions, questions, len(told), len(learned)-len(told), after)
	if len(told) == 0 {
		t.Error("it was told of none, so this shows nothing")
	}
	if len(learned) > claimsAtJoin+changesAtJoin {
		t.Errorf("it learned of %d guards, more than its budgets at join", len(learned))
	}
	if last := after[questions/2:]; last[0] != last[len(last)-1] {
		t.Errorf("it still learns when its budgets are spent: %v", slices.Compact(last))
	}
}

// invented is a guard that nobody has.
func invented(n int) impostor.Guard {
	return impostor.Guard{Fingerprint: fmt.Sprintf("EE%038X", n+1), Addr: fmt.Sprintf("11.%d.%d.1:9001", n/200, n%200)}
}
