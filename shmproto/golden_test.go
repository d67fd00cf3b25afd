package shmproto

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/golden anew; review the difference")

// golden compares b with testdata/golden/name.hex and returns the file's bytes,
// 16 a line.
func golden(t *testing.T, name string, b []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".hex")
	if *update {
		var text strings.Builder
		for rest := b; len(rest) > 0; {
			n := min(16, len(rest))
			text.WriteString(hex.EncodeToString(rest[:n]) + "\n")
			rest = rest[n:]
		}
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := readHex(t, path)
	if !bytes.Equal(b, want) {
		t.Errorf("%s: encoded\n%swant\n%s", path, hex.Dump(b), hex.Dump(want))
	}
	return want
}

// readHex reads hexadecimal digits; text behind # is a comment.
func readHex(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return b
}

// buffer returns the record that a cell shows.
func (c cell) buffer() []byte {
	b := c.mem[c.bufferOff(c.version()):][:c.bufferSize()]
	n := int(le.Uint32(b[recordShapeOff:]))
	return b[:recordHeaderSize+(n+7)&^7]
}

func TestGoldenHeader(t *testing.T) {
	b := newMemory(t)
	want := golden(t, "header", b[:headerEndedOff+8])
	clear(b[:headerEndedOff+8])
	copy(b, want)
	r, err := Open(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Header{Gateway: "browsing", RegionEpoch: [16]byte{1, 2, 3}, Attachment: 7, Compatible: FeatureEnded}, r.Header()); d != "" {
		t.Error(d)
	}
}

func TestGoldenPublications(t *testing.T) {
	for name, p := range map[string]*Publication{
		"publication-absent":  {},
		"publication-refused": {Member: "relay", State: MemberRefused, Seq: 1},
		"publication-typical": samplePublication(4, false),
		"publication-family":  samplePublication(2, true),
		"publication-gated":   gatedPublication(),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegion(t)
			g, h := newGuest(t, r, 2), r.Host(1)
			if err := g.Publish(0, p); err != nil {
				t.Fatal(err)
			}
			c := publicationCell(guestArea(r.mem), 0)
			want := golden(t, name, c.buffer())
			// Clear both buffers, and put the file's bytes where the version says.
			clear(c.mem[cellBuffersOff:])
			copy(c.mem[c.bufferOff(c.version()):], want)
			var got Publication
			if err := h.ReadPublication(0, &got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(p, &got, sameValue); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestGoldenOrders(t *testing.T) {
	for name, o := range map[string]*Order{
		"order-empty": sampleOrder(0),
		"order-full":  sampleOrder(MaxExclusions),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegion(t)
			g, h := r.Guest(0, 1), r.Host(1)
			if err := h.WriteOrder(4, o); err != nil {
				t.Fatal(err)
			}
			c := orderCell(hostArea(r.mem, 1), 4)
			want := golden(t, name, c.buffer())
			clear(c.mem[cellBuffersOff:])
			copy(c.mem[c.bufferOff(c.version()):], want)
			var got Order
			if err := g.ReadOrder(4, "default", &got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(o, &got, sameValue); d != "" {
				t.Error(d)
			}
			digest := o.Digest()
			golden(t, name+"-digest", digest[:])
		})
	}
}

func TestGoldenLease(t *testing.T) {
	r := newRegion(t)
	lease := Lease{Epoch: Epoch{1700000000000, 9}, Term: 2, Heartbeat: 77, Acting: true, Observe: true}
	r.Host(0).SetLease(lease)
	c := leaseCell(hostArea(r.mem, 0))
	want := golden(t, "lease", c.buffer())
	clear(c.mem[cellBuffersOff:])
	copy(c.mem[c.bufferOff(c.version()):], want)
	if got, err := r.Guest(0, 1).ReadLease(0); err != nil || got != lease {
		t.Errorf("lease %+v, %v, want %+v", got, err, lease)
	}
}

func TestGoldenRingAndLock(t *testing.T) {
	r := newRegion(t)
	h := r.Host(0)
	g := newGuest(t, r, 1)
	want := Journal{Kind: JournalReceipt, Slot: 5, Args: [3]uint64{2, 5, 0x103}}
	if err := g.Append(want); err != nil {
		t.Fatal(err)
	}
	area := guestArea(r.mem)
	golden(t, "lock", area[guestLockOff:][:lockSize])
	ringMem := ringIn(area, guestRingOff)
	place := ringMem.mem[ringMem.place(counterStart):][:ringRecordSize]
	b := golden(t, "ring-record", place)
	clear(place)
	copy(place, b)
	var got [2]Journal
	want.Seq = counterStart
	if n, lost := h.ReadJournal(got[:]); n != 1 || lost != 0 || got[0] != want {
		t.Errorf("%d records, %d lost, %+v, want %+v", n, lost, got[0], want)
	}
}
