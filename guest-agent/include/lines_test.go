package include

import (
	"fmt"
	"strings"
	"testing"
)

// TestParseLines: what tor --dump-config short (0.4.9.11) makes of these.
func TestParseLines(t *testing.T) {
	for text, want := range map[string]string{
		"ContactInfo a # \\\nNickname foo\n":                   "1 contactinfo=a, 2 nickname=foo",
		"ContactInfo a \\\n b # c\nNickname foo\n":             "1 contactinfo=a  b Nickname foo",
		"ContactInfo a \\\n# c\n b\nNickname foo\n":            "1 contactinfo=a  b, 4 nickname=foo",
		"ContactInfo a \\\n b # c \\\nNickname foo\n":          "1 contactinfo=a  b Nickname foo",
		"ContactInfo a \\\n b \\\n # c\nNick foo\nSocksPort 9": "1 contactinfo=a  b  Nick foo, 5 socksport=9",
		"ContactInfo a\\\r\n b\r\nNickname foo\r\n":            "1 contactinfo=a b, 3 nickname=foo",
		"#x \\\nNickname foo":                                  "2 nickname=foo",
		"ContactInfo \\\n# c # d\n# e\n x\nNickname foo\n":     "1 contactinfo=x, 5 nickname=foo",
		"ContactInfo\\\n foo\nNickname f\n":                    "1 contactinfo=foo, 3 nickname=f",
		"ContactInfo \"a # b\" # \\\nNickname foo\n":           "1 contactinfo=\"a # b\", 2 nickname=foo",
		"ContactInfo \"a\\\\\" \nNickname \"f\\\"o\"\n":        "1 contactinfo=\"a\\\\\", 2 nickname=\"f\\\"o\"",
		"\n \t\n+SocksPort\t9050\n/ORPort\nSANDBOX#1":          "3 socksport=9050, 4 orport=, 5 sandbox=",
		"": "", "#": "", "\\\n": "1 =", "A \"b\nC d": "1 a=\"b, 2 c=d", "A \\\n#": "1 a=",
	} {
		var got []string
		for _, l := range parseLines("", text) {
			got = append(got, fmt.Sprintf("%d %s=%s", l.number, l.key, l.value))
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("%q\n got %s\nwant %s", text, s, want)
		}
	}
}
