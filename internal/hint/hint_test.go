package hint

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"guardring/internal/configfile"
)

func TestEachJoinedErrorComesWithItsOwnHint(t *testing.T) {
	faults := configfile.Parse("f.yaml", []byte("policy: 1\nwrong: 2\n"), &struct {
		Policy string `yaml:"policy"`
	}{})
	err := errors.Join(
		Wrap(errors.New("first"), "do this"),
		fmt.Errorf("second: %w", Errorf("do that", "socket %s", "x")),
		fmt.Errorf("two at once: %w, %w", errors.New("a"), Wrap(errors.New("b"), "mend b")),
		faults,
		errors.New("a line\nanother \x1b[2J"),
	)
	var b strings.Builder
	Print(&b, "prog", err)
	want := `prog: error: first
prog: hint: do this
prog: error: second: socket x
prog: hint: do that
prog: error: two at once: a, b
prog: hint: mend b
prog: error: f.yaml:2: wrong: unknown key
prog: hint: known keys: policy
prog: error: a line
prog: error: another ?[2J
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

func TestTheOutermostHintWins(t *testing.T) {
	inner := Wrap(fs.ErrNotExist, "inner")
	outer := fmt.Errorf("more: %w", Wrap(inner, "outer"))
	if got := Of(outer); got != "outer" || !errors.Is(outer, fs.ErrNotExist) || Of(fs.ErrNotExist) != "" {
		t.Errorf("hint %q of %v", got, outer)
	}
}
