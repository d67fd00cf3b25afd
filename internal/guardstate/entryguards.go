package guardstate

import (
	"fmt"
	"strings"
	"time"
)

// EntryGuardStatus is what GETINFO entry-guards says of one guard.
type EntryGuardStatus uint8

// The statuses of control-spec, "entry-guards". Tor tests them in this order,
// so NeverConnected hides whether an unconfirmed guard is unusable or down.
const (
	EntryGuardNeverConnected EntryGuardStatus = iota // not confirmed; says nothing about filter or listing
	EntryGuardUp                                     // confirmed, listed, filtered, not known to be down
	EntryGuardDown                                   // confirmed, listed, filtered, believed to be down
	EntryGuardUnusable                               // confirmed, but unlisted or not filtered
)

// String returns Tor's word for s.
func (s EntryGuardStatus) String() string {
	switch s {
	case EntryGuardNeverConnected:
		return "never-connected"
	case EntryGuardUp:
		return "up"
	case EntryGuardDown:
		return "down"
	case EntryGuardUnusable:
		return "unusable"
	}
	return fmt.Sprintf("EntryGuardStatus(%d)", uint8(s))
}

// EntryGuard is one guard of Tor's active selection. A list of them is in
// sampled order, which is Tor's order of preference.
type EntryGuard struct {
	Fingerprint Fingerprint
	Nickname    string // "" if Tor knows none
	Status      EntryGuardStatus
	Since       time.Time // when Tor last failed to reach it (Down), else zero
}

// Confirmed reports whether the guard was used at some time: Tor tests that first.
func (g EntryGuard) Confirmed() bool { return g.Status != EntryGuardNeverConnected }

// maxEntryGuards bounds a snapshot. Tor samples at most 60 guards, but an
// unlisted one stays for weeks, so a sample can hold somewhat more.
const maxEntryGuards = 1024

// ParseEntryGuards reads the value of GETINFO entry-guards: one guard a line,
// "$FP~nick STATUS [ISOTIME]", with or without "=" for a named relay. An empty
// value is an empty sample: Tor shows that for up to a second after DROPGUARDS.
func ParseEntryGuards(text string) ([]EntryGuard, error) {
	var out []EntryGuard
	for n, line := range lines(text) {
		if line == "" {
			continue
		}
		if len(out) == maxEntryGuards {
			return nil, fmt.Errorf("entry-guards: more than %d guards", maxEntryGuards)
		}
		g, err := parseEntryGuard(line)
		if err != nil {
			return nil, fmt.Errorf("entry-guards line %d: %w", n+1, err)
		}
		out = append(out, g)
	}
	return out, nil
}

func parseEntryGuard(line string) (EntryGuard, error) {
	name, rest, ok := strings.Cut(line, " ")
	if !ok {
		return EntryGuard{}, fmt.Errorf("guard %.60q without a status", line)
	}
	fp, nick, err := parseLongName(name)
	if err != nil {
		return EntryGuard{}, err
	}
	g := EntryGuard{Fingerprint: fp, Nickname: nick}
	word, when, _ := strings.Cut(rest, " ")
	switch word {
	case "never-connected":
		g.Status = EntryGuardNeverConnected
	case "up":
		g.Status = EntryGuardUp
	case "down":
		g.Status = EntryGuardDown
	case "unusable":
		g.Status = EntryGuardUnusable
	default:
		return EntryGuard{}, fmt.Errorf("unknown status %.40q", word)
	}
	if when != "" {
		if g.Since, err = time.Parse("2006-01-02 15:04:05", when); err != nil {
			return EntryGuard{}, fmt.Errorf("time %.40q: %w", when, err)
		}
	}
	return g, nil
}

// parseLongName splits control-spec's LongName, "$FP", "$FP~nick" or "$FP=nick".
func parseLongName(s string) (Fingerprint, string, error) {
	fp, err := ParseFingerprint(s)
	if err != nil {
		return Fingerprint{}, "", err
	}
	nick := ""
	if i := strings.IndexAny(s, "~="); i >= 0 {
		nick = s[i+1:]
	}
	return fp, nick, nil
}

// lines splits a reply into lines without their CR or LF.
func lines(text string) []string {
	ls := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := range ls {
		ls[i] = strings.TrimSuffix(ls[i], "\r")
	}
	return ls
}
