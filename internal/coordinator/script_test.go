package coordinator

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// TestScripts runs the rules' examples in testdata. A script begins with
//
//	new [policy=observe] [claims=N] [gateway-claims=N] [exclusions=N] [levels=none|family|subnet|family+subnet] [group=NAME:G1+G2]...
//	    [budgets=default [claims-free]] [delay=default|FROM-TO]
//
// Without budgets and delay there is no limit, and used guards are moved at once.
//
// Each "run" has one event per line, and prints what the core asks for:
//
//	publish GW[/INSTANCE][@SLOT] [att=N] [inc=N] [seq=N] [n=N] [pass=N] [state=S] [sel=S] [flags=F,F]
//	        [receipt=STATUS[:REASON-NUMBER]] [layer2=G1+G2] [layer3=G1+G2] [= | GUARD...]
//	tick DURATION        gateway GW on|off [GENERATION]      violate GW [N]      allow GW[/INSTANCE]
//	consensus [GUARD...] the operator's file (none: there is none any more)
//	obey GW[/INSTANCE]   Tor does what its order says, and answers
//	restart [policy=P]   a new core from what was saved
//	state | claims | orders | budgets
//
// A guard is Gn, then its flags: G1:primary,inuse,confirmed,possible,excluded,
// down,bridge,unfiltered,unlisted. Then, each after a slash, its addresses, the
// relays that its family list names (fam=G2+G3), its family identities (id=X+Y);
// "fam=" says that it has no family. Without unfiltered and unlisted it passes the
// filter and is in the consensus. "=" repeats the guards of the last time. seq
// grows by itself.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/rules", func(t *testing.T, path string) {
		var s *script
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "new" {
				s = newScript(t, d.CmdArgs)
				return "ok"
			}
			s.t = t
			s.h.t = t
			s.out.Reset()
			for line := range strings.Lines(d.Input) {
				if line = strings.TrimSpace(line); line != "" {
					fmt.Fprintf(&s.out, "> %s\n", line)
					s.line(strings.Fields(line))
				}
			}
			return s.out.String()
		})
	})
}

type script struct {
	t    testing.TB
	h    *harness
	now  time.Time
	tors map[Member]*fakeTor
	out  strings.Builder
}

func newScript(t testing.TB, args []datadriven.CmdArg) *script {
	cfg := atWill(Config{Policy: PolicyDisjoint})
	for _, a := range args {
		v := ""
		if len(a.Vals) > 0 {
			v = a.Vals[0]
		}
		switch a.Key {
		case "policy":
			cfg.Policy = Policy(v)
		case "claims":
			cfg.MaxClaims = atoi(t, v)
		case "gateway-claims":
			cfg.MaxGatewayClaims = atoi(t, v)
		case "exclusions":
			cfg.MaxExclusions = atoi(t, v)
		case "levels":
			cfg.Levels = levelSets[v]
		case "group":
			name, relays, _ := strings.Cut(v, ":")
			cfg.Groups = append(cfg.Groups, Group{name, fingerprints(t, relays)})
		case "budgets":
			if v != "default" {
				t.Fatalf("new: budgets=%s", v)
			}
			cfg.Budgets = Budgets{NewClaims: cfg.Budgets.NewClaims}
			if !slices.ContainsFunc(args, func(a datadriven.CmdArg) bool { return a.Key == "claims-free" }) {
				cfg.Budgets.NewClaims = Budget{}
			}
		case "claims-free":
		case "delay":
			cfg.DelayMin, cfg.DelayMax = 0, 0
			if least, most, ok := strings.Cut(v, "-"); ok {
				cfg.DelayMin, cfg.DelayMax = duration(t, least), duration(t, most)
			} else if v != "default" {
				t.Fatalf("new: delay=%s", v)
			}
		default:
			t.Fatalf("new: unknown argument %s", a.Key)
		}
	}
	return &script{t: t, h: newHarness(t, cfg), now: testStart, tors: map[Member]*fakeTor{}}
}

var levelSets = map[string]Levels{"none": RelayOnly, "family": WithFamily, "subnet": WithSubnet, "family+subnet": WithFamily | WithSubnet}

// fingerprints reads "G1+G2".
func fingerprints(t testing.TB, text string) (fs []guardstate.Fingerprint) {
	for name := range strings.SplitSeq(text, "+") {
		if name != "" {
			fs = append(fs, fp(atoi(t, strings.TrimPrefix(name, "G"))))
		}
	}
	return fs
}

func atoi(t testing.TB, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (s *script) line(f []string) {
	s.t.Helper()
	switch f[0] {
	case "publish":
		s.publish(f[1:])
	case "obey":
		m, _ := s.member(f[1])
		tor := s.tors[m]
		tor.obey(s.h.seats[seatKey{m.Gateway, tor.slot}])
		s.show(tor)
	case "tick":
		s.now = s.now.Add(duration(s.t, f[1]))
		s.print(s.h.step(Tick{s.now}))
	case "gateway":
		e := GatewaySeen{At: s.now, Gateway: f[1], Present: f[2] == "on"}
		if len(f) > 3 {
			e.Generation = f[3]
		}
		s.print(s.h.step(e))
	case "consensus":
		e := ConsensusRead{At: s.now}
		for _, w := range f[1:] {
			g := s.guard(w)
			x := Facts{Relay: g.Fingerprint}
			if f := stated(nil, &g); f != nil {
				x = *f.export(g.Fingerprint)
			}
			e.Guards = append(e.Guards, x)
		}
		s.print(s.h.step(e))
	case "violate":
		n := 1
		if len(f) > 2 {
			n = atoi(s.t, f[2])
		}
		for range n {
			s.print(s.h.step(Violated{At: s.now, Gateway: f[1], Reason: "checksum"}))
		}
	case "allow":
		gateway, instance, _ := strings.Cut(f[1], "/")
		s.print(s.h.step(Allowed{At: s.now, Gateway: gateway, Instance: instance}))
	case "restart":
		if len(f) > 1 {
			s.h.cfg.Policy = Policy(strings.TrimPrefix(f[1], "policy="))
		}
		s.h.start()
	case "state":
		s.state()
	case "claims":
		for _, m := range s.h.core.members {
			for _, cl := range m.claims {
				fmt.Fprintf(&s.out, "  %s %s%s\n", m.name, describeClaim(cl.key, cl.stamp, cl.used, cl.left), describeFacts(cl.facts.export(cl.relay())))
			}
		}
	case "budgets":
		for _, m := range s.h.core.State().Members {
			fmt.Fprintf(&s.out, "  %s", m.Member)
			for _, b := range m.Budgets {
				fmt.Fprintf(&s.out, " %s=%d/%d", b.Name, b.Left, b.Burst)
				if !b.Next.IsZero() {
					fmt.Fprintf(&s.out, "(next %s)", b.Next.Format(time.RFC3339))
				}
				if b.Waiting > 0 {
					fmt.Fprintf(&s.out, "(%d waiting)", b.Waiting)
				}
			}
			s.out.WriteString("\n")
		}
	case "orders":
		for _, o := range s.h.core.Orders() {
			fmt.Fprintf(&s.out, "  %s\n", describeOrder(o))
		}
	default:
		s.t.Fatalf("unknown line %q", f)
	}
}

// duration reads a Go duration, or days as in 60d.
func duration(t testing.TB, text string) time.Duration {
	t.Helper()
	if n, ok := strings.CutSuffix(text, "d"); ok {
		return time.Duration(atoi(t, n)) * day
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (s *script) member(text string) (m Member, slot int) {
	text, at, ok := strings.Cut(text, "@")
	if ok {
		slot = atoi(s.t, at)
	}
	gateway, instance, ok := strings.Cut(text, "/")
	if !ok {
		instance = "default"
	}
	return Member{gateway, instance}, slot
}

var (
	stateNames = map[string]shmproto.MemberState{"absent": shmproto.MemberAbsent, "present": shmproto.MemberPresent,
		"observe": shmproto.MemberObserveOnly, "refused": shmproto.MemberRefused, "left": shmproto.MemberLeft}
	selectionNames = map[string]shmproto.Selection{"unknown": shmproto.SelectionUnknown, "default": shmproto.SelectionDefault,
		"restricted": shmproto.SelectionRestricted, "bridges": shmproto.SelectionBridges}
	memberFlagNames = map[string]shmproto.MemberFlags{"dormant": shmproto.MemberDormant, "ambiguous": shmproto.MemberAmbiguous,
		"noconsensus": shmproto.MemberNoConsensus, "unreachable": shmproto.MemberUnreachable, "few": shmproto.MemberFewGuards,
		"truncated": shmproto.MemberTruncated, "gated": shmproto.MemberGated, "onion": shmproto.MemberOnionService}
	guardFlagNames = map[string]shmproto.GuardFlags{"primary": shmproto.GuardPrimary, "inuse": shmproto.GuardInUse,
		"confirmed": shmproto.GuardConfirmed, "possible": shmproto.GuardPossiblePrimary, "excluded": shmproto.GuardExcluded,
		"down": shmproto.GuardDown, "bridge": shmproto.GuardBridge}
	receiptNames = map[string]shmproto.ReceiptStatus{"none": shmproto.ReceiptNone, "pending": shmproto.ReceiptPending,
		"applied": shmproto.ReceiptApplied, "refused": shmproto.ReceiptRefused, "failed": shmproto.ReceiptFailed}
)

func named[T any](s *script, names map[string]T, name string) T {
	s.t.Helper()
	v, ok := names[name]
	if !ok {
		s.t.Fatalf("%q is none of %v", name, names)
	}
	return v
}

func (s *script) publish(f []string) {
	s.t.Helper()
	m, slot := s.member(f[0])
	tor := s.tors[m]
	if tor == nil {
		tor = &fakeTor{gateway: m.Gateway, using: 1, pub: shmproto.Publication{Attachment: 1, Incarnation: 1, Member: m.Instance,
			State: shmproto.MemberPresent, Selection: shmproto.SelectionDefault, NumPrimary: 3, PassPercent: 100}}
		s.tors[m] = tor
	}
	tor.slot = slot
	p := &tor.pub
	p.Seq++
	p.Flags = 0
	keep := false
	var guards []shmproto.Guard
	for _, w := range f[1:] {
		key, value, ok := strings.Cut(w, "=")
		switch {
		case w == "=":
			keep = true
		case !ok || guardWord.MatchString(w):
			guards = append(guards, s.guard(w))
		case key == "att":
			p.Attachment = shmproto.Attachment(atoi(s.t, value))
		case key == "inc":
			p.Incarnation = shmproto.Incarnation(atoi(s.t, value))
		case key == "seq":
			p.Seq = shmproto.Seq(atoi(s.t, value))
		case key == "n":
			p.NumPrimary = uint8(atoi(s.t, value))
		case key == "pass":
			p.PassPercent = uint8(atoi(s.t, value))
		case key == "state":
			p.State = named(s, stateNames, value)
		case key == "sel":
			p.Selection = named(s, selectionNames, value)
		case key == "layer2":
			p.Layer2 = fingerprints(s.t, value)
		case key == "layer3":
			p.Layer3 = fingerprints(s.t, value)
		case key == "flags":
			for _, name := range strings.Split(value, ",") {
				p.Flags |= named(s, memberFlagNames, name)
			}
		case key == "receipt":
			status, reason, _ := strings.Cut(value, ":")
			n := 0
			if reason != "" {
				n = atoi(s.t, reason)
			}
			tor.answer(s.h.seats[seatKey{m.Gateway, slot}], named(s, receiptNames, status), shmproto.ReceiptReason(n))
		case key == "digest": // of an order with other guards
			p.Receipt.Digest[0] ^= 1
		default:
			s.t.Fatalf("publish: unknown word %q", w)
		}
	}
	if !keep {
		p.Guards = guards
	}
	s.show(tor)
}

func (s *script) show(tor *fakeTor) {
	p := tor.pub
	s.print(s.h.step(Published{At: s.now, Gateway: tor.gateway, Slot: tor.slot, Publication: &p}))
}

func (s *script) guard(text string) shmproto.Guard {
	s.t.Helper()
	text, known, _ := strings.Cut(text, "/")
	name, flags, _ := strings.Cut(text, ":")
	g := shmproto.Guard{Fingerprint: fp(atoi(s.t, strings.TrimPrefix(name, "G"))), Flags: shmproto.GuardListed | shmproto.GuardFiltered}
	for word := range strings.SplitSeq(known, "/") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "":
		case "fam":
			g.Flags |= shmproto.GuardFamilyStated
			g.Family = fingerprints(s.t, value)
		case "id":
			g.Flags |= shmproto.GuardFamilyStated
			for id := range strings.SplitSeq(value, "+") {
				g.FamilyIDs = append(g.FamilyIDs, [32]byte([]byte(fmt.Sprintf("%-32s", id))))
			}
		default:
			a, err := netip.ParseAddr(word)
			if err != nil {
				s.t.Fatal(err)
			}
			g.Addrs = append(g.Addrs, netip.AddrPortFrom(a, 443))
		}
	}
	for flag := range strings.SplitSeq(flags, ",") {
		switch flag {
		case "":
		case "unlisted":
			g.Flags &^= shmproto.GuardListed
		case "unfiltered":
			g.Flags &^= shmproto.GuardFiltered
		default:
			g.Flags |= named(s, guardFlagNames, flag)
		}
	}
	return g
}
