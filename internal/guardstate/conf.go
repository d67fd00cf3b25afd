package guardstate

import (
	"fmt"
	"strings"
)

// Conf is the answer to one GETCONF, in Tor's order.
type Conf []ConfLine

// ConfLine is one "Key=Value" of a GETCONF answer. A key alone ("250 Key")
// means that the option has its default: Default is set and Value is "".
type ConfLine struct {
	Key, Value string
	Default    bool
}

// Limits of a GETCONF answer.
const (
	maxConfLines = 4096
	maxConfValue = 1 << 20
)

// ParseConf reads GETCONF's reply lines, with or without "250-" and "250 ". Tor
// quotes values that need it (control-spec, QuotedString).
func ParseConf(text string) (Conf, error) {
	var c Conf
	for n, line := range lines(text) {
		line = strings.TrimPrefix(strings.TrimPrefix(line, "250-"), "250 ")
		if line == "" || line == "OK" {
			continue
		}
		if len(c) == maxConfLines {
			return nil, fmt.Errorf("getconf: more than %d lines", maxConfLines)
		}
		key, value, set := strings.Cut(line, "=")
		if key == "" || strings.ContainsAny(key, " \"") {
			return nil, fmt.Errorf("getconf line %d: option name %.40q", n+1, key)
		}
		if len(value) > maxConfValue {
			return nil, fmt.Errorf("getconf line %d: %s of %d bytes, want at most %d", n+1, key, len(value), maxConfValue)
		}
		if strings.HasPrefix(value, `"`) {
			var err error
			if value, err = unquote(value); err != nil {
				return nil, fmt.Errorf("getconf line %d: %s: %w", n+1, key, err)
			}
		}
		c = append(c, ConfLine{Key: key, Value: value, Default: !set})
	}
	return c, nil
}

// Values returns the values of key, in order; nil if it has its default. Keys
// are compared without case, as Tor does.
func (c Conf) Values(key string) []string {
	var out []string
	for _, l := range c {
		if !l.Default && strings.EqualFold(l.Key, key) {
			out = append(out, l.Value)
		}
	}
	return out
}

// Value returns the last value of key, "" if it has its default.
func (c Conf) Value(key string) string {
	vs := c.Values(key)
	if len(vs) == 0 {
		return ""
	}
	return vs[len(vs)-1]
}

// unquote undoes control-spec's QuotedString.
func unquote(s string) (string, error) {
	if len(s) < 2 || s[len(s)-1] != '"' {
		return "", fmt.Errorf("quoted value %.40q is not closed", s)
	}
	body := s[1 : len(s)-1]
	var b strings.Builder
	for i := 0; i < len(body); i++ {
		ch := body[i]
		if ch == '"' {
			return "", fmt.Errorf("quote inside the quoted value %.40q", s)
		}
		if ch != '\\' {
			b.WriteByte(ch)
			continue
		}
		if i++; i == len(body) {
			return "", fmt.Errorf("quoted value %.40q ends in a backslash", s)
		}
		switch body[i] {
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		default:
			b.WriteByte(body[i])
		}
	}
	return b.String(), nil
}
