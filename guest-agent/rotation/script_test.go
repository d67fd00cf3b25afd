package rotation

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// commandID is left out of the scripts: it counts queries too.
var commandID = regexp.MustCompile(` #\d+`)

// TestScripts runs testdata/*.txt: each is one trap, told as a script. Commands
// print the effects (setconf, write-include, close-circuit, publish, notice) in
// their order, and queries are left out. `go test -rewrite`, then review the diff.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		var a *agent
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "tor" {
				a = newAgent(newFakeTor(8), Config{})
			}
			a.log = nil
			runCommand(t, a, d)
			if len(a.log) == 0 {
				return "(nothing)\n"
			}
			return named(commandID.ReplaceAllString(strings.Join(a.log, "\n"), "")) + "\n"
		})
	})
}

func runCommand(t *testing.T, a *agent, d *datadriven.TestData) {
	switch d.Cmd {
	case "tor": // tor confirmed=(g0,g1,g2) cut observe
		for _, arg := range d.CmdArgs {
			switch arg.Key {
			case "confirmed":
				for _, v := range arg.Vals {
					a.tor.conf[guardNamed(v)] = true
				}
			case "enforce":
				a.cfg.Enforce = true
				*a = *newAgent(a.tor, a.cfg)
			case "cut":
				a.m.cfg.Cut, a.cfg.Cut = true, true
			case "observe":
				a.cfg.Observe = true
				*a = *newAgent(a.tor, a.cfg)
			case "gate":
				a.cfg.Gate = map[string]GateMode{"open": GateOpen, "closed": GateClosed}[arg.Vals[0]]
				*a = *newAgent(a.tor, a.cfg)
			case "network":
				fmt.Sscan(arg.Vals[0], &a.tor.network)
			default:
				d.Fatalf(t, "unknown argument %s", arg.Key)
			}
		}
	case "torrc": // lines of "Option value"; an option is replaced
		fresh := map[string]bool{}
		for _, l := range strings.Split(strings.TrimSpace(d.Input), "\n") {
			k, v, _ := strings.Cut(l, " ")
			if !fresh[k] {
				a.tor.torrc[k], fresh[k] = nil, true
			}
			if v != "" {
				a.tor.torrc[k] = append(a.tor.torrc[k], v)
			}
		}
	case "circuits": // lines of "ID GUARD PURPOSE [conflux=X] [streams=N] [onehop]"
		for _, l := range strings.Split(strings.TrimSpace(d.Input), "\n") {
			w := strings.Fields(l)
			conflux, flags := "", []string(nil)
			for _, x := range w[3:] {
				switch {
				case strings.HasPrefix(x, "conflux="):
					conflux = x[len("conflux="):]
				case x == "onehop":
					flags = append(flags, "ONEHOP_TUNNEL")
				case strings.HasPrefix(x, "stream="):
					a.tor.streams[x[len("stream="):]] = guardstate.CircuitID(w[0])
				}
			}
			a.tor.addCircuit(w[0], guardNamed(w[1]), w[2], conflux, flags...)
			if a.m.tor.up {
				a.step(CircuitChanged{Circuit: a.tor.circ[guardstate.CircuitID(w[0])]})
			}
		}
	case "up":
		a.up()
	case "down":
		a.step(ControlDown{Reason: "connection refused"})
	case "order": // order seq=2 guards=(g0,g1)
		var seq int
		d.ScanArgs(t, "seq", &seq)
		a.order(seq, guardsOf(d)...)
	case "answer": // answer seq=2 guards=(g0,g1): an order that was decided on the last publication
		var seq int
		d.ScanArgs(t, "seq", &seq)
		a.answer(seq, guardsOf(d)...)
	case "stream": // a user's stream begins
		a.step(a.tor.open(d.CmdArgs[0].Key)...)
	case "other-attaches": // another controller attaches a stream
		a.step(a.tor.attach(d.CmdArgs[0].Key)...)
	case "gate":
		g := a.m.Gate()
		a.log = append(a.log, fmt.Sprintf("%s waiting=%d let-go=%d because %s", g.State, g.Waiting, g.LetGo, g.Why))
		for _, id := range slices.Sorted(maps.Keys(a.tor.went)) {
			a.log = append(a.log, fmt.Sprintf("  stream %s went through %s", id, a.tor.went[id].Short()))
		}
		a.log = append(a.log, "  "+optionGate+"="+strings.Join(a.tor.values(optionGate), ","))
		for _, l := range strings.Split(a.tor.include.Text, "\n") {
			if strings.HasPrefix(l, gateWord) {
				a.log = append(a.log, "  "+l)
			}
		}
	case "stream-ends":
		var id string
		d.ScanArgs(t, "id", &id)
		delete(a.tor.streams, id)
		a.step(StreamChanged{Stream: guardstate.Stream{ID: id, Status: "CLOSED"}})
		a.sleep(2 * time.Second)
	case "sleep":
		dur, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		a.sleep(dur)
	case "hup":
		a.step(a.tor.hup())
		a.sleep(2 * time.Second)
	case "fresh": // guardring-guest fresh, with Tor stopped; the agent runs on
		a.step(ControlDown{Reason: "tor is stopped"})
		a.tor.include.Text = EmptyInclude()
		a.tor.hup()
		clear(a.tor.streams)
		clear(a.tor.conf)
	case "restart-tor":
		a.step(ControlDown{Reason: "tor restarts"})
		a.tor.hup()
		clear(a.tor.streams)
		a.up()
	case "restart-without-gate", "restart-with-gate":
		a.cfg.Gate = GateOff
		if d.Cmd == "restart-with-gate" {
			a.cfg.Gate = GateOpen
		}
		b := newAgent(a.tor, a.cfg)
		b.now = a.now
		*a = *b
		a.up()
	case "kill-agent": // and start it again: all that it knew is gone
		b := newAgent(a.tor, a.cfg)
		b.now, b.log = a.now, nil
		*a = *b
		a.up()
	case "other-controller": // other-controller value="accept *:443" | hostile
		for _, arg := range d.CmdArgs {
			if arg.Key == "unattached" {
				a.tor.set[optionGate] = arg.Vals
				a.step(ConfChanged{Keys: []string{optionGate}})
			} else if arg.Key == "hostile" {
				a.tor.hostile = true
				a.tor.set[optionOR] = []string{"accept *:*"}
			} else {
				a.tor.set[optionOR] = arg.Vals
			}
		}
		a.step(ConfChanged{Keys: []string{optionOR}})
		a.sleep(2 * time.Second)
	case "fail": // fail write | query=(circuits) | setconf | dumb-close | late-stream | probes | include-not-first | no-consensus; "fail none"
		a.tor.failRules, a.tor.failQuery = false, nil
		a.tor.failWrite, a.tor.refuse, a.tor.dumb, a.tor.probes, a.tor.hostile = false, nil, false, false, false
		a.tor.include.First, a.tor.include.Included, a.tor.live = true, true, true
		switch d.CmdArgs[0].Key {
		case "write":
			a.tor.failWrite = true
		case "enforce":
			a.tor.failRules = true
		case "query": // fail query=(circuits,config)
			a.tor.failQuery = d.CmdArgs[0].Vals
		case "setconf":
			a.tor.refuse = &TorError{Code: 553, Text: "Transition not allowed"}
		case "dumb-close":
			a.tor.dumb = true
		case "late-stream":
			a.tor.late = true
		case "probes":
			a.tor.probes = true
		case "include-not-first":
			a.tor.include.First, a.tor.include.Problem = false, "torrc sets ReachableORAddresses before it includes guardring's file: move the %include up"
		case "include-not-read":
			a.tor.include.Included, a.tor.include.Problem = false, "torrc does not include guardring's file: run guardring-guest join"
		case "no-consensus":
			a.tor.live = false
		}
	case "relay": // relay g0 addrs=(1.2.3.4:443,[::1]:443) | unlisted
		g := guardNamed(d.CmdArgs[0].Key)
		r := a.tor.relays[g]
		for _, arg := range d.CmdArgs[1:] {
			switch arg.Key {
			case "addrs":
				r.Addrs = nil
				for _, v := range arg.Vals {
					r.Addrs = append(r.Addrs, netip.MustParseAddrPort(v))
				}
				r.Listed = true
			case "unlisted":
				r.Listed, r.Addrs = false, nil
			}
		}
		a.tor.relays[g] = r
	case "consensus":
		a.step(ConsensusArrived{})
		a.sleep(2 * time.Second)
	case "restricted": // Tor changed to the restricted selection
		a.step(StateFile{State: stateIn(t, "restricted", a.tor.sample)})
		a.sleep(2 * time.Second)
	case "dropguards":
		s := a.tor.sample
		a.tor.sample = nil
		a.step(GuardChanged{Fingerprint: s[0], Status: "DROPPED"})
		a.tor.sample = s
		a.sleep(10 * time.Second)
	case "dormant":
		a.tor.dormant = true
		a.tor.circ = map[guardstate.CircuitID]guardstate.Circuit{}
		a.sleep(2 * time.Minute)
	case "clock": // the wall clock jumps, and the agent that knew the time before is killed: clock -1h
		dur, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		b := newAgent(a.tor, a.cfg)
		b.now = a.now.Add(dur)
		*a = *b
	case "stop": // the agent ends
		a.step(Stop{})
		a.log = append(a.log, fmt.Sprintf("ending=%t", a.m.Ending()))
	case "up-leaving", "up-stopping": // at once, before Tor was asked
		a.step(ControlUp{TorVersion: "0.4.9.11"}, map[string]Event{"up-leaving": Leave{}, "up-stopping": Stop{}}[d.Cmd])
		a.sleep(2 * time.Second)
	case "leave":
		a.step(Leave{})
		a.sleep(2 * time.Second)
	case "show":
		show(a)
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
}

// guardsOf are the guards that a line names: guards=(g0,g1).
func guardsOf(d *datadriven.TestData) (all []guardstate.Fingerprint) {
	for _, arg := range d.CmdArgs {
		if arg.Key == "guards" {
			for _, v := range arg.Vals {
				all = append(all, guardNamed(v))
			}
		}
	}
	return all
}

// show prints what Tor, file and publication look like now.
func show(a *agent) {
	a.log = append(a.log, "option:")
	for _, l := range a.tor.values(optionOR) {
		a.log = append(a.log, "  "+l)
	}
	a.log = append(a.log, "file:")
	for _, l := range strings.Split(strings.TrimPrefix(a.tor.include.Text, includeHead), "\n") {
		if l != "" {
			a.log = append(a.log, "  "+l)
		}
	}
	if a.last == nil {
		return
	}
	a.log = append(a.log, fmt.Sprintf("published: seq=%d flags=%#x", a.last.Seq, a.last.Flags))
	for _, g := range a.last.Guards {
		a.log = append(a.log, fmt.Sprintf("  %s %s", g.Fingerprint.Short(), guardFlags(g.Flags)))
	}
}

func guardFlags(f shmproto.GuardFlags) string {
	names := []string{"confirmed", "listed", "filtered", "PRIMARY", "possible", "IN-USE", "EXCLUDED", "down", "bridge"}
	var out []string
	for i, n := range names {
		if f&(1<<i) != 0 {
			out = append(out, n)
		}
	}
	return strings.Join(out, " ")
}

func stateIn(t *testing.T, selection string, sample []guardstate.Fingerprint) guardstate.State {
	var b strings.Builder
	for i, f := range sample {
		fmt.Fprintf(&b, "Guard in=%s rsa_id=%s sampled_on=2026-11-01T00:00:00 sampled_idx=%d listed=1\n", selection, f, i)
	}
	b.WriteString("LastWritten 2026-11-21 10:20:13\nTorVersion Tor 0.4.9.11\n")
	s, err := guardstate.ParseState(b.String())
	if err != nil {
		t.Fatal(err)
	}
	return s
}
