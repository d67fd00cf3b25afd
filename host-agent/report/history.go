package report

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Decision is one line of the histories that coordinators write: what was seen or
// decided, and what the member had left then. Its form is that of the core's
// notices.
type Decision struct {
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"`
	Member  Name      `json:"member,omitzero"`
	Other   Name      `json:"other,omitzero"` // who holds the guard
	Key     string    `json:"key,omitempty"`  // relay/FINGERPRINT
	Level   string    `json:"level,omitempty"`
	Over    string    `json:"over,omitempty"` // Other's guard, where it is another relay
	Budget  string    `json:"budget,omitempty"`
	Due     time.Time `json:"due,omitzero"`
	Why     string    `json:"why,omitempty"`
	Stamp   Stamp     `json:"stamp,omitzero"`       // Member's claim
	Others  Stamp     `json:"other_stamp,omitzero"` // Other's claim
	Cost    Cost      `json:"cost,omitzero"`
	Seq     uint64    `json:"seq,omitempty"`
	Count   int       `json:"count,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Budgets []Budget  `json:"budgets,omitempty"`
}

// Name is a member; Instance is empty where a whole gateway is meant.
type Name struct {
	Gateway  string `json:"gateway"`
	Instance string `json:"instance"`
}

// String is gateway/instance, or the gateway alone.
func (n Name) String() string { return strings.TrimSuffix(n.Gateway+"/"+n.Instance, "/") }

// Stamp is when a claim was first seen; Counter decides who was first.
type Stamp struct {
	Counter uint64    `json:"n"`
	At      time.Time `json:"at"`
}

// Cost is what an exclusion cost the member.
type Cost struct {
	InUse   bool `json:"in_use,omitempty"`
	Primary bool `json:"primary,omitempty"`
}

// Explanation is what is known of the decisions about a gateway or member.
type Explanation struct {
	Subject   string     `json:"subject"`
	Decisions []Decision `json:"decisions"` // the oldest first
	Members   []Member   `json:"members"`   // as they are now
	Conflicts []Conflict `json:"conflicts"` // as they are now
	Damaged   int        `json:"damaged,omitempty"`
	// Unknown: why nothing is known of the present; "" if it is.
	Unknown string `json:"unknown,omitempty"`
}

// Explain puts together what the histories' lines and the status say of a gateway
// ("web") or member ("web/default"): what was decided about it, and what was
// decided about others because of it. Lines that are damaged are counted.
func Explain(subject string, lines [][]byte, s Status) Explanation {
	e := Explanation{Subject: subject, Decisions: []Decision{}, Members: []Member{}, Conflicts: []Conflict{}}
	about := func(member string) bool { return member == subject || strings.HasPrefix(member, subject+"/") }
	for _, line := range lines {
		var d Decision
		switch err := json.Unmarshal(line, &d); {
		case err != nil:
			e.Damaged++
		// What concerns a whole gateway concerns each of its members.
		case about(d.Member.String()), about(d.Other.String()), d.Member.Instance == "" && strings.HasPrefix(subject, d.Member.Gateway+"/"):
			e.Decisions = append(e.Decisions, d)
		}
	}
	slices.SortStableFunc(e.Decisions, func(a, b Decision) int { return a.At.Compare(b.At) })
	for _, m := range s.Members {
		if about(m.Member) {
			e.Members = append(e.Members, m)
		}
	}
	for _, c := range s.Conflicts {
		if about(c.Incumbent) || about(c.Newcomer) {
			e.Conflicts = append(e.Conflicts, c)
		}
	}
	if s.At.IsZero() {
		e.Unknown = cmp.Or(s.Summary, "no coordinator acts")
	}
	return e
}

// Nobody says whether the subject is surely a slip of the pen: the present is
// known, no such gateway is served, and nothing was decided about it. A
// coordinator that has just begun to act knows fewer gateways than the server.
func (e Explanation) Nobody(s Status) bool {
	gateway, _, _ := strings.Cut(e.Subject, "/")
	type named struct {
		Name string `json:"name"`
	}
	var server struct {
		Gateways []named `json:"gateways"`
	}
	return json.Unmarshal(s.Server, &server) == nil && e.Unknown == "" && len(e.Decisions)+len(e.Members) == 0 &&
		!slices.Contains(server.Gateways, named{gateway}) &&
		!slices.ContainsFunc(s.Gateways, func(g Gateway) bool { return g.Name == gateway })
}

// Shorten cuts every fingerprint to its first eight digits, in a copy.
func (e Explanation) Shorten() Explanation {
	d := Document{Members: e.Members, Conflicts: e.Conflicts}.Shorten()
	e.Members, e.Conflicts = d.Members, d.Conflicts
	e.Decisions = slices.Clone(e.Decisions)
	for i := range e.Decisions {
		x := &e.Decisions[i]
		x.Key, x.Over = shortKey(x.Key), shortKey(x.Over)
	}
	return e
}

// shortKey shortens the fingerprint in "relay/FINGERPRINT".
func shortKey(key string) string {
	level, id, ok := strings.Cut(key, "/")
	if !ok || level != "relay" {
		return key
	}
	return level + "/" + id[:min(len(id), 8)]
}

// guard is the fingerprint of a relay's key.
func guard(key string) string { return strings.TrimPrefix(key, "relay/") }
