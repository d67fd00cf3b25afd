package ivshmem

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHandshake(t *testing.T) {
	table := []Peer{{0, []int{10, 11}}, {1, []int{12, 13}}, {2, []int{14, 15}}}
	want := []Message{
		{0, NoFD}, {1, NoFD}, {-1, 5},
		{0, 10}, {0, 11}, {2, 14}, {2, 15},
		{1, 12}, {1, 13},
	}
	if diff := cmp.Diff(want, Handshake(1, 5, table)); diff != "" {
		t.Error(diff)
	}
}

type step struct {
	value int64
	fd    bool
}

func TestSequenceRefuses(t *testing.T) {
	start := []step{{0, false}, {2, false}, {-1, true}}
	for name, tt := range map[string]struct {
		steps []step
		want  string // of the last step
	}{
		"version":              {[]step{{1, false}}, "message 1 (1, without a descriptor): protocol version 1 is served"},
		"version with fd":      {[]step{{0, true}}, "message 1"},
		"negative ID":          {[]step{{0, false}, {-1, false}}, "message 2"},
		"large ID":             {[]step{{0, false}, {65536, false}}, "message 2"},
		"ID with fd":           {[]step{{0, false}, {1, true}}, "message 2"},
		"memory without fd":    {[]step{{0, false}, {1, false}, {-1, false}}, "message 3"},
		"no memory":            {[]step{{0, false}, {1, false}, {0, true}}, "the shared memory"},
		"memory twice":         {append(start[:3:3], step{-1, true}), "message 4"},
		"unknown peer gone":    {append(start[:3:3], step{0, false}), "never announced"},
		"we are gone":          {append(start[:3:3], step{2, false}), "our own ID"},
		"too many own vectors": {append(start[:3:3], step{2, true}, step{2, true}, step{2, true}, step{2, true}), "we have 2 vectors"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &sequence{want: 2, peers: make(map[PeerID]int)}
			for i, st := range tt.steps {
				_, _, err := s.accept(st.value, st.fd)
				if last := i == len(tt.steps)-1; !last && err != nil {
					t.Fatalf("step %d: %v", i+1, err)
				} else if last {
					var p *ProtocolError
					if !errors.As(err, &p) || !strings.Contains(err.Error(), tt.want) {
						t.Fatalf("error %v, want %q", err, tt.want)
					}
				}
			}
		})
	}
}

func TestSequenceLimits(t *testing.T) {
	s := &sequence{want: 1, peers: make(map[PeerID]int)}
	feed := func(value int64, fd bool) error { _, _, err := s.accept(value, fd); return err }
	for _, st := range []step{{0, false}, {65535, false}, {-1, true}} {
		if err := feed(st.value, st.fd); err != nil {
			t.Fatal(err)
		}
	}
	for range maxVectors {
		if err := feed(0, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := feed(0, true); err == nil {
		t.Error("a vector too many was accepted")
	}
	for id := 1; id < maxPeers; id++ {
		if err := feed(int64(id), true); err != nil {
			t.Fatal(err)
		}
	}
	if err := feed(maxPeers, true); err == nil {
		t.Error("a peer too many was accepted")
	}
	if err := feed(7, false); err != nil {
		t.Errorf("peer 7 gone: %v", err)
	}
	if err := feed(maxPeers, true); err != nil {
		t.Errorf("a peer in the place of one that has gone: %v", err)
	}
}

// FuzzSequence feeds arbitrary messages: no panic, limits kept, and complete
// only after a handshake in the right order.
func FuzzSequence(f *testing.F) {
	f.Add(binary.LittleEndian.AppendUint64(nil, 0), uint8(0), uint8(2))
	var whole []byte
	for _, v := range []int64{0, 2, -1, 0, 0, 1, 1, 2, 2} {
		whole = binary.LittleEndian.AppendUint64(whole, uint64(v))
	}
	f.Add(whole, uint8(0b11111100), uint8(2))
	f.Add(whole, uint8(0b11111100), uint8(1)) // an own vector too many
	f.Fuzz(func(t *testing.T, b []byte, fds, want uint8) {
		s := &sequence{want: int(want % 8), peers: make(map[PeerID]int)}
		surplus := 0
		for i := 0; len(b) >= 8; i, b = i+1, b[8:] {
			hasFD := i > 2 && i%8 != 7 || fds>>(i%8)&1 != 0
			what, _, err := s.accept(int64(binary.LittleEndian.Uint64(b)), hasFD)
			if err != nil {
				return
			}
			if (what == effectMemory) != (i == 2) || (what != effectNone && what != effectRemoved) != hasFD {
				t.Fatalf("message %d: effect %d, descriptor %t", i+1, what, hasFD)
			}
			if what == effectSurplus {
				surplus++
			}
			if surplus > 1 {
				t.Fatalf("%d own vectors that are not wanted were let pass", surplus)
			}
			if s.vectors > s.want || len(s.peers) > maxPeers {
				t.Fatalf("%d own vectors, %d peers", s.vectors, len(s.peers))
			}
			if s.complete() && i < 2 {
				t.Fatalf("complete after %d messages", i+1)
			}
		}
	})
}
