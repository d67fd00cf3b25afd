package guardstate

import (
	"strconv"
	"strings"
)

// Params are the consensus parameters that decide how many guards a Tor keeps
// and how families count. 0 means "not in the consensus": Tor's default holds.
type Params struct {
	NPrimaryGuards         int // guard-n-primary-guards (3)
	NPrimaryDirGuardsToUse int // guard-n-primary-dir-guards-to-use (3)
	NPrimaryGuardsToUse    int // guard-n-primary-guards-to-use (1)
	UseFamilyLists         int // use-family-lists
	UseFamilyIDs           int // use-family-ids
}

// ParseParams reads a consensus' params line, with or without "params " (dir-spec).
// Unknown parameters, and known ones that are no 32-bit number, are skipped: Tor would use its default too.
func ParseParams(line string) Params {
	var p Params
	fields := map[string]*int{
		"guard-n-primary-guards":            &p.NPrimaryGuards,
		"guard-n-primary-dir-guards-to-use": &p.NPrimaryDirGuardsToUse,
		"guard-n-primary-guards-to-use":     &p.NPrimaryGuardsToUse,
		"use-family-lists":                  &p.UseFamilyLists,
		"use-family-ids":                    &p.UseFamilyIDs,
	}
	for _, word := range strings.Fields(strings.TrimPrefix(line, "params ")) {
		key, value, _ := strings.Cut(word, "=")
		if f := fields[key]; f != nil {
			if n, err := strconv.ParseInt(value, 10, 32); err == nil && n >= 0 {
				*f = int(n)
			}
		}
	}
	return p
}
