package shmproto

import "testing"

// TestGuestSeat: a seat counts as free only by the word of a server that keeps
// one, and only for the attachment that the word names.
func TestGuestSeat(t *testing.T) {
	b := newMemory(t)
	r, err := Open(b)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, r *Region, attachment Attachment, held bool) {
		t.Helper()
		if a, h := r.GuestSeat(); a != attachment || h != held {
			t.Errorf("%s: attachment %d, held %v, want %d, %v", what, a, h, attachment, held)
		}
	}
	check("taken", r, 7, true)
	SetEnded(b, 7)
	check("its holder gone", r, 7, false)
	SetAttachment(b, 8)
	check("taken again, by a server that does not keep the word", r, 8, true)

	old := make([]byte, RegionSize)
	if err := Format(old, Header{Gateway: "browsing", Attachment: 7}); err != nil {
		t.Fatal(err)
	}
	if r, err = Open(old); err != nil {
		t.Fatal(err)
	}
	check("region of a server without the word", r, 7, true)
	SetEnded(old, 7)
	check("a word that no server has announced", r, 7, true)
}
