package apparmor

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Configured is the file, below Dir, that tells the profiles where the configuration
// puts things.
const Configured = "tunables/guardring.configured"

// Setting is a path of the configuration that profiles must know.
type Setting struct {
	// Variable is the name in tunables/guardring, without @{}.
	Variable string
	// Key names the setting in errors.
	Key string
	// Path is absolute; "" for a setting that is off.
	Path string
}

// plainPath is a path in which AppArmor gives no character a meaning of its own.
var plainPath = regexp.MustCompile(`^(/[A-Za-z0-9_.+:~ -]+)+$`)

// Tunables returns the text of the file Configured: what these settings have besides
// the defaults, "" if nothing. The defaults stay valid. A path that AppArmor would
// take for a pattern is an error, and so is one right below the root: a rule for all
// in it would be as good as none.
func Tunables(settings []Setting) (string, error) {
	known := map[string][]string{}
	for line := range strings.Lines(tunablesText) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "}=")
		if name, is := strings.CutPrefix(name, "@{"); is && ok {
			known[name] = []string{value}
		}
	}
	var b strings.Builder
	var faults []error
	for _, s := range settings {
		if _, ok := known[s.Variable]; !ok {
			return "", fmt.Errorf("tunables/guardring has no variable %q", s.Variable)
		}
		value := ""
		if s.Path != "" {
			value = path.Clean(s.Path)
		}
		switch {
		case value == "" || slices.Contains(known[s.Variable], value):
			continue
		case !plainPath.MatchString(value):
			faults = append(faults, fmt.Errorf("%s: AppArmor would read more than a path in %q: use letters, digits and _ . + : ~ - only", s.Key, s.Path))
			continue
		case strings.Count(value, "/") < 2:
			faults = append(faults, fmt.Errorf("%s: a profile that allows all of %s would be none: use a directory below it", s.Key, value))
			continue
		}
		known[s.Variable] = append(known[s.Variable], value)
		fmt.Fprintf(&b, "# %s\n@{%s}+=\"%s\"\n", s.Key, s.Variable, value)
	}
	if err := errors.Join(faults...); err != nil {
		return "", err
	}
	if b.Len() == 0 {
		return "", nil
	}
	return "# Profiles of guardring: what the configuration says; \"guardring apparmor install\" makes this file.\n\n" + b.String(), nil
}
