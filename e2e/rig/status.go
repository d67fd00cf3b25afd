package rig

import (
	"slices"
	"time"
)

// Status is what this package reads of `guardring status --json`.
type Status struct {
	Verdict      string          `json:"verdict"` // ok, warning, critical, unknown
	Summary      string          `json:"summary"`
	Coordinators []Coordinator   `json:"coordinators"`
	Epoch        string          `json:"epoch"`
	Term         uint64          `json:"term"`
	Doorbells    uint64          `json:"doorbells"`
	Problems     []Problem       `json:"problems"`
	Gateways     []GatewayStatus `json:"gateways"`
	Members      []Member        `json:"members"`
	Conflicts    []Conflict      `json:"conflicts"`
	// Contradictions are relays of which members state different facts.
	Contradictions []Contradiction `json:"contradictions"`
	// Layers are relays that several members pin in a layer above the guards.
	Layers []Layer `json:"layers"`
}

// Layer is a relay that members pin in one layer.
type Layer struct {
	Fingerprint string   `json:"fingerprint"`
	Layer       int      `json:"layer"` // 2 or 3
	Members     []string `json:"members"`
}

// Problem is one thing that is wrong.
type Problem struct {
	Text string `json:"text"`
}

// GatewayStatus is one gateway as the coordinator knows it.
type GatewayStatus struct {
	Name       string    `json:"name"`
	Present    bool      `json:"present"`
	Attachment uint64    `json:"attachment"`
	Violations int       `json:"violations"`
	Quarantine time.Time `json:"quarantine"` // since when; zero: not
	Reason     string    `json:"reason"`
}

// Contradiction is a relay of which two members state different facts.
type Contradiction struct {
	Relay string `json:"fingerprint"`
	Level string `json:"level"` // family, subnet
	One   string `json:"one"`
	Other string `json:"other"`
}

// Coordinator is one coordinator process.
type Coordinator struct {
	PID  int    `json:"pid"`
	Role string `json:"role"`
	Term uint64 `json:"term"`
	// Publications counts what it has read.
	Publications uint64 `json:"publications"`
}

// Member is one Tor as the coordinator knows it.
type Member struct {
	Member  string  `json:"member"`
	State   string  `json:"state"`
	Guards  []Guard `json:"guards"`
	Receipt struct {
		Status string `json:"status"`
		Reason string `json:"reason"`
	} `json:"receipt"`
	Order struct {
		Seq        uint64   `json:"seq"`
		Exclusions []string `json:"exclusions"`
	} `json:"order"`
	Publication struct {
		Seq         uint64 `json:"seq"`
		Incarnation uint64 `json:"incarnation"`
	} `json:"publication"`
	Stuck string `json:"stuck"`
	// CloneOf and RolledBack tell of a copied and of a restored gateway.
	CloneOf    string    `json:"clone_of"`
	RolledBack time.Time `json:"rolled_back"`
	Budgets    []Budget  `json:"budgets"`
}

// Budget is what is left of one budget of a member.
type Budget struct {
	Name    string    `json:"name"`
	Left    int       `json:"left"`
	Next    time.Time `json:"next"`    // when it has one more
	Waiting int       `json:"waiting"` // what it keeps from being done
}

// Guard is one guard of a member.
type Guard struct {
	Fingerprint string    `json:"fingerprint"`
	InUse       bool      `json:"in_use"`
	Primary     bool      `json:"primary"`
	Ordered     time.Time `json:"ordered"`
	Claimed     time.Time `json:"since"`
}

// Conflict is a guard that two members hold.
type Conflict struct {
	Level       string    `json:"level"` // relay, family, subnet
	Fingerprint string    `json:"fingerprint"`
	Incumbent   string    `json:"incumbent"`
	Newcomer    string    `json:"newcomer"`
	Since       time.Time `json:"since"`
	State       string    `json:"state"`
	Reason      string    `json:"reason"`
	Due         time.Time `json:"due"` // when the newcomer will be told
}

// Acting tells whether a coordinator acts.
func (s Status) Acting() bool {
	return slices.ContainsFunc(s.Coordinators, func(c Coordinator) bool { return c.Role == "acting" })
}

// Gateway finds a gateway by name; its zero value if there is none.
func (s Status) Gateway(name string) GatewayStatus {
	for _, g := range s.Gateways {
		if g.Name == name {
			return g
		}
	}
	return GatewayStatus{}
}

// Budget finds a member's budget by name; its zero value if there is none.
func (m Member) Budget(name string) Budget {
	for _, b := range m.Budgets {
		if b.Name == name {
			return b
		}
	}
	return Budget{}
}

// Contradicted tells whether the member is named as one of two that state different facts of the relay.
func (s Status) Contradicted(fp, level, member string) bool {
	return slices.ContainsFunc(s.Contradictions, func(c Contradiction) bool {
		return c.Relay == fp && c.Level == level && (c.One == member || c.Other == member)
	})
}

// FirstSight is when the coordinator first saw two members hold the guard: the conflict's own date while it lasts, and
// afterwards the later member's claim of it.
func (s Status) FirstSight(fp string) (time.Time, bool) {
	for _, c := range s.Conflicts {
		if c.Fingerprint == fp {
			return c.Since, true
		}
	}
	for _, m := range s.Members {
		for _, g := range m.Guards {
			switch {
			case g.Fingerprint != fp || g.Ordered.IsZero():
			case g.Claimed.IsZero():
				return g.Ordered, true
			default:
				return g.Claimed, true
			}
		}
	}
	return time.Time{}, false
}

// Member finds a member by name; its zero value if there is none.
func (s Status) Member(name string) Member {
	for _, m := range s.Members {
		if m.Member == name {
			return m
		}
	}
	return Member{}
}

// Holds tells whether the coordinator has seen the member hold the guard.
func (s Status) Holds(member, fp string) bool {
	return slices.ContainsFunc(s.Member(member).Guards, func(g Guard) bool {
		return g.Fingerprint == fp && (g.InUse || g.Primary)
	})
}
