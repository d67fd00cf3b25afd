// Package report shows the agent's status document to people: readable, with
// what is wrong first, and fingerprints shortened.
//
// Trust: the document comes from the agent's own socket, which its user owns.
// Texts in it may quote Tor; control characters are not passed on to the
// terminal.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"guardring/guest-agent/runner"
	"guardring/internal/guardstate"
	"guardring/internal/printable"
)

// Parse reads the agent's document and shortens its fingerprints unless whole
// ones are asked for.
func Parse(b []byte, whole bool) (runner.Document, error) {
	var d runner.Document
	if err := json.Unmarshal(b, &d); err != nil {
		return runner.Document{}, fmt.Errorf("read the agent's status: %w", err)
	}
	if d.PID == 0 {
		var fault struct{ Error string }
		if json.Unmarshal(b, &fault) == nil && fault.Error != "" {
			return runner.Document{}, fmt.Errorf("the agent says: %s", fault.Error)
		}
		return runner.Document{}, fmt.Errorf("the socket's answer is not an agent's status")
	}
	if whole {
		return d, nil
	}
	for i := range d.Members {
		m := &d.Members[i]
		for j := range m.Guards {
			m.Guards[j].Fingerprint = guardstate.Shorten(m.Guards[j].Fingerprint)
		}
		for j := range m.Notices {
			for k, g := range m.Notices[j].Guards {
				m.Notices[j].Guards[k] = guardstate.Shorten(g)
			}
		}
		if m.Order != nil {
			for j, f := range m.Order.Exclusions {
				m.Order.Exclusions[j] = guardstate.Shorten(f)
			}
		}
	}
	return d, nil
}

// Text writes the document for a terminal.
func Text(w io.Writer, d runner.Document) error {
	var b strings.Builder
	if len(d.Faults) == 0 {
		b.WriteString("all is well\n")
	}
	for _, f := range d.Faults {
		who := f.Member
		if who != "" {
			who += ": "
		}
		fmt.Fprintf(&b, "PROBLEM  %s%s\n", who, f.Text)
		if f.Hint != "" {
			fmt.Fprintf(&b, "         %s\n", f.Hint)
		}
	}
	b.WriteByte('\n')
	if d.Region.Attached {
		state := "connected"
		if !d.Region.Connected {
			state = "server away, memory goes on"
		}
		if d.Region.Device != "" && d.Region.Device != "socket" {
			state = map[string]string{"vfio": "by VFIO, with doorbells", "poll": "by POLLING: the host cannot ring us, so orders come up to a second late"}[d.Region.Device]
		}
		fmt.Fprintf(&b, "region   gateway %s, %s (%s)\n", d.Region.Gateway, state, d.Region.Path)
		if d.Region.Because != "" {
			fmt.Fprintf(&b, "         because %s\n", d.Region.Because)
		}
	} else {
		fmt.Fprintf(&b, "region   none (%s)\n", d.Region.Path)
	}
	if d.Host.Acting {
		policy := "disjoint"
		if d.Host.Observe {
			policy = "observe: it gives no orders"
		}
		fmt.Fprintf(&b, "host     seat %d acts, term %d, policy %s\n", d.Host.Seat, d.Host.Term, policy)
	} else {
		b.WriteString("host     nobody acts\n")
	}
	if e := d.Enforce; e != nil && e.Error == "" {
		fmt.Fprintf(&b, "enforce  nftables, table %s\n", e.Table)
	} else if e != nil {
		fmt.Fprintf(&b, "enforce  not in force (table %s)\n", e.Table)
	}
	for _, m := range d.Members {
		member(&b, m)
	}
	_, err := io.WriteString(w, printable.Text(b.String()))
	return err
}

// member says how one Tor stands.
func member(b *strings.Builder, m runner.Member) {
	control := "control port away"
	if m.Idle {
		control = "not running"
	}
	if m.ControlUp {
		control = "Tor " + m.TorVersion
	}
	name := m.Name
	if m.Role != "" {
		name += " (" + m.Role + ")"
	}
	fmt.Fprintf(b, "\n%s: %s", name, control)
	if m.State != "" { // else nothing was ever heard of this Tor
		fmt.Fprintf(b, ", %s, selection %s, publication %d", m.State, m.Selection, m.Seq)
	}
	if len(m.Flags) > 0 {
		fmt.Fprintf(b, " (%s)", strings.Join(m.Flags, ", "))
	}
	b.WriteByte('\n')
	for _, w := range m.Meaning {
		fmt.Fprintf(b, "  %s\n", w)
	}
	guards(b, m.Guards)
	gate(b, m.Gate)
	if r := m.Rules; r != nil && r.Error == "" {
		fmt.Fprintf(b, "  enforced for user %d: %d addresses barred, %d packets dropped\n", r.UID, r.Addresses, r.Dropped)
	} else if r != nil {
		fmt.Fprintf(b, "  not enforced: %s\n", r.Error)
	}
	if m.Order != nil {
		order(b, m)
	}
	for _, n := range m.Notices {
		word := "note"
		if n.Warn {
			word = "warning"
		}
		fmt.Fprintf(b, "  %s %s: %s", n.At.Format("15:04:05"), word, n.Text)
		if len(n.Guards) > 0 {
			fmt.Fprintf(b, " [%s]", strings.Join(n.Guards, " "))
		}
		b.WriteByte('\n')
	}
}

// guards is a table; nothing where there is none to show.
func guards(b *strings.Builder, all []runner.Guard) {
	if len(all) == 0 {
		return
	}
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "  GUARD\tUSE\tNOTES\n")
	for _, g := range all {
		use := ""
		switch {
		case g.InUse && g.Primary:
			use = "in use, primary"
		case g.InUse:
			use = "in use"
		case g.Primary:
			use = "primary"
		case g.Possible:
			use = "perhaps primary"
		}
		var notes []string
		for _, n := range []struct {
			is   bool
			word string
		}{{g.Excluded, "excluded"}, {g.Confirmed, "confirmed"}, {g.Down, "down"}, {!g.Listed, "not listed"}} {
			if n.is {
				notes = append(notes, n.word)
			}
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", g.Fingerprint, use, strings.Join(notes, ", "))
	}
	t.Flush() // into a strings.Builder: cannot fail
}

// order says what a member was told to give up, what came of it, and how fast.
func order(b *strings.Builder, m runner.Member) {
	fmt.Fprintf(b, "  order %d of term %d: %d exclusions", m.Order.Seq, m.Order.Term, len(m.Order.Exclusions))
	if m.Receipt != nil {
		fmt.Fprintf(b, "; %s", m.Receipt.Status)
		if m.Receipt.Reason != "" {
			fmt.Fprintf(b, " (%s)", m.Receipt.Reason)
		}
	}
	if m.Timing.Setconf > 0 {
		fmt.Fprintf(b, "; option set after %.1f ms (%.1f ms ours), %d circuits closed", m.Timing.Setconf, m.Timing.OwnShare, m.Timing.Closed)
	}
	b.WriteByte('\n')
}

// gate says how the join gate stands: since when, until when, and why.
func gate(b *strings.Builder, g *runner.Gate) {
	if g == nil {
		return
	}
	const clock = "15:04:05"
	switch g.State {
	case "open":
		fmt.Fprintf(b, "  join gate open: %s", g.Why)
		if !g.Opened.IsZero() {
			fmt.Fprintf(b, " (closed %s, opened %s, %d streams had waited)", g.Since.Format(clock), g.Opened.Format(clock), g.LetGo)
		}
	case "closed":
		then := "then it opens"
		if g.Holds {
			then = "and stays closed after that"
		}
		fmt.Fprintf(b, "  join gate CLOSED since %s: %d streams wait; %s; limit %s, %s", g.Since.Format(clock), g.Waiting, g.Why, g.Limit.Format(clock), then)
	default:
		fmt.Fprintf(b, "  join gate %s: %s", g.State, g.Why)
	}
	b.WriteByte('\n')
}
