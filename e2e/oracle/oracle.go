// Package oracle says which guards a Tor uses, from Tor itself: the first hops of its circuits, the primary guards that
// its guard code logs, and the order in its state file. It shares no code with the agents and never takes their word.
//
// Trust: Tor's own log and control port are believed; anything that does not parse is an error, not an absence.
package oracle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"guardring/e2e/tornet"
)

// Circuit is one circuit of Tor's list.
type Circuit struct {
	ID, Status string
	// First is the first hop's fingerprint, upper-case hex; empty while nothing is built.
	First string
	// Flags are the BUILD_FLAGS.
	Flags []string
	// Purpose is GENERAL, CONFLUX_LINKED, HS_SERVICE_INTRO …
	Purpose string
	// ConfluxID names the set of a conflux leg; empty for others.
	ConfluxID string
	// Path is the whole path's fingerprints.
	Path []string
}

// OneHop tells a directory fetch, which is no use of a guard in the sense of guardring.
func (c Circuit) OneHop() bool { return slices.Contains(c.Flags, "ONEHOP_TUNNEL") }

// String is for error messages.
func (c Circuit) String() string {
	return fmt.Sprintf("{%s %s %s %s %s conflux=%.8s}", c.ID, c.Status, c.Purpose, short([]string{c.First}), strings.Join(c.Flags, ","), c.ConfluxID)
}

// Sampled is a guard of the state file.
type Sampled struct {
	Fingerprint string
	Index       int
	// ConfirmedOn is as written; empty when unconfirmed.
	ConfirmedOn string
	// In is the selection: default, restricted or bridges.
	In string
}

// View is what a Tor shows of its guards at one moment.
type View struct {
	// InUse are the first hops of BUILT circuits with more than one hop, sorted.
	InUse []string
	// Primary are the primary guards as Tor last logged them, in order.
	Primary []string
	// Sample is the state file's sample in sampled order. Tor writes it up to 30 s late.
	Sample []Sampled
	// Circuits are all circuits.
	Circuits []Circuit
}

// Look takes a view of a running client.
func Look(c *tornet.Client) (View, error) {
	var v View
	var err error
	if v.Circuits, err = Circuits(c); err != nil {
		return View{}, fmt.Errorf("%s: %w", c.Name, err)
	}
	seen := map[string]bool{}
	for _, k := range v.Circuits {
		if k.Status == "BUILT" && !k.OneHop() && k.First != "" {
			seen[k.First] = true
		}
	}
	for fp := range seen {
		v.InUse = append(v.InUse, fp)
	}
	sort.Strings(v.InUse)
	if v.Primary, err = Primary(c); err != nil {
		return View{}, fmt.Errorf("%s: %w", c.Name, err)
	}
	if v.Sample, err = Sample(c); err != nil {
		return View{}, fmt.Errorf("%s: %w", c.Name, err)
	}
	return v, nil
}

// Circuits asks for the list of circuits.
func Circuits(c *tornet.Client) ([]Circuit, error) {
	ctl := c.Control()
	if ctl == nil {
		return nil, fmt.Errorf("not running")
	}
	text, err := ctl.Info("circuit-status")
	if err != nil {
		return nil, err
	}
	var out []Circuit
	for line := range strings.Lines(text) {
		k, err := parseCircuit(strings.TrimSpace(line))
		if err != nil {
			return nil, err
		}
		if k.ID != "" {
			out = append(out, k)
		}
	}
	return out, nil
}

func parseCircuit(line string) (Circuit, error) {
	if line == "" {
		return Circuit{}, nil
	}
	f := strings.Fields(line)
	if len(f) < 2 {
		return Circuit{}, fmt.Errorf("circuit-status line %q", line)
	}
	k := Circuit{ID: f[0], Status: f[1]}
	for i, w := range f[2:] {
		if i == 0 && strings.HasPrefix(w, "$") {
			for hop := range strings.SplitSeq(w, ",") {
				fp, _, _ := strings.Cut(strings.TrimPrefix(hop, "$"), "~")
				if len(fp) != 40 {
					return Circuit{}, fmt.Errorf("hop %q in circuit-status line %q", hop, line)
				}
				k.Path = append(k.Path, fp)
			}
			k.First = k.Path[0]
			continue
		}
		key, val, _ := strings.Cut(w, "=")
		switch key {
		case "BUILD_FLAGS":
			k.Flags = strings.Split(val, ",")
		case "PURPOSE":
			k.Purpose = val
		case "CONFLUX_ID":
			k.ConfluxID = val
		}
	}
	return k, nil
}

var primaryLine = regexp.MustCompile(`entry_guards_update_primary(?:\(\))?: +(\d+)/(\d+): .*\$?([0-9A-F]{40})`)

// Primary reads the set that Tor logged last, whole sets only; nil if it has logged none.
func Primary(c *tornet.Client) ([]string, error) {
	b, err := os.ReadFile(c.GuardLog())
	if err != nil {
		return nil, err
	}
	var last, cur []string
	for line := range strings.Lines(string(b)) {
		m := primaryLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		i, _ := strconv.Atoi(m[1])
		n, _ := strconv.Atoi(m[2])
		if i == 1 {
			cur = nil
		}
		if i != len(cur)+1 {
			return nil, fmt.Errorf("guard log: primary %d of %d follows %d others", i, n, len(cur))
		}
		cur = append(cur, m[3])
		if i == n {
			last = slices.Clone(cur)
		}
	}
	return last, nil
}

// Sample reads the default selection's guards from the state file, in sampled order.
func Sample(c *tornet.Client) ([]Sampled, error) {
	b, err := c.ReadState()
	if err != nil {
		return nil, err
	}
	var out []Sampled
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(line, "Guard ")
		if !ok {
			continue
		}
		s := Sampled{Index: -1}
		for _, w := range strings.Fields(rest) {
			k, v, _ := strings.Cut(w, "=")
			switch k {
			case "in":
				s.In = v
			case "rsa_id":
				s.Fingerprint = v
			case "sampled_idx":
				if s.Index, err = strconv.Atoi(v); err != nil {
					return nil, fmt.Errorf("state file: %w", err)
				}
			case "confirmed_on":
				s.ConfirmedOn = v
			}
		}
		out = append(out, s)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Index < out[j].Index })
	return out, nil
}

// Await looks every 100 ms until ok holds, and returns that view. The error says what was last seen.
func Await(ctx context.Context, c *tornet.Client, what string, ok func(View) bool) (View, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		v, err := Look(c)
		if err == nil && ok(v) {
			return v, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if err != nil {
				return View{}, fmt.Errorf("%s: awaiting %s: %w", c.Name, what, err)
			}
			return View{}, fmt.Errorf("%s: awaiting %s: %w; in use %v, primary %v, circuits %v", c.Name, what, ctx.Err(), short(v.InUse), short(v.Primary), v.Circuits)
		}
	}
}

// CloseStrays closes circuits whose first hop is none of the given guards. While microdescriptors are missing, a starting Tor
// takes an additional guard for a conflux leg; a planted scene must begin without such chance guards in use.
func CloseStrays(c *tornet.Client, keep []string) error {
	cs, err := Circuits(c)
	if err != nil {
		return err
	}
	for _, k := range cs {
		if k.First == "" || k.OneHop() || slices.Contains(keep, k.First) {
			continue
		}
		var reply *tornet.ReplyError
		if _, err := c.Control().Do("CLOSECIRCUIT " + k.ID); err != nil && !errors.As(err, &reply) {
			return err
		}
	}
	return nil
}

// AllIn tells whether every element is in the set.
func AllIn(elements, set []string) bool {
	return !slices.ContainsFunc(elements, func(e string) bool { return !slices.Contains(set, e) })
}

func short(fps []string) []string {
	out := make([]string, len(fps))
	for i, f := range fps {
		out[i] = f[:min(8, len(f))]
	}
	return out
}
