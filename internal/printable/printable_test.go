package printable

import "testing"

// A byte that is no UTF-8, such as the control character 0x9b as terminals of one byte a
// character know it, is shown as the replacement character.
func TestTextAndLine(t *testing.T) {
	const said = "a\tb\nc \x1b[2J\r\x9b1m \u202e\u200bü\xff"
	if got, want := Text(said), "a\tb\nc ?[2J?\ufffd1m ??ü\ufffd"; got != want {
		t.Errorf("Text: %q, want %q", got, want)
	}
	if got, want := Line(said), "a b c ?[2J?\ufffd1m ??ü\ufffd"; got != want {
		t.Errorf("Line: %q, want %q", got, want)
	}
}
