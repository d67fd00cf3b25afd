package shmproto

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"
)

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

// TestMend: a header that a guest has damaged is written anew, whatever it says;
// one that is as it should be, or another build's, is left alone.
func TestMend(t *testing.T) {
	h := Header{Gateway: "browsing", RegionEpoch: [16]byte{1, 2, 3}, Compatible: FeatureEnded}
	good := newMemory(t)
	if mended, err := Mend(good, h); mended || err != nil {
		t.Fatalf("good header: mended %v, %v", mended, err)
	}
	lie := newMemory(t)
	writeHeader(lie, Header{Gateway: "updates", RegionEpoch: h.RegionEpoch})
	torn := newMemory(t)
	clear(torn[headerChecksumOff:headerStaticSize])
	gone := newMemory(t)
	store(gone, headerMagicOff, 0)
	for what, b := range map[string][]byte{"another name": lie, "torn": torn, "no magic": gone} {
		if mended, err := Mend(b, h); !mended || err != nil {
			t.Errorf("%s: mended %v, %v", what, mended, err)
		}
		if !bytes.Equal(b[:headerSize], good[:headerSize]) {
			t.Errorf("%s: the header is not what it was", what)
		}
	}
	newer := newMemory(t)
	copy(newer, readHex(t, filepath.Join("testdata", "versions", "v2-only.hex")))
	if mended, err := Mend(newer, h); mended || !errors.Is(err, ErrVersion) {
		t.Errorf("a newer build's header: mended %v, %v", mended, err)
	}
}
