package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
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

// Problem is one thing that is wrong, and what to do. With the verdict OK it is a
// note: nothing that the operator has to do anything about.
type Problem struct {
	Verdict Verdict `json:"verdict"`
	Text    string  `json:"text"`
	Hint    string  `json:"hint,omitempty"`
}

// Status is everything that `guardring status` knows.
type Status struct {
	Verdict      Verdict    `json:"verdict"`
	Summary      string     `json:"summary"` // one line
	Problems     []Problem  `json:"problems"`
	Coordinators []Self     `json:"coordinators"` // those that answer; the acting one first
	Policy       string     `json:"policy,omitempty"`
	Epoch        string     `json:"epoch,omitempty"`
	Term         uint64     `json:"term,omitempty"`
	Doorbells    uint64     `json:"doorbells"`
	At           time.Time  `json:"at,omitzero"`
	Gateways     []Gateway  `json:"gateways"`
	Members      []Member   `json:"members"`
	Conflicts    []Conflict `json:"conflicts"`
	// Contradictions and Layers: see Document.
	Contradictions []Contradiction `json:"contradictions,omitempty"`
	Layers         []Layer         `json:"layers,omitempty"`
	Server         json.RawMessage `json:"server,omitempty"` // the server's own document
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
		v, hint := silent(a.ServerErr, "start it before any gateway: systemctl start guardring-server (by hand: guardring run, or guardring serve)")
		problem(v, hint, "the server does not answer: %v", a.ServerErr)
	}
	judgeServer(a.Server, problem)
	docs := slices.Clone(a.Coordinators)
	slices.SortStableFunc(docs, func(a, b Document) int { return rank(a.Self) - rank(b.Self) })
	for _, d := range docs {
		s.Coordinators = append(s.Coordinators, d.Self)
	}
	switch {
	case len(docs) == 0:
		v, hint := silent(a.CoordinatorErr, "systemctl start guardring-coordinator guardring-standby (by hand: guardring run, or guardring coordinate)")
		problem(v, hint, "no coordinator answers: %v", a.CoordinatorErr)
	case docs[0].Self.Role == RoleActing:
		s.take(docs[0])
		judgeDocument(docs[0], problem)
	default:
		problem(Warning, "an election takes a few seconds; if this lasts, look at the coordinator's log", "no coordinator acts yet")
		judgeSelf(docs[0].Self, problem)
	}
	// The worst first; with equal ones the order of what is looked at stays.
	slices.SortStableFunc(s.Problems, func(a, b Problem) int { return int(b.Verdict) - int(a.Verdict) })
	if len(s.Problems) > 0 {
		s.Verdict = s.Problems[0].Verdict
	}
	s.Summary = s.summary()
	return s
}

// silent judges a socket that gave nothing. Whoever may not ask knows nothing: that
// is neither a fault of what runs, nor mended by starting it.
func silent(err error, start string) (Verdict, string) {
	if errors.Is(err, fs.ErrPermission) {
		return Unknown, "run this as root, or as the user that guardring runs as; status-mode: in the configuration lets others ask"
	}
	return Critical, start
}

// Shorten cuts every fingerprint to its first eight digits, in a copy.
func (s Status) Shorten() Status {
	d := Document{Members: s.Members, Conflicts: s.Conflicts, Contradictions: s.Contradictions, Layers: s.Layers}.Shorten()
	s.Members, s.Conflicts, s.Contradictions, s.Layers = d.Members, d.Conflicts, d.Contradictions, d.Layers
	return s
}

func rank(s Self) int {
	return slices.Index([]string{RoleActing, RoleElecting, RoleStandby}, s.Role)
}

func (s *Status) take(d Document) {
	s.Policy, s.Epoch, s.Term, s.Doorbells, s.At = d.Self.Policy, d.Self.Epoch, d.Self.Term, d.Self.Doorbells, d.At
	s.Gateways, s.Members, s.Conflicts = d.Gateways, d.Members, d.Conflicts
	s.Contradictions, s.Layers = d.Contradictions, d.Layers
}

func (s *Status) summary() string {
	if s.Verdict != OK {
		return s.Problems[0].Text
	}
	what := "no guard is shared"
	if len(s.Conflicts) > 0 {
		what = "nothing to do about " + english.Plural(len(s.Conflicts), "known conflict", "")
	}
	return fmt.Sprintf("%s, %s; coordinator %d acts (term %d)", s.counted(), what, s.Coordinators[0].PID, s.Term)
}

// counted is how many members there are, and which of them nothing is known of now.
func (s *Status) counted() string {
	var not []string
	for _, state := range []string{"away", "left"} {
		n := 0
		for _, m := range s.Members {
			if m.State == state {
				n++
			}
		}
		if n > 0 {
			not = append(not, fmt.Sprintf("%d %s", n, state))
		}
	}
	if len(not) == 0 {
		return english.Plural(len(s.Members), "member", "")
	}
	return fmt.Sprintf("%s (%s)", english.Plural(len(s.Members), "member", ""), strings.Join(not, ", "))
}
