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
	// use-family-lists=0 and use-family-ids=0: such declarations make no family (both
	// are 1 where the consensus does not say).
	IgnoreFamilyLists, IgnoreFamilyIDs bool
}

// ParseParams reads a consensus' params line, with or without "params " (dir-spec).
// Unknown parameters, and known ones that are no 32-bit number, are skipped: Tor would use its default too.
func ParseParams(line string) Params {
	var p Params
	fields := map[string]*int{
		"guard-n-primary-guards":            &p.NPrimaryGuards,
		"guard-n-primary-dir-guards-to-use": &p.NPrimaryDirGuardsToUse,
		"guard-n-primary-guards-to-use":     &p.NPrimaryGuardsToUse,
	}
	ignored := map[string]*bool{"use-family-lists": &p.IgnoreFamilyLists, "use-family-ids": &p.IgnoreFamilyIDs}
	for _, word := range strings.Fields(strings.TrimPrefix(line, "params ")) {
		key, value, _ := strings.Cut(word, "=")
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 0 {
			continue
		}
		if f := fields[key]; f != nil {
			*f = int(n)
		}
		if f := ignored[key]; f != nil {
			*f = n == 0
		}
	}
	return p
}
