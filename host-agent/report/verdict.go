package report

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Verdict is a monitoring plugin's answer; its number is the exit code of
// `guardring status --check` (Nagios plugin guidelines).
type Verdict int

// The verdicts.
const (
	OK       Verdict = 0 // no guard is shared, and everything that should run runs
	Warning  Verdict = 1 // protected, but look; or a conflict is being resolved
	Critical Verdict = 2 // two members share a guard and nothing will change that, or nobody coordinates
	Unknown  Verdict = 3 // nothing can be said
)

// String returns the word that stands before the report.
func (v Verdict) String() string {
	return [...]string{"ok", "warning", "critical", "unknown"}[v]
}

// MarshalText writes the form of String.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// Problem is one thing that is wrong, and what to do.
type Problem struct {
	Verdict Verdict `json:"verdict"`
	Text    string  `json:"text"`
	Hint    string  `json:"hint,omitempty"`
}

// Status is everything that `guardring status` knows.
type Status struct {
	Verdict      Verdict         `json:"verdict"`
	Summary      string          `json:"summary"` // one line
	Problems     []Problem       `json:"problems"`
	Coordinators []Self          `json:"coordinators"` // those that answer; the acting one first
	Policy       string          `json:"policy,omitempty"`
	Epoch        string          `json:"epoch,omitempty"`
	Term         uint64          `json:"term,omitempty"`
	Doorbells    uint64          `json:"doorbells"`
	At           time.Time       `json:"at,omitzero"`
	Gateways     []Gateway       `json:"gateways"`
	Members      []Member        `json:"members"`
	Conflicts    []Conflict      `json:"conflicts"`
	Server       json.RawMessage `json:"server,omitempty"` // the server's own document
}

// Answers is what the status sockets gave. An error stands for a socket that
// gave nothing.
type Answers struct {
	Server       json.RawMessage
	ServerErr    error
	Coordinators []Document
	// CoordinatorErr: why no coordinator answered; only looked at if none did.
	CoordinatorErr error
}

// Judge puts the answers together. Pure.
func Judge(a Answers) Status {
	s := Status{Server: a.Server, Gateways: []Gateway{}, Members: []Member{}, Conflicts: []Conflict{}, Problems: []Problem{}, Coordinators: []Self{}}
	problem := func(v Verdict, hint, format string, args ...any) {
		s.Problems = append(s.Problems, Problem{v, fmt.Sprintf(format, args...), hint})
	}
	if a.ServerErr != nil {
		problem(Critical, "start it before any gateway: guardring run (or guardring serve)", "the server does not answer: %v", a.ServerErr)
	}
	docs := slices.Clone(a.Coordinators)
	slices.SortStableFunc(docs, func(a, b Document) int { return rank(a.Self) - rank(b.Self) })
	for _, d := range docs {
		s.Coordinators = append(s.Coordinators, d.Self)
	}
	switch {
	case len(docs) == 0:
		problem(Critical, "start one: guardring run (or guardring coordinate)", "no coordinator answers: %v", a.CoordinatorErr)
	case docs[0].Self.Role == RoleActing:
		s.take(docs[0])
		judgeDocument(docs[0], problem)
	default:
		problem(Warning, "an election takes a few seconds; if this lasts, look at the coordinator's log", "no coordinator acts yet")
		judgeSelf(docs[0].Self, problem)
	}
	for _, p := range s.Problems {
		s.Verdict = max(s.Verdict, p.Verdict)
	}
	s.Summary = s.summary()
	return s
}

// Shorten cuts every fingerprint to its first eight digits, in a copy.
func (s Status) Shorten() Status {
	d := Document{Members: s.Members, Conflicts: s.Conflicts}.Shorten()
	s.Members, s.Conflicts = d.Members, d.Conflicts
	return s
}

func rank(s Self) int {
	return slices.Index([]string{RoleActing, RoleElecting, RoleStandby}, s.Role)
}

func (s *Status) take(d Document) {
	s.Policy, s.Epoch, s.Term, s.Doorbells, s.At = d.Self.Policy, d.Self.Epoch, d.Self.Term, d.Self.Doorbells, d.At
	s.Gateways, s.Members, s.Conflicts = d.Gateways, d.Members, d.Conflicts
}

func (s *Status) summary() string {
	if s.Verdict != OK {
		for _, p := range s.Problems {
			if p.Verdict == s.Verdict {
				return p.Text
			}
		}
	}
	return fmt.Sprintf("%s, no guard is shared; coordinator %d acts (term %d)", count(len(s.Members), "member"), s.Coordinators[0].PID, s.Term)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

type reporter = func(v Verdict, hint, format string, args ...any)

func judgeSelf(self Self, problem reporter) {
	if self.LedgerError != "" {
		problem(Critical, "free space or mend permissions there; a corrupt ledger is replaced with: guardring ledger rebuild", "the ledger cannot be used, so nothing is ordered: %s", self.LedgerError)
	}
}

func judgeDocument(d Document, problem reporter) {
	judgeSelf(d.Self, problem)
	for _, c := range d.Conflicts {
		text := fmt.Sprintf("%s and %s share a guard", c.Incumbent, c.Newcomer)
		switch c.State {
		case ConflictOrdered:
			problem(Warning, "", "%s; %s was told to give it up", text, c.Newcomer)
		case ConflictObserved:
			problem(Warning, "set policy: disjoint to have it resolved", "%s; %s came later and would be told to give it up, but the policy is observe", text, c.Newcomer)
		case ConflictAway:
			problem(Warning, "", "%s; %s is away, and is dealt with when it comes back", text, c.Newcomer)
		case ConflictUnanswered:
			problem(Critical, "look at guardring-guest status in that gateway", "%s; %s does not answer", text, c.Newcomer)
		default:
			problem(Critical, "look at guardring-guest status in that gateway", "%s; %s stays (%s)", text, c.Newcomer, orUnknown(c.Reason))
		}
	}
	if len(d.Members) == 0 {
		problem(Warning, "start guardring-guest run in each gateway", "no gateway has a member yet")
	}
	for _, m := range d.Members {
		judgeMember(m, problem)
	}
	for _, g := range d.Gateways {
		if g.Fault != "" {
			problem(Critical, "look at the server's log; if the gateway writes into its region's header, it is hostile or broken", "gateway %s is not watched: %s", g.Name, g.Fault)
		}
		if !g.Quarantine.IsZero() {
			problem(Warning, "it comes back by itself when it publishes correctly; restart the agent in that gateway", "gateway %s is quarantined since %s: %s", g.Name, g.Quarantine.Format(time.DateTime), g.Reason)
		}
	}
}

func judgeMember(m Member, problem reporter) {
	if m.State == "refused" {
		problem(Warning, "a relay cannot be a member; remove it, or run a separate Tor as client", "%s is a relay and is not protected", m.Member)
	}
	if m.State == "observe-only" {
		problem(Warning, "", "%s only observes: a guard that it shares is reported, never changed", m.Member)
	}
	if slices.Contains(m.Flags, "unreachable") {
		problem(Warning, "look at guardring-guest status in that gateway", "%s cannot reach its Tor; its last guards count on", m.Member)
	}
	if slices.Contains(m.Flags, "few-guards") {
		problem(Warning, "its firewall, EntryNodes or the network leaves too few guards", "%s has too few guards to give any up", m.Member)
	}
	if m.Excess > 0 {
		problem(Warning, "", "%s holds %s more than it may claim; those are not protected", m.Member, count(m.Excess, "guard"))
	}
}

func orUnknown(s string) string {
	if s == "" {
		return "no reason known"
	}
	return s
}
