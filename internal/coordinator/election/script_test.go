package election

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"guardring/shmproto"
)

// TestScripts: events as commands, printed actions and the state after them.
//
//	new seat=0 epoch=7 highest=3 [own-term=2 own-epoch=7]
//	tick [n=4] [epoch=7 term=5 beat=9 acting]     (the other seat's lease)
//	looked | written [the same]
//	claimed | taken highest=5 | fenced | read | stood-down | failed | stop
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var m *Machine
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			number := func(key string, def uint64) uint64 {
				if d.HasArg(key) {
					d.ScanArgs(t, key, &def)
				}
				return def
			}
			lease := func() (l shmproto.Lease) {
				if d.HasArg("term") || d.HasArg("beat") || d.HasArg("epoch") {
					l = shmproto.Lease{Epoch: shmproto.Epoch{Number: number("epoch", 7)}, Term: shmproto.Term(number("term", 0)), Heartbeat: number("beat", 0), Acting: d.HasArg("acting")}
				}
				return l
			}
			if d.Cmd == "new" {
				var actions []Action
				var err error
				m, actions, err = New(Config{
					Seat: int(number("seat", 0)), Epoch: shmproto.Epoch{Number: number("epoch", 7)}, Highest: shmproto.Term(number("highest", 0)),
					Own: shmproto.Lease{Epoch: shmproto.Epoch{Number: number("own-epoch", 0)}, Term: shmproto.Term(number("own-term", 0))},
				})
				if err != nil {
					return err.Error()
				}
				return describe(m, actions)
			}
			event := map[string]Event{
				"tick": Tick{lease()}, "looked": Looked{lease()}, "written": LedgerWritten{lease()}, "claimed": Claimed{},
				"taken": Taken{shmproto.Term(number("highest", 0))}, "fenced": Fenced{}, "read": LedgerRead{},
				"stood-down": StoodDown{}, "failed": Failed{}, "stop": Stop{},
			}[d.Cmd]
			if event == nil {
				return "unknown command"
			}
			var actions []Action
			for range number("n", 1) {
				actions = append(actions, m.Step(event)...)
			}
			return describe(m, actions)
		})
	})
}

func describe(m *Machine, actions []Action) string {
	var b strings.Builder
	for _, a := range actions {
		fmt.Fprintln(&b, a)
	}
	fmt.Fprintf(&b, "-> %s", m.State())
	if why := m.Blocked(); why != "" {
		fmt.Fprintf(&b, " (%s)", why)
	}
	return b.String() + "\n"
}

func TestConfigIsChecked(t *testing.T) {
	if _, _, err := New(Config{Seat: 2}); err == nil || !strings.Contains(err.Error(), "seat 2") || !strings.Contains(err.Error(), "no epoch") {
		t.Errorf("got %v", err)
	}
}
