package shmproto

import "testing"

func BenchmarkPublish60(b *testing.B) {
	r := newRegion(b)
	g := newGuest(b, r, 0)
	p := samplePublication(MaxGuards, false)
	b.ReportAllocs()
	for b.Loop() {
		if err := g.Publish(0, p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead60(b *testing.B) {
	r := newRegion(b)
	g, h := newGuest(b, r, 0), r.Host(0)
	if err := g.Publish(0, samplePublication(MaxGuards, false)); err != nil {
		b.Fatal(err)
	}
	var p Publication
	b.ReportAllocs()
	for b.Loop() {
		if err := h.ReadPublication(0, &p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkChecksum60(b *testing.B) {
	r := newRegion(b)
	g := newGuest(b, r, 0)
	payload, err := samplePublication(MaxGuards, false).appendTo(g.scratch[:0])
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		checksum(payload)
	}
}
