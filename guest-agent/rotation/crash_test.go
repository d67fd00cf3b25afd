package rotation

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// end is what a run leaves behind: all that a user or another gateway can see.
type end struct {
	Option   []string
	File     string
	Circuits []guardstate.CircuitID
	Receipt  string
	Guards   []string
}

func endOf(a *agent) end {
	e := end{Option: a.tor.values(optionOR), File: a.tor.include.Text}
	for id := range a.tor.circ {
		e.Circuits = append(e.Circuits, id)
	}
	slices.Sort(e.Circuits)
	if a.last != nil {
		e.Receipt = receiptName(a.last.Receipt)
		for _, g := range a.last.Guards {
			// Primaries that history decides are not known after a restart.
			e.Guards = append(e.Guards, g.Fingerprint.Short()+" "+guardFlags(g.Flags&^shmproto.GuardPossiblePrimary))
		}
	}
	return e
}

// crashCases are changes in whose middle the agent is killed. Each starts from a
// member with one exclusion in force.
var crashCases = map[string][]guardstate.Fingerprint{
	"first of all":  {guard(0)},
	"one more":      {guard(0), guard(1)},
	"another one":   {guard(1)},
	"all lifted":    {},
	"unconfirmed":   {guard(0), guard(3)},
	"three at once": {guard(1), guard(2), guard(4)},
}

func crashTor(userList bool) *fakeTor {
	f := newFakeTor(8)
	for i := range 3 {
		f.conf[guard(i)] = true
	}
	if userList {
		f.torrc[optionOR] = []string{"reject 10.7.0.0/16, accept *:443", "accept *:9001"}
	}
	for i := range 6 {
		f.addCircuit(fmt.Sprint(i+1), guard(i%3), "GENERAL", "")
	}
	f.addCircuit("8", guard(0), "CONFLUX_LINKED", "AA")
	f.addCircuit("9", guard(1), "CONFLUX_LINKED", "AA")
	return f
}

// TestKilledAtEachEffect kills the agent before and after each command and file
// write of a change, starts it anew with nothing but Tor, the file and the
// order, and wants the same end as without the kill. A HUP or a restart of Tor
// in between must not matter either.
func TestKilledAtEachEffect(t *testing.T) {
	for name, guards := range crashCases {
		for _, userList := range []bool{false, true} {
			for _, between := range []string{"nothing", "hup", "restart"} {
				t.Run(fmt.Sprintf("%s/userlist=%t/%s", name, userList, between), func(t *testing.T) {
					run := func(kill int) (*agent, int) {
						a := newAgent(crashTor(userList), Config{})
						a.up()
						if name != "first of all" {
							a.order(1, guard(0))
						}
						effects := 0
						a.stop = func(Action) bool { effects++; return effects-1 == kill }
						a.order(2, guards...)
						if a.dead {
							b := newAgent(a.tor, a.cfg)
							b.now = a.now
							switch between {
							case "hup", "restart":
								a.tor.hup()
							}
							b.up()
							b.order(2, guards...)
							a = b
						}
						return a, effects
					}
					whole, effects := run(-1)
					want := endOf(whole)
					if want.Receipt != "applied" {
						t.Fatalf("without a kill the receipt is %q", want.Receipt)
					}
					for kill := range effects {
						got, _ := run(kill)
						if d := cmp.Diff(want, endOf(got)); d != "" {
							t.Errorf("killed at effect %d of %d (-want +got):\n%s", kill, effects, d)
						}
					}
				})
			}
		}
	}
}

// TestOrderOfEffects: option, then file, then circuits, then applied, and never
// anything but these commands.
func TestOrderOfEffects(t *testing.T) {
	for name, guards := range crashCases {
		a := newAgent(crashTor(true), Config{})
		a.up()
		a.order(1, guards...)
		rank := map[string]int{"setconf": 1, "resetconf": 1, "write-include": 2, "close-circuit": 3}
		at := 0
		for _, l := range a.log {
			word, _, _ := strings.Cut(l, " ")
			r := rank[word]
			if strings.Contains(l, "receipt=applied") {
				r = 4
			}
			if r == 0 {
				continue
			}
			if r < at {
				t.Errorf("%s: %q after an effect of rank %d:\n%s", name, l, at, strings.Join(a.log, "\n"))
			}
			at = r
		}
		if at != 4 {
			t.Errorf("%s: never applied:\n%s", name, strings.Join(a.log, "\n"))
		}
	}
}
