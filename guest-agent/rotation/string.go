package rotation

import (
	"errors"
	"fmt"
	"strings"

	"guardring/shmproto"
)

func (e ControlUp) String() string   { return "control-up tor=" + e.TorVersion }
func (e ControlDown) String() string { return fmt.Sprintf("control-down %q", e.Reason) }
func (e ConfigRead) String() string {
	return fmt.Sprintf("config lines=%d include=%d bytes", len(e.Conf), len(e.Include.Text))
}
func (e EntryGuards) String() string {
	return fmt.Sprintf("entry-guards n=%d dormant=%t", len(e.Guards), e.Dormant)
}
func (e GuardChanged) String() string { return "guard " + e.Fingerprint.Short() + " " + e.Status }
func (e Circuits) String() string {
	return fmt.Sprintf("circuits n=%d streams=%d", len(e.Circuits), len(e.Streams))
}
func (e CircuitChanged) String() string {
	return fmt.Sprintf("circuit %s %s", e.Circuit.ID, e.Circuit.Status)
}
func (e StreamChanged) String() string {
	return fmt.Sprintf("stream %s %s circuit=%s", e.Stream.ID, e.Stream.Status, e.Stream.Circuit)
}
func (ConsensusArrived) String() string { return "consensus-arrived" }
func (e Consensus) String() string      { return fmt.Sprintf("consensus live=%t", e.Live) }
func (e Relays) String() string         { return fmt.Sprintf("relays n=%d", len(e.Relays)) }
func (e Network) String() string        { return fmt.Sprintf("network guards=%d", len(e.Guards)) }
func (e ConfChanged) String() string    { return "conf-changed " + strings.Join(e.Keys, ",") }
func (e StateFile) String() string {
	return fmt.Sprintf("state-file guards=%d err=%v", len(e.State.Guards), e.Err)
}
func (e OrderSeen) String() string {
	return fmt.Sprintf("order term=%d seq=%d exclusions=%d", e.Order.Term, e.Order.Seq, len(e.Order.Exclusions))
}
func (e CommandDone) String() string { return fmt.Sprintf("done %d err=%v", e.ID, e.Err) }
func (Tick) String() string          { return "tick" }
func (Leave) String() string         { return "leave" }
func (Stop) String() string          { return "stop" }

func isTorError(err error) bool {
	var refusal *TorError
	return errors.As(err, &refusal)
}

// Error describes Tor's refusal.
func (e *TorError) Error() string { return fmt.Sprintf("tor answered %d %s", e.Code, e.Text) }

func (a Publish) String() string {
	p := a.Publication
	return fmt.Sprintf("publish seq=%d %s flags=%#x guards=%d receipt=%s", p.Seq, stateName(p.State), p.Flags, len(p.Guards), receiptName(p.Receipt))
}
func (a SetConf) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "setconf #%d", a.ID)
	for _, s := range a.Settings {
		fmt.Fprintf(&b, " %s=%q", s.Key, s.Value)
	}
	return b.String()
}
func (a ResetConf) String() string {
	return fmt.Sprintf("resetconf #%d %s", a.ID, strings.Join(a.Keys, " "))
}
func (a WriteInclude) String() string {
	return fmt.Sprintf("write-include #%d %d bytes", a.ID, len(a.Text))
}
func (a Enforce) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "enforce #%d", a.ID)
	for _, r := range a.Rejects {
		for _, addr := range r.Addrs {
			if r.Whole {
				b.WriteString(" " + addr.Addr().String() + ":*")
			} else {
				b.WriteString(" " + addr.String())
			}
		}
	}
	return b.String()
}
func (a CloseCircuit) String() string {
	return fmt.Sprintf("close-circuit #%d %s if-unused=%t", a.ID, a.Circuit, a.IfUnused)
}
func (a AttachStream) String() string {
	return fmt.Sprintf("attach-stream #%d %s", a.ID, a.Stream)
}
func (a Query) String() string {
	return fmt.Sprintf("query #%d %s relays=%d", a.ID, a.What, len(a.Relays))
}
func (a Notice) String() string { return fmt.Sprintf("notice %q", a.Text) }

// String returns the query's name.
func (w What) String() string {
	names := [...]string{"config", "entry-guards", "circuits", "consensus", "relays", "network"}
	if int(w) < len(names) {
		return names[w]
	}
	return fmt.Sprintf("What(%d)", uint8(w))
}

func stateName(s shmproto.MemberState) string {
	return nameOf(int(s), "absent", "present", "observe-only", "refused", "left")
}

// receiptName names status and reason, "pending: still in use".
func receiptName(r shmproto.Receipt) string {
	s := nameOf(int(r.Status), "none", "pending", "applied", "refused", "failed")
	if r.Reason == shmproto.ReasonNone {
		return s
	}
	return s + ": " + nameOf(int(r.Reason), "", "too few guards", "restricted selection", "bridges", "relay", "control port", "setconf",
		"include file", "unknown address", "overridden", "observe", "still in use")
}

func nameOf(n int, names ...string) string {
	if n < len(names) {
		return names[n]
	}
	return fmt.Sprint(n)
}
