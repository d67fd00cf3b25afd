// Package outcome judges what several gateways' Tors show before and after guardring has worked, and makes the traffic that they
// carry meanwhile.
//
// Trust: it goes by the oracle's views, hence by Tor; guardring's own word has no part in it.
package outcome

import (
	"fmt"
	"slices"
	"sort"

	"guardring/e2e/oracle"
)

// Snapshot is what Tor shows of every gateway at one moment, by gateway name.
type Snapshot map[string]oracle.View

// Names are the gateways, sorted.
func (s Snapshot) Names() []string {
	var out []string
	for n := range s {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}

// Held is what must be disjoint: primary or in use.
func Held(v oracle.View) []string {
	out := slices.Clone(v.Primary)
	for _, fp := range v.InUse {
		if !slices.Contains(out, fp) {
			out = append(out, fp)
		}
	}
	return out
}

// Changed lists the gateways whose primaries differ, in order or in membership.
func Changed(before, after Snapshot) []string {
	var out []string
	for _, n := range before.Names() {
		if !slices.Equal(before[n].Primary, after[n].Primary) {
			out = append(out, n)
		}
	}
	return out
}

// Lost counts the primaries that gateways no longer have.
func Lost(before, after Snapshot) int {
	k := 0
	for n := range before {
		for _, fp := range before[n].Primary {
			if !slices.Contains(after[n].Primary, fp) {
				k++
			}
		}
	}
	return k
}

// Disjoint says what is wrong with the outcome of policy disjoint; nothing when it is right. rivals are the two
// gateways that shared common.
func Disjoint(before, after Snapshot, rivals []string, common string) []string {
	var faults []string
	names := before.Names()
	for i, a := range names {
		for _, b := range names[i+1:] {
			for _, fp := range Held(after[a]) {
				if slices.Contains(Held(after[b]), fp) {
					faults = append(faults, fmt.Sprintf("%s and %s both hold %s", a, b, fp[:8]))
				}
			}
		}
	}
	moved := Changed(before, after)
	if len(moved) != 1 || !slices.Contains(rivals, moved[0]) {
		faults = append(faults, fmt.Sprintf("changed gateways are %v, not exactly one of %v", moved, rivals))
	}
	for _, n := range names {
		faults = append(faults, keptOrder(n, before[n], after[n], common)...)
	}
	return faults
}

// Unchanged says what is wrong when nothing may have changed.
func Unchanged(before, after Snapshot, rivals []string, common string) []string {
	var faults []string
	for _, n := range Changed(before, after) {
		faults = append(faults, n+" has other primary guards than before")
	}
	for _, n := range rivals {
		if !slices.Contains(after[n].InUse, common) {
			faults = append(faults, n+" has left the common guard")
		}
	}
	for _, n := range before.Names() {
		faults = append(faults, keptOrder(n, before[n], after[n], "")...)
	}
	return faults
}

// keptOrder checks that a gateway keeps every primary but the given one, in the same order and ahead of newcomers, that it
// is connected, and that its sample is what it was, with possible additions at the end.
func keptOrder(name string, before, after oracle.View, except string) []string {
	var faults []string
	var want []string
	for _, fp := range before.Primary {
		if fp != except || slices.Contains(after.Primary, fp) {
			want = append(want, fp)
		}
	}
	if len(after.Primary) != len(before.Primary) {
		faults = append(faults, fmt.Sprintf("%s has %d primary guards, not %d", name, len(after.Primary), len(before.Primary)))
	}
	if got := after.Primary[:min(len(want), len(after.Primary))]; !slices.Equal(got, want) {
		faults = append(faults, fmt.Sprintf("%s: guards without conflict are not as before in the same order", name))
	}
	if len(after.InUse) == 0 {
		faults = append(faults, name+" uses no guard: it is not connected")
	}
	if len(after.Sample) < len(before.Sample) {
		return append(faults, fmt.Sprintf("%s: the sample shrank from %d to %d guards", name, len(before.Sample), len(after.Sample)))
	}
	for i, s := range before.Sample {
		a := after.Sample[i]
		if a.In != "default" || a.Fingerprint != s.Fingerprint || s.ConfirmedOn != "" && a.ConfirmedOn != s.ConfirmedOn {
			faults = append(faults, fmt.Sprintf("%s: sampled guard %d is not as before", name, i))
			break
		}
	}
	return faults
}
