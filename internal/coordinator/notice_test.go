package coordinator

import (
	"strings"
	"testing"

	"guardring/internal/guardstate"
)

// TestNoticesNameNoGuard: a log is read by more people than the ledger. Only who asks for
// fingerprints gets them.
func TestNoticesNameNoGuard(t *testing.T) {
	one, other := RelayKey(guardstate.Fingerprint{0xab, 0xcd, 0xef}), RelayKey(guardstate.Fingerprint{0x12, 0x34, 0x56})
	for _, level := range []Level{LevelRelay, LevelFamily, LevelSubnet} {
		n := Notice{Kind: NoticeExcluded, Member: Member{"a", "default"}, Other: Member{"b", "default"}, Key: one, Level: level, Over: other,
			Why: WhyConflict, Stamp: Stamp{Counter: 2}, Others: Stamp{Counter: 1}, Seq: 1, Reason: ReasonUsed}
		for _, part := range []string{"abcdef", "123456"} {
			if text := strings.ToLower(n.String()); strings.Contains(text, part) {
				t.Errorf("%s", text)
			}
			if text := strings.ToLower(n.Detail()); !strings.Contains(text, part) {
				t.Errorf("asked for, and not there: %s", text)
			}
		}
	}
}
