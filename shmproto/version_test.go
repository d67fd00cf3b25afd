package shmproto

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// The fixtures in testdata/versions are headers (bytes 0 to 0xff) as builds of
// another version would write them. They were made by
// another program, from docs/LAYOUT.md alone.
func TestOtherVersions(t *testing.T) {
	for _, c := range []struct {
		file string
		want error
		text string // part of the error
	}{
		{"v1-to-v2-compatible-bit.hex", nil, ""},
		{"v1-to-v2-incompatible-bit.hex", ErrFeature, "0x4"},
		{"v2-only.hex", ErrVersion, "upgrade this side"},
		{"v0-only.hex", ErrVersion, "upgrade the other side"},
	} {
		t.Run(c.file, func(t *testing.T) {
			b := newMemory(t)
			copy(b, readHex(t, filepath.Join("testdata", "versions", c.file)))
			r, err := Open(b)
			if !errors.Is(err, c.want) {
				t.Fatalf("open: %v, want %v", err, c.want)
			}
			if err != nil {
				if !strings.Contains(err.Error(), c.text) {
					t.Errorf("open: %v, want it to say %q", err, c.text)
				}
				return
			}
			if h := r.Header(); h.Gateway != "updates" || h.Compatible != 0x10 {
				t.Errorf("header %+v, want gateway updates with compatible bit 0x10", h)
			}
			// Such a region works with what both know.
			g := newGuest(t, r, 0)
			if err := g.Publish(0, samplePublication(2, false)); err != nil {
				t.Fatal(err)
			}
			var p Publication
			if err := r.Host(0).ReadPublication(0, &p); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestDamagedHeader(t *testing.T) {
	good := newMemory(t)
	for off := range headerStaticSize {
		b := append([]byte(nil), good...)
		b[off] ^= 0x10
		var v *ViolationError
		switch _, err := Open(b); {
		case off < headerChecksumOff && !errors.Is(err, ErrMagic):
			t.Errorf("byte %#x changed: %v, want ErrMagic", off, err)
		case off >= headerChecksumOff && !errors.As(err, &v):
			t.Errorf("byte %#x changed: %v, want a violation", off, err)
		}
	}
	// With a good checksum, each field is checked for itself.
	for off := headerLowestOff; off < headerTableOff+4*len(layoutTable); off++ {
		b := append([]byte(nil), good...)
		b[off] ^= 0x80
		le.PutUint64(b[headerChecksumOff:], checksum(b[headerLowestOff:headerStaticSize]))
		_, err := Open(b)
		free := off >= headerCompatibleOff && off < headerSizeOff || // unknown bits are ignored
			off >= headerEpochOff && off < headerNameLenOff ||
			off >= headerNameLenOff+4 && off < headerNameOff || // reserved
			off >= headerNameOff+len("browsing") && off < headerTableOff ||
			off >= headerHighestOff && off < headerIncompatibleOff // a higher highest version is welcome
		if (err == nil) != free {
			t.Errorf("byte %#x changed, checksum mended: %v", off, err)
		}
	}
	for _, n := range []int{0, 8, headerSize - 8, headerSize, RegionSize - 8} {
		if _, err := Open(good[:n]); err == nil {
			t.Errorf("a region cut to %d bytes opens", n)
		}
	}
	if _, err := Open(make([]byte, RegionSize)); !errors.Is(err, ErrMagic) {
		t.Errorf("zeros: %v, want ErrMagic", err)
	}
}

func TestFormatRefuses(t *testing.T) {
	b := make([]byte, RegionSize+8)
	if err := Format(b[:RegionSize-8], Header{Gateway: "a"}); err == nil {
		t.Error("formatted a region that is too short")
	}
	if err := Format(b[1:], Header{Gateway: "a"}); err == nil {
		t.Error("formatted misaligned memory")
	}
	for _, name := range []string{"", ".lease", "-a", "..", "a/b", "a b", "\x00a", "ä", strings.Repeat("a", MaxNameLen+1)} {
		if err := Format(b, Header{Gateway: name}); err == nil {
			t.Errorf("formatted a region of gateway %q", name)
		}
	}
	if err := Format(b, Header{Gateway: "a", Incompatible: 1}); !errors.Is(err, ErrFeature) {
		t.Errorf("incompatible bit: %v, want ErrFeature", err)
	}
	for _, name := range []string{"Whonix-Gateway", "0", "a._-", strings.Repeat("a", MaxNameLen)} {
		if err := Format(b, Header{Gateway: name, Compatible: 1 << 63}); err != nil {
			t.Errorf("gateway %q: %v", name, err)
		}
	}
}
