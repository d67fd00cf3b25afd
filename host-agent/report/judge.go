package report

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
)

type reporter = func(v Verdict, hint, format string, args ...any)

const (
	hintLook  = "look at guardring-guest status in that gateway"
	hintFresh = "run guardring-guest fresh in it: it gets a new sample once, with its Tor stopped, and is not charged"
)

// pacedTime is how long a gateway that was too fast is named.
const pacedTime = time.Minute

// judgeServer names what gateways did to the server's sockets and headers.
func judgeServer(server json.RawMessage, problem reporter) {
	var d struct {
		Gateways []struct {
			Name     string
			Troubles []struct {
				What  string
				Times uint64
			}
		}
	}
	// Another version's document is no reason to say nothing of the rest.
	if json.Unmarshal(server, &d) != nil {
		return
	}
	for _, g := range d.Gateways {
		for _, t := range g.Troubles {
			problem(Warning, "look at the server's log, which names the process", "gateway %s, in the last minute: %s (%s since the server's start)", g.Name, t.What, english.Plural(int(t.Times), "time", ""))
		}
	}
}

// hintAllow is the command that lets a member spend more than its budget.
func hintAllow(member string) string {
	return fmt.Sprintf("guardring allow %s --once", shortMember(member))
}

// shortMember leaves the instance out where it is the only one by custom.
func shortMember(member string) string { return strings.TrimSuffix(member, "/default") }

func judgeSelf(self Self, problem reporter) {
	if self.LedgerError != "" {
		problem(Critical, "free space or mend permissions there; a corrupt ledger is replaced with: guardring ledger rebuild", "the ledger cannot be used, so nothing is ordered: %s", self.LedgerError)
	}
	if self.JournalError != "" {
		problem(Warning, "free space in the run directory; what is decided meanwhile cannot be explained or replayed", "decisions are not written down: %s", self.JournalError)
	}
	if self.ConsensusError != "" {
		problem(Warning, "mend the file that consensus: names; the last good one counts on", "the consensus file cannot be used: %s", self.ConsensusError)
	}
}

func judgeDocument(d Document, problem reporter) {
	judgeSelf(d.Self, problem)
	for _, c := range d.Conflicts {
		judgeConflict(c, problem)
	}
	switch {
	case len(d.Gateways) == 0:
		problem(Warning, "make one: guardring gateway create or attach; or list it under gateways: in the configuration", "no gateway is configured")
	case len(d.Members) == 0:
		problem(Warning, "start the agent in each gateway: systemctl start guardring-guest (by hand: guardring-guest run)", "no gateway has a member yet")
	}
	for _, m := range d.Members {
		judgeMember(m, problem)
		judgeOrigin(m, d.At, problem)
		judgeBudgets(m, problem)
	}
	for _, g := range d.Gateways {
		if g.Fault != "" {
			problem(Critical, "look at the server's log; if the gateway writes into its region's header, it is hostile or broken", "gateway %s is not watched: %s", g.Name, g.Fault)
		}
		if !g.Quarantine.IsZero() {
			problem(Warning, "it comes back by itself when it publishes correctly; restart the agent in that gateway", "gateway %s is quarantined since %s: %s", g.Name, g.Quarantine.Format(time.DateTime), g.Reason)
		}
	}
	for _, g := range d.Gateways {
		if !g.Paced.IsZero() && d.At.Sub(g.Paced) < pacedTime {
			problem(Warning, "it is looked at all the same, at a bounded pace; an agent that rings or changes its mind so often is broken, or hostile", "gateway %s rings, or changes what it says, faster than an honest one does", g.Name)
		}
	}
	for _, c := range d.Contradictions {
		other := c.Other
		if other == "" {
			other = "your consensus file"
		}
		what := "family"
		if c.Level == "subnet" {
			what = "addresses"
		}
		problem(Warning, "one of the two has an old consensus, or lies; it passes when they agree", "%s and %s do not agree on the %s of a guard that is held, so only the relay itself counts there", c.One, other, what)
	}
	for _, l := range d.Layers {
		problem(OK, "", "%s pin the same relay in layer %d (vanguards); guardring does not change that", strings.Join(l.Members, " and "), l.Layer)
	}
}

// what words a conflict. Without fingerprints: monitoring logs what it gets.
func (c Conflict) what() string {
	switch c.Level {
	case "family":
		return fmt.Sprintf("%s and %s have guards of one family", c.Incumbent, c.Newcomer)
	case "subnet":
		return fmt.Sprintf("%s and %s have guards in one network (/16, or /32 of IPv6)", c.Incumbent, c.Newcomer)
	}
	return fmt.Sprintf("%s and %s share a guard", c.Incumbent, c.Newcomer)
}

func judgeConflict(c Conflict, problem reporter) {
	text := c.what()
	// That one relay sees two activities, and nothing is under way, is the worst
	// that there is; what one operator or one network may see is less sure.
	lasting := Critical
	if c.Level != "relay" {
		lasting = Warning
	}
	switch c.State {
	case ConflictOrdered:
		problem(Warning, "", "%s; %s was told to give it up", text, c.Newcomer)
	case ConflictDelayed:
		problem(Warning, "", "%s; %s is told to give it up at %s (a random delay, see delay: in the configuration)", text, c.Newcomer, date(c.Due))
	case ConflictObserved:
		problem(Warning, "set policy: disjoint to have it resolved", "%s; %s came later and would be told to give it up, but the policy is observe", text, c.Newcomer)
	case ConflictAway:
		problem(Warning, "", "%s; %s is away, and is dealt with when it comes back", text, c.Newcomer)
	case ConflictBudget:
		when := ""
		if !c.Due.IsZero() {
			when = ", it has more on " + date(c.Due)
		}
		problem(lasting, hintAllow(c.Newcomer), "%s; %s stays: %s%s", text, c.Newcomer, orUnknown(c.Reason), when)
	case ConflictTolerated:
		problem(OK, "", "%s; nobody is told to move: %s", text, orUnknown(c.Reason))
	case ConflictClone:
		// Said of the member, once for all its guards.
	case ConflictUnanswered:
		problem(Critical, hintLook, "%s; %s does not answer", text, c.Newcomer)
	default:
		problem(lasting, hintLook, "%s; %s stays (%s)", text, c.Newcomer, orUnknown(c.Reason))
	}
}

func judgeMember(m Member, problem reporter) {
	has := func(flag string) bool { return slices.Contains(m.Flags, flag) }
	if m.State == "refused" {
		problem(Warning, "a relay cannot be a member; remove it, or run a separate Tor as client", "%s is a relay and is not protected", m.Member)
	}
	if m.State == "observe-only" {
		problem(Warning, "", "%s only observes: a guard that it shares is reported, never changed", m.Member)
	}
	if has("unreachable") {
		problem(Warning, hintLook, "%s cannot reach its Tor; its last guards count on", m.Member)
	}
	if has("few-guards") {
		problem(Warning, "its firewall, EntryNodes or the network leaves too few guards", "%s has too few guards to give any up", m.Member)
	}
	if has("gated") {
		problem(Warning, "", "%s waits at its join gate: its streams begin when its guards are clear, or when its limit passes", m.Member)
	}
	if has("truncated") {
		problem(OK, "", "%s has more guards or addresses than fit into its publication; those of the least use are not compared", m.Member)
	}
	if has("families-left-out") {
		problem(OK, "", "%s has a guard whose family does not fit into its publication; it is compared by itself and its network", m.Member)
	}
	if m.Excess > 0 {
		problem(Warning, "", "%s holds %s more than it may claim; those are not protected", m.Member, english.Plural(m.Excess, "guard", ""))
	}
}

// judgeOrigin speaks of copied and restored gateways.
func judgeOrigin(m Member, at time.Time, problem reporter) {
	if m.CloneOf != "" {
		problem(Critical, hintFresh, "%s is a clone of %s: the two have the same guards", m.Member, m.CloneOf)
	}
	if m.RolledBack.IsZero() {
		return
	}
	v := Critical
	if at.Sub(m.RolledBack) > 24*time.Hour {
		v = Warning // it was said for a day; its guards are watched as a newcomer's
	}
	problem(v, "if a snapshot was restored on purpose: "+hintFresh, "%s came back on %s in a state that it had left (a restored snapshot?)", m.Member, date(m.RolledBack))
}

// judgeBudgets names what a spent budget leaves undone. What it is about forced
// changes is said with the conflict.
func judgeBudgets(m Member, problem reporter) {
	if !m.Allowed.IsZero() {
		problem(OK, "", "%s may spend more than its budgets once, as you allowed on %s", m.Member, date(m.Allowed))
	}
	for _, b := range m.Budgets {
		if b.Waiting == 0 {
			continue
		}
		when := ""
		if !b.Next.IsZero() {
			when = " before " + date(b.Next)
		}
		switch b.Name {
		case "new-claims":
			problem(Warning, hintAllow(m.Member), "%s of %s cannot be protected%s: its budget of new claims is spent", english.Plural(b.Waiting, "guard", ""), m.Member, when)
		case "sample-changes":
			problem(Warning, hintAllow(m.Member), "%s of %s cannot be looked at%s: its budget of sample changes is spent", english.Plural(b.Waiting, "new guard", ""), m.Member, when)
		}
	}
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func orUnknown(s string) string {
	if s == "" {
		return "no reason known"
	}
	return s
}
