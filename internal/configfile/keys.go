package configfile

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func tagName(f reflect.StructField) (string, bool) {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name, name != "" && name != "-" && f.IsExported()
}

// names returns the keys of a struct type in the order of its fields.
func names(t reflect.Type) []string {
	var all []string
	for i := range t.NumField() {
		if name, ok := tagName(t.Field(i)); ok {
			all = append(all, name)
		}
	}
	return all
}

func fieldNamed(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if n, ok := tagName(v.Type().Field(i)); ok && n == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// suggest words the remedy for an unknown name: the nearest known one, or all.
func suggest(name string, known []string) string {
	if near := Nearest(name, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return "known keys: " + strings.Join(known, ", ")
}

// Nearest returns the known word that name was most likely meant to be, or ""
// when none is near. For remedies of unknown keys, policies and the like.
func Nearest(name string, known []string) string {
	normal := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "-") }
	best, at := "", max(2, len(name)/3)+1
	for _, k := range known {
		if dist := distance(normal(name), normal(k)); dist < at {
			best, at = k, dist
		}
	}
	return best
}

// distance is the number of single letters to insert, delete, replace or swap
// with their neighbour to turn a into b (optimal string alignment).
func distance(a, b string) int {
	const maxName = 64 // bounds the work on absurd keys
	a, b = a[:min(len(a), maxName)], b[:min(len(b), maxName)]
	var older, prev []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		older, prev, row = prev, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], older[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

var days = regexp.MustCompile(`^([0-9]+)d`)

// ParseDuration is time.ParseDuration with whole days in front: "60d", "1d12h".
// Negative durations are refused: no setting means anything by one.
func ParseDuration(s string) (time.Duration, error) {
	rest, sum := s, time.Duration(0)
	if m := days.FindStringSubmatch(s); m != nil {
		n, err := strconv.ParseInt(m[1], 10, 32)
		if err != nil || n > 36500 {
			return 0, fmt.Errorf("%q is more than 100 years", s)
		}
		sum, rest = time.Duration(n)*24*time.Hour, s[len(m[0]):]
		if rest == "" {
			return sum, nil
		}
	}
	d, err := time.ParseDuration(rest)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration", s)
	case d < 0 || strings.HasPrefix(rest, "-"):
		return 0, fmt.Errorf("%q is negative", s)
	case sum+d < sum:
		return 0, fmt.Errorf("%q is too long", s)
	}
	return sum + d, nil
}

// FormatDuration writes what ParseDuration reads, in whole days where it can:
// "60d", "1d12h0m0s", "90s" as "1m30s".
func FormatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if n := d / day; n > 0 && d%day == 0 {
		return fmt.Sprintf("%dd", n)
	} else if n > 0 {
		return fmt.Sprintf("%dd%s", n, d%day)
	}
	return d.String()
}
