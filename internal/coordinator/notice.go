package coordinator

import (
	"fmt"
	"strings"
	"time"
)

// NoticeKind says what the operator is told.
type NoticeKind string

// The kinds of notices.
const (
	NoticeJoined      NoticeKind = "joined"      // a member was seen for the first time, or again after it had left
	NoticeBack        NoticeKind = "back"        // a member that was away is shown again
	NoticeAway        NoticeKind = "away"        // a member is not shown any more; its claims stay for the retention
	NoticeLeft        NoticeKind = "left"        // a member left on purpose: claims and exclusions are gone
	NoticeForgotten   NoticeKind = "forgotten"   // a member's last claim and exclusion have ended
	NoticeRefused     NoticeKind = "relay"       // a relay cannot be a member
	NoticeConflict    NoticeKind = "conflict"    // Member claims what Other had first
	NoticeResolved    NoticeKind = "resolved"    // Member is in conflict with Other no more
	NoticeExcluded    NoticeKind = "excluded"    // Member was told not to use a guard (one notice per guard)
	NoticeWould       NoticeKind = "would"       // the same under the policy observe: nothing was ordered
	NoticeLifted      NoticeKind = "lifted"      // an exclusion has ended, Reason says why
	NoticeStuck       NoticeKind = "stuck"       // Member is in conflict and is not told to move, Reason says why
	NoticeApplied     NoticeKind = "applied"     // Member has obeyed its order
	NoticeNotApplied  NoticeKind = "not-applied" // Member refused or failed to obey, Reason says why; everyone stays as they are
	NoticeUnanswered  NoticeKind = "unanswered"  // Member has not answered its order after Count tries
	NoticeCapped      NoticeKind = "capped"      // Count guards of Member are beyond its claims and protect nothing
	NoticeEvicted     NoticeKind = "evicted"     // a retained claim had to make room for a live one
	NoticeQuarantined NoticeKind = "quarantined" // a gateway broke the protocol Count times: no orders for it
	NoticeReleased    NoticeKind = "released"    // a gateway's quarantine has ended

	NoticeDelayed       NoticeKind = "delayed"       // Member will be told to give up a used guard at Due
	NoticeExhausted     NoticeKind = "exhausted"     // Budget of Member is spent; Count conflicts or guards wait, Due is when it has more
	NoticeAllowed       NoticeKind = "allowed"       // the operator lets Member spend more, once
	NoticeContradiction NoticeKind = "contradiction" // Member and Other state different facts of relay Key: Level is not compared for it
	NoticeClone         NoticeKind = "clone"         // Member shows the same sample as Other
	NoticeRollback      NoticeKind = "rollback"      // Member shows a state that it had left: it was rolled back
	NoticeFresh         NoticeKind = "fresh"         // Member has a new sample after it was named a clone: not charged, unless Reason says so
	NoticeCleared       NoticeKind = "cleared"       // Member waited at its join gate and was answered
	NoticeLayer         NoticeKind = "layer"         // Member and Other pin the same relay in a further layer (Count 2 or 3)
)

// Reasons of notices (Reason). They are our words, never a guest's.
const (
	ReasonObserveOnly   = "the member only observes"
	ReasonRestricted    = "its Tor uses the restricted guard selection"
	ReasonBridges       = "its Tor uses bridges"
	ReasonNoSelection   = "its guard selection is not known"
	ReasonFewGuards     = "too few of its guards pass its own filter"
	ReasonNotEnough     = "too few guards would be left"
	ReasonTooMany       = "it would need more exclusions than one order holds"
	ReasonPolicy        = "the policy is observe"
	ReasonQuarantine    = "its gateway is in quarantine"
	ReasonNotShown      = "it is not shown"
	ReasonAlreadyUsed   = "it used the guard before it was told"
	ReasonHoldOver      = "its hold is over"
	ReasonLeftSample    = "it has left the member's sample"
	ReasonMemberLeft    = "the member has left"
	ReasonMembersCapped = "its gateway has shown too many members"
	ReasonBudget        = "its budget of forced changes is spent"
	ReasonCaused        = "the other gateway has caused as many changes of it as it may"
	ReasonDelayed       = "it is moved after a random delay"
	ReasonUsedBoth      = "both have used their guards, and only the same relay moves a used guard"
	ReasonUsed          = "it has used its guard, and only the same relay moves a used guard"
	ReasonUndecided     = "it was there first, but has once given way to the other's guard"
	ReasonClone         = "it is a clone: run guardring-guest fresh in it"
)

// Cost is what an exclusion costs the member at the moment of the decision.
type Cost struct {
	InUse   bool `json:"in_use,omitempty"`  // a guard in use is given up
	Primary bool `json:"primary,omitempty"` // a primary guard is given up
}

// Notice tells the operator of a decision or a change. It names other members
// and guards, so it never goes to a gateway. It is complete enough for a
// journal from which the decision can be explained.
type Notice struct {
	At     time.Time  `json:"at"`
	Kind   NoticeKind `json:"kind"`
	Member Member     `json:"member,omitzero"` // Instance is empty where a whole gateway is meant
	Other  Member     `json:"other,omitzero"`  // who holds the guard
	Key    Key        `json:"key,omitzero"`
	Level  Level      `json:"level,omitempty"` // at which Key (Member's guard) and Over are the same; 0: the relay
	Over   Key        `json:"over,omitzero"`   // Other's guard, where it is another relay
	Budget BudgetName `json:"budget,omitempty"`
	Due    time.Time  `json:"due,omitzero"`
	Why    Why        `json:"why,omitempty"`        // the rule that decided
	Stamp  Stamp      `json:"stamp,omitzero"`       // Member's claim
	Others Stamp      `json:"other_stamp,omitzero"` // Other's claim
	Cost   Cost       `json:"cost,omitzero"`        // of an exclusion
	Seq    uint64     `json:"seq,omitempty"`        // of the order
	Count  int        `json:"count,omitempty"`
	Reason string     `json:"reason,omitempty"`
}

// String is one line for a log, without fingerprints.
func (n Notice) String() string { return n.text(false) }

// Detail is String with the guard's fingerprint, for an operator who asked for
// fingerprints.
func (n Notice) Detail() string { return n.text(true) }

func (n Notice) text(keys bool) string {
	var b strings.Builder
	b.WriteString(string(n.Kind))
	add := func(format string, args ...any) { fmt.Fprintf(&b, " "+format, args...) }
	if n.Member.Instance != "" {
		add("%s", n.Member)
	} else if n.Member.Gateway != "" {
		add("%s", n.Member.Gateway)
	}
	if keys && !n.Key.IsZero() {
		add("%s", n.Key)
	}
	if n.Level > LevelRelay {
		add("level=%s", n.Level)
	}
	if keys && !n.Over.IsZero() {
		add("over=%s", n.Over)
	}
	if !n.Other.IsZero() {
		add("other=%s", n.Other)
	}
	if n.Budget != "" {
		add("budget=%s", n.Budget)
	}
	if n.Why != "" {
		add("why=%s", n.Why)
	}
	if n.Stamp.Counter != 0 {
		add("stamp=%d", n.Stamp.Counter)
	}
	if n.Others.Counter != 0 {
		add("other-stamp=%d", n.Others.Counter)
	}
	if n.Cost.InUse {
		add("cost=in-use")
	} else if n.Cost.Primary {
		add("cost=primary")
	}
	if n.Seq != 0 {
		add("seq=%d", n.Seq)
	}
	if n.Count != 0 {
		add("count=%d", n.Count)
	}
	if !n.Due.IsZero() {
		add("due=%s", n.Due.UTC().Format(time.RFC3339))
	}
	if n.Reason != "" {
		add("(%s)", n.Reason)
	}
	return b.String()
}
