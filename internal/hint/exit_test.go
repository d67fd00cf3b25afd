package hint

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestEnd(t *testing.T) {
	for _, test := range []struct {
		err  error
		code int
		says string
	}{
		{nil, 0, ""},
		{Exit{3}, 3, ""},
		{fmt.Errorf("wrapped: %w", errors.Join(Exit{2}, errors.New("x"))), 2, ""},
		{Errorf("do this", "it failed"), 1, "prog: error: it failed\nprog: hint: do this\n"},
	} {
		var b strings.Builder
		if code := End(&b, "prog", test.err); code != test.code || b.String() != test.says {
			t.Errorf("%v: exit code %d, want %d; says %q, want %q", test.err, code, test.code, b.String(), test.says)
		}
	}
}
