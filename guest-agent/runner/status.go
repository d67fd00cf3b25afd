package runner

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"guardring/guest-agent/device"
	"guardring/guest-agent/rotation"
	"guardring/internal/hint"
	"guardring/shmproto"
)

// Document is the agent's status, as JSON on its status socket. It holds whole
// fingerprints: who may read the socket is who may read Tor's state.
type Document struct {
	PID     int     `json:"pid"`
	Uptime  float64 `json:"uptime_seconds"`
	Wakeups uint64  `json:"timer_wakeups"` // of the agent's own timer since it started
	// Goroutines of the process: their number stays flat while nothing leaks.
	Goroutines int         `json:"goroutines"`
	Leaving    bool        `json:"leaving,omitempty"`
	Region     RegionDoc   `json:"region"`
	Host       HostDoc     `json:"host"`
	Enforce    *EnforceDoc `json:"enforce,omitempty"` // nil: no packet filter is configured
	Members    []Member    `json:"members"`
	Faults     []Complaint `json:"problems"` // empty: all is well
}

// Complaint is something that is wrong, and what to do about it.
type Complaint struct {
	Member string `json:"member,omitempty"`
	Text   string `json:"text"`
	Hint   string `json:"hint,omitempty"`
}

// RegionDoc says what is known of the region.
type RegionDoc struct {
	Path       string `json:"path"`
	Connected  bool   `json:"connected"` // the server's connection lives
	Attached   bool   `json:"attached"`  // there is a region to publish in
	Gateway    string `json:"gateway,omitempty"`
	Epoch      string `json:"epoch,omitempty"`
	Attachment uint64 `json:"attachment,omitempty"`
	Error      string `json:"error,omitempty"`

	// Device says how the region is reached: vfio, poll or socket; "" until known.
	Device  string `json:"device,omitempty"`
	Because string `json:"because,omitempty"`      // why this way
	Polls   uint64 `json:"poll_wakeups,omitempty"` // how often a polling device has looked
}

// HostDoc says what the host agents say of themselves.
type HostDoc struct {
	Acting     bool    `json:"acting"`
	Seat       int     `json:"seat"` // -1: none acts
	Epoch      string  `json:"epoch,omitempty"`
	Term       uint64  `json:"term,omitempty"`
	Observe    bool    `json:"observe"`
	LastSignal float64 `json:"seconds_since_heartbeat_seen"` // looked at with the slow tick only
}

// Member is one Tor.
type Member struct {
	Name       string   `json:"name"`
	Role       string   `json:"role,omitempty"`
	Slot       int      `json:"slot"` // -1: none in the region yet
	ControlUp  bool     `json:"control_up"`
	Idle       bool     `json:"not_running,omitempty"` // found on this machine, but not seen running yet
	Leaving    bool     `json:"leaving,omitempty"`
	TorVersion string   `json:"tor_version,omitempty"`
	State      string   `json:"state"`
	Selection  string   `json:"selection"`
	Flags      []string `json:"flags"`
	Meaning    []string `json:"meaning"` // what state, selection and flags mean, in plain words
	Seq        uint64   `json:"seq"`
	NumPrimary int      `json:"num_primary"`
	Guards     []Guard  `json:"guards"`
	Order      *Order   `json:"order,omitempty"`
	Receipt    *Receipt `json:"receipt,omitempty"`
	Gate       *Gate    `json:"join_gate,omitempty"` // none: never gated
	Rules      *Rules   `json:"enforced,omitempty"`
	Timing     Timing   `json:"timing"`
	Notices    []Note   `json:"notices"`
}

// Gate is the join gate of a member.
type Gate struct {
	State   string    `json:"state"` // closed, opening, open
	Since   time.Time `json:"since,omitzero"`
	Limit   time.Time `json:"limit,omitzero"`    // until when it waits for the host
	Holds   bool      `json:"stays_closed"`      // past the limit, too
	Waiting int       `json:"streams_waiting"`   // users' streams
	Opened  time.Time `json:"opened,omitzero"`   // by this agent
	LetGo   int       `json:"streams_let_go"`    // of those that waited
	Why     string    `json:"because,omitempty"` // why it is open, or what it waits for
}

// Guard is one sampled guard.
type Guard struct {
	Fingerprint string `json:"fingerprint"`
	InUse       bool   `json:"in_use"`
	Primary     bool   `json:"primary"`
	Possible    bool   `json:"possible_primary"`
	Confirmed   bool   `json:"confirmed"`
	Listed      bool   `json:"listed"`
	Excluded    bool   `json:"excluded"`
	Down        bool   `json:"down"`
}

// Order is the order that was read last.
type Order struct {
	Epoch      string   `json:"epoch"`
	Term       uint64   `json:"term"`
	Seq        uint64   `json:"seq"`
	Exclusions []string `json:"exclusions"`
}

// Receipt is the answer to an order.
type Receipt struct {
	Seq    uint64 `json:"seq"`
	Term   uint64 `json:"term"`
	Digest string `json:"digest"`
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}

// Timing is how long the last order took, in milliseconds; 0 is "not yet".
type Timing struct {
	Setconf    float64 `json:"order_seen_to_setconf_ms"`
	OwnShare   float64 `json:"order_seen_to_setconf_own_ms"` // without waiting for Tor's answers
	LastGone   float64 `json:"order_seen_to_last_circuit_gone_ms"`
	Closed     int     `json:"circuits_closed"`
	ToReceipt  float64 `json:"last_event_to_receipt_ms"`
	ToAnswered float64 `json:"order_seen_to_receipt_ms"`
}

// Note is something that the agent told its user.
type Note struct {
	At     time.Time `json:"at"`
	Warn   bool      `json:"warn"`
	Text   string    `json:"text"`
	Guards []string  `json:"guards,omitempty"` // as the configuration lets them into the log
}

func epoch(e shmproto.Epoch) string { return fmt.Sprintf("%d-%016x", e.Number, e.Random) }

func (l *loop) document(now time.Time) Document {
	s := &l.shore
	l.host.look(l, now)
	d := Document{
		PID: os.Getpid(), Uptime: now.Sub(l.started).Seconds(), Wakeups: l.wakeups, Goroutines: runtime.NumGoroutine(), Leaving: l.leaving,
		Region:  RegionDoc{Path: s.name(), Attached: s.guest != nil, Connected: s.guest != nil && !s.away, Device: string(s.choice.Kind), Because: s.choice.Reason},
		Host:    HostDoc{Seat: -1},
		Members: []Member{}, Faults: []Complaint{},
	}
	complain := func(member, text, remedy string) { d.Faults = append(d.Faults, Complaint{member, text, remedy}) }
	if s.region != nil {
		h := s.region.Header()
		d.Region.Gateway, d.Region.Epoch, d.Region.Attachment = h.Gateway, hex.EncodeToString(h.RegionEpoch[:]), uint64(h.Attachment)
	}
	if s.dev != nil {
		if p, ok := s.dev.Device.(interface{ Wakeups() uint64 }); ok {
			d.Region.Polls = p.Wakeups()
		}
	}
	if s.err != nil {
		d.Region.Error = s.err.Error()
		complain("", s.err.Error(), cmp.Or(hint.Of(s.err), "start guardring on the host, and check region: in the agent's configuration"))
	}
	if l.host.acting > 0 && !l.host.told {
		lease := l.host.leases[l.host.acting-1]
		d.Host = HostDoc{Acting: true, Seat: l.host.acting - 1, Epoch: epoch(lease.Epoch), Term: uint64(lease.Term), Observe: lease.Observe}
	} else if s.guest != nil {
		remedy := "start guardring on the host (systemctl start guardring-server guardring-coordinator; guardring doctor tells more)"
		if s.choice.Kind == device.ByVFIO || s.choice.Kind == device.ByPolling {
			remedy += "; if it runs there, and this VM is older than its server, restart the VM: its device belongs to a server that is gone"
		}
		complain("", "no host agent acts: duplicates are not resolved", remedy)
	}
	if s.guest != nil {
		d.Host.LastSignal = now.Sub(l.host.lastSign()).Seconds()
	}
	if l.scout.err != nil {
		complain("", "the machine's Tors cannot be looked for: "+l.scout.err.Error(), "")
	}
	for _, name := range slices.Sorted(maps.Keys(l.scout.leftOut)) {
		complain(name, "this Tor is not served: "+l.scout.leftOut[name].Error(), "name those that must be served under instances: in the configuration, or those that need not be under except:")
	}
	for _, m := range l.members {
		d.Members = append(d.Members, m.document(complain))
	}
	l.enforcement(&d, complain)
	return d
}

func (m *member) document(complain func(member, text, remedy string)) Member {
	name := m.tor.Name
	d := Member{Name: name, Role: m.tor.Role, Slot: m.slot, ControlUp: m.up, TorVersion: m.version, Flags: []string{}, Meaning: []string{}, Guards: []Guard{}, Notices: append([]Note{}, m.notices...)}
	t := m.timing
	d.Timing = Timing{millis(t.setconf), millis(t.own), millis(t.gone), t.closed, millis(t.receipt), millis(t.applied)}
	d.Leaving = m.going || m.l.leaving
	switch {
	case m.l.cfg.Discover != nil && m.version == "" && errors.Is(m.why, fs.ErrNotExist):
		d.Idle = true // installed, not started: nothing is wrong
	case m.why != nil:
		complain(name, m.why.Error(), cmp.Or(hint.Of(m.why), "check that Tor runs and that the agent may use its control port"))
	case !m.up:
		complain(name, "the control port has not answered yet", "")
	}
	if m.fault != nil {
		complain(name, "the guards cannot be shown to the host: "+m.fault.Error(), "")
	}
	if m.orderErr != nil {
		complain(name, "orders cannot be read: "+m.orderErr.Error(), "restart guardring on the host")
	}
	d.Gate = gateDoc(m.machine.Gate())
	if g := d.Gate; g.overdue(time.Now()) {
		remedy := "start guardring on the host; or set join-gate: open or off and restart the agent"
		if !m.up {
			remedy = "restart Tor: that opens the gate, and brings the control port back"
		}
		complain(name, "the join gate is closed past its limit: streams wait, because "+g.Why, remedy)
	} else if g != nil && g.State == "open" && g.Waiting > 0 {
		complain(name, fmt.Sprintf("%d streams wait for another controller, which has taken __LeaveStreamsUnattached over from the join gate", g.Waiting), "if that controller has ended, restart Tor")
	}
	p := m.pending
	if p == nil {
		p = m.shown
	}
	if p != nil {
		d.State, d.Selection, d.Flags = stateName(p.State), selectionName(p.Selection), flagNames(p.Flags)
		d.Meaning = meaning(p)
		d.Seq, d.NumPrimary = uint64(p.Seq), int(p.NumPrimary)
		for _, g := range p.Guards {
			has := func(f shmproto.GuardFlags) bool { return g.Flags&f != 0 }
			d.Guards = append(d.Guards, Guard{
				Fingerprint: g.Fingerprint.String(), InUse: has(shmproto.GuardInUse), Primary: has(shmproto.GuardPrimary), Possible: has(shmproto.GuardPossiblePrimary),
				Confirmed: has(shmproto.GuardConfirmed), Listed: has(shmproto.GuardListed), Excluded: has(shmproto.GuardExcluded), Down: has(shmproto.GuardDown),
			})
		}
		if r := p.Receipt; r.Status != shmproto.ReceiptNone {
			d.Receipt = &Receipt{Seq: uint64(r.Seq), Term: uint64(r.Term), Digest: hex.EncodeToString(r.Digest[:]), Status: receiptName(r.Status), Reason: reasonName(r.Reason)}
			if r.Status == shmproto.ReceiptRefused || r.Status == shmproto.ReceiptFailed {
				complain(name, "the last order was "+d.Receipt.Status+": "+d.Receipt.Reason, "see this Tor's notices")
			}
		}
	}
	if m.hasOrder {
		d.Order = &Order{Epoch: epoch(m.order.Epoch), Term: uint64(m.order.Term), Seq: uint64(m.order.Seq), Exclusions: []string{}}
		for _, f := range m.order.Exclusions {
			d.Order.Exclusions = append(d.Order.Exclusions, f.String())
		}
	}
	return d
}

// overdue reports whether g, nil for no gate, holds streams although its limit has passed.
func (g *Gate) overdue(now time.Time) bool {
	return g != nil && g.State != "open" && !g.Limit.IsZero() && now.After(g.Limit)
}

func gateDoc(g rotation.GateState) *Gate {
	if g.State == "" {
		return nil
	}
	return &Gate{State: g.State, Since: g.Since, Limit: g.Deadline, Holds: g.Holds, Waiting: g.Waiting, Opened: g.Opened, LetGo: g.LetGo, Why: g.Why}
}

func pick(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return strconv.Itoa(i)
}

func stateName(s shmproto.MemberState) string {
	return pick([]string{"absent", "present", "observe-only", "refused", "left"}, int(s))
}

func selectionName(s shmproto.Selection) string {
	return pick([]string{"unknown", "default", "restricted", "bridges"}, int(s))
}

func receiptName(s shmproto.ReceiptStatus) string {
	return pick([]string{"none", "pending", "applied", "refused", "failed"}, int(s))
}

func reasonName(r shmproto.ReceiptReason) string {
	return pick([]string{
		"", "too few guards would be left", "Tor uses its restricted guard selection", "Tor uses bridges", "Tor is a relay", "the control port is away",
		"Tor refused the option", "the include file cannot be written or is not read first", "an excluded guard's address is not known",
		"somebody else keeps changing the option", "the agent is configured to observe only", "circuits with streams still use the guard",
	}, int(r))
}

func flagNames(f shmproto.MemberFlags) []string {
	out := []string{}
	for i, name := range []string{"dormant", "primaries-ambiguous", "no-consensus", "control-port-away", "few-guards", "onion-service", "truncated", "gated", "families-left-out"} {
		if f&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}
