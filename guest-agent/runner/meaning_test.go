package runner

import (
	"strings"
	"testing"

	"guardring/shmproto"
)

// TestMeaning: each way in which a Tor is not protected has words of its own.
func TestMeaning(t *testing.T) {
	for want, p := range map[string]shmproto.Publication{
		"is a relay":           {State: shmproto.MemberRefused},
		"uses bridges":         {State: shmproto.MemberObserveOnly, Selection: shmproto.SelectionBridges},
		"policy observe":       {State: shmproto.MemberObserveOnly, Selection: shmproto.SelectionDefault},
		"restricted selection": {State: shmproto.MemberPresent, Selection: shmproto.SelectionRestricted, Flags: shmproto.MemberFewGuards},
		"leave too few guards": {State: shmproto.MemberPresent, Selection: shmproto.SelectionDefault, Flags: shmproto.MemberFewGuards},
		"pinned layers":        {State: shmproto.MemberPresent, Flags: shmproto.MemberTruncated},
		"declared families":    {State: shmproto.MemberPresent, Flags: shmproto.MemberFamiliesLeftOut},
	} {
		got := meaning(&p)
		if len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("want words with %q alone, got %q", want, got)
		}
	}
	if got := meaning(&shmproto.Publication{State: shmproto.MemberPresent, Selection: shmproto.SelectionDefault}); len(got) != 0 {
		t.Errorf("of an ordinary member %q is said", got)
	}
}
