package shmproto

import (
	"bytes"
	"errors"
	"testing"
)

// Each decoder's fuzz target checks the same: no panic; every refusal is a
// *ViolationError within the payload; what is accepted encodes to the same bytes
// (to an equal value, if something unknown was skipped); a used destination
// gives the same as a fresh one.

func checkRefusal(t *testing.T, payload []byte, err error) {
	t.Helper()
	var v *ViolationError
	if !errors.As(err, &v) || v.Offset < 0 || v.Offset > len(payload) || v.Reason == "" {
		t.Fatalf("refused with %#v for a payload of %d bytes", err, len(payload))
	}
}

func checkEncoding(t *testing.T, payload, encoded []byte, skipped int) {
	t.Helper()
	if same := bytes.Equal(payload, encoded); same != (skipped == 0) {
		t.Fatalf("%d skipped; payload\n%x\nencodes to\n%x", skipped, payload, encoded)
	}
}

func FuzzPublication(f *testing.F) {
	room := make([]byte, 0, maxPublicationPayload)
	for _, p := range []*Publication{{}, samplePublication(3, false), samplePublication(2, true)} {
		b, err := p.appendTo(room)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(b))
	}
	used := samplePublication(5, true)
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > maxPublicationPayload {
			return
		}
		var p Publication
		skipped, err := p.decode(payload)
		again, err2 := used.decode(payload)
		if (err == nil) != (err2 == nil) || skipped != again {
			t.Fatalf("fresh: %v, used: %v", err, err2)
		}
		if err != nil {
			checkRefusal(t, payload, err)
			return
		}
		encoded, err := p.appendTo(make([]byte, 0, maxPublicationPayload))
		if err != nil {
			t.Fatalf("accepted and not encodable: %v", err)
		}
		checkEncoding(t, payload, encoded, skipped)
		encodedUsed, err := used.appendTo(make([]byte, 0, maxPublicationPayload))
		if err != nil || !bytes.Equal(encoded, encodedUsed) {
			t.Fatalf("a used destination holds something else: %v", err)
		}
	})
}

func FuzzOrder(f *testing.F) {
	f.Add(sampleOrder(0).appendTo(nil))
	f.Add(sampleOrder(3).appendTo(nil))
	used := sampleOrder(MaxExclusions)
	f.Fuzz(func(t *testing.T, payload []byte) {
		var o Order
		skipped, err := o.decode(payload)
		if _, err2 := used.decode(payload); (err == nil) != (err2 == nil) {
			t.Fatalf("fresh: %v, used: %v", err, err2)
		}
		if err != nil {
			checkRefusal(t, payload, err)
			return
		}
		if err := o.check(); err != nil {
			t.Fatalf("accepted and not encodable: %v", err)
		}
		checkEncoding(t, payload, o.appendTo(nil), skipped)
		if o.Digest() != used.Digest() {
			t.Fatal("a used destination holds something else")
		}
	})
}

func FuzzLease(f *testing.F) {
	f.Add(Lease{Epoch: Epoch{1, 2}, Term: 3, Heartbeat: 4, Acting: true}.appendTo(nil))
	f.Fuzz(func(t *testing.T, payload []byte) {
		l, skipped, err := decodeLease(payload)
		if err != nil {
			checkRefusal(t, payload, err)
			return
		}
		checkEncoding(t, payload, l.appendTo(nil), skipped)
	})
}

func FuzzHeader(f *testing.F) {
	f.Add(newMemory(f)[headerLowestOff:headerStaticSize])
	f.Fuzz(func(t *testing.T, fields []byte) {
		static := make([]byte, headerStaticSize)
		le.PutUint64(static, regionMagic)
		copy(static[headerLowestOff:], fields)
		le.PutUint64(static[headerChecksumOff:], checksum(static[headerLowestOff:]))
		if _, err := decodeHeader(static); err != nil && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrFeature) {
			checkRefusal(t, static, err)
		}
	})
}

func FuzzRingRecord(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint64(5), true)
	f.Fuzz(func(t *testing.T, place []byte, head uint64, mend bool) {
		r := ring{make([]byte, ringSize)}
		for s := range ringRecords {
			b := r.mem[ringRecordsOff+s*ringRecordSize:][:ringRecordSize]
			copy(b, place)
			if mend {
				le.PutUint64(b[journalSeqOff:], head-ringRecords+uint64(s))
				le.PutUint64(b[journalChecksumOff:], checksum(b[journalSeqOff:]))
			}
		}
		reader := newRingReader(r)
		store(r.mem, ringHeadOff, head)
		dst := make([]Journal, 2*ringRecords)
		n, _ := reader.read(dst, nil)
		if n > ringRecords {
			t.Fatalf("%d records out of a ring of %d", n, ringRecords)
		}
		for _, j := range dst[:n] {
			if j.Slot >= MaxMembers {
				t.Fatalf("record of slot %d", j.Slot)
			}
		}
		if n, lost := reader.read(dst, nil); n != 0 || lost != 0 {
			t.Fatalf("nothing new, and yet %d records, %d lost", n, lost)
		}
	})
}

// FuzzRegion lets every reading function of both sides, and the lock, loose on an
// arbitrary region: the pieces are laid over a formatted one. With mend, every
// record gets a good checksum, so that the decoders behind it are reached.
func FuzzRegion(f *testing.F) {
	full := newMemory(f)
	r, err := Open(full)
	if err != nil {
		f.Fatal(err)
	}
	g := newGuest(f, r, 0)
	if err := g.Publish(0, samplePublication(2, true)); err != nil {
		f.Fatal(err)
	}
	payload := bytes.Clone(publicationCell(guestArea(full), 0).buffer())
	order := orderCell(hostArea(full, 1), 0)
	if err := r.Host(1).WriteOrder(0, sampleOrder(2)); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, []byte{}, []byte{}, payload, bytes.Clone(order.buffer()), uint64(counterStart), true)
	f.Add([]byte{1}, []byte("lock"), bytes.Repeat([]byte{0xff}, 64), []byte{2}, []byte{3}, uint64(0), false)
	b := make([]byte, RegionSize)
	f.Fuzz(func(t *testing.T, header, lock, ringBytes, publication, orderBytes []byte, version uint64, mend bool) {
		copy(b, full)
		view := &Region{mem: b}
		guest := guestArea(b)
		copy(guest[guestLockOff:][:lockSize], lock)
		copy(guest[guestRingOff:][:ringSize], ringBytes)
		lay := func(c cell, record []byte) {
			store(c.mem, cellVersionOff, version)
			into := c.mem[c.bufferOff(version):][:c.bufferSize()]
			copy(into, record)
			if !mend {
				return
			}
			le.PutUint64(into[recordVersionOff:], version)
			if n := int(le.Uint32(into[recordShapeOff:])); n <= len(into)-recordHeaderSize {
				le.PutUint64(into, checksum(into[recordVersionOff:recordHeaderSize+(n+7)&^7]))
			}
		}
		for slot := range MaxMembers {
			lay(publicationCell(guest, slot), publication)
			lay(orderCell(hostArea(b, slot%2), slot), orderBytes)
		}
		for seat := range HostSeats {
			lay(leaseCell(hostArea(b, seat)), orderBytes)
			copy(hostArea(b, seat)[hostRingOff:][:ringSize], ringBytes)
		}
		readEverything(t, view)
		copy(b[headerLowestOff:headerStaticSize], header)
		if _, err := Open(b); err != nil {
			return
		}
	})
}

// readEverything calls every function that reads peer-written memory and checks
// what it may answer.
func readEverything(t *testing.T, r *Region) {
	t.Helper()
	answer := func(err error) {
		t.Helper()
		var v *ViolationError
		switch {
		case err == nil, errors.Is(err, ErrEmpty), errors.Is(err, ErrTorn), errors.Is(err, ErrFenced), errors.As(err, &v):
		default:
			t.Fatalf("undocumented answer %v", err)
		}
	}
	var p Publication
	var o Order
	journal := make([]Journal, 10)
	for seat := range HostSeats {
		h := r.Host(seat)
		for slot := range MaxMembers {
			h.PublicationVersion(slot)
			answer(h.ReadPublication(slot, &p))
		}
		h.ReadJournal(journal)
		// The head moves under a reader's hands.
		store(guestArea(r.mem)[guestRingOff:], ringHeadOff, ^h.reader.cursor)
		h.ReadJournal(journal)
	}
	for w := range MaxWriters {
		g := r.Guest(w, 1)
		for seat := range HostSeats {
			_, err := g.ReadLease(seat)
			answer(err)
			g.ReadJournal(seat, journal)
		}
		for slot := range MaxMembers {
			answer(g.ReadOrder(slot, "default", &o))
			_, err := g.SlotOwner(slot)
			answer(err)
		}
		for range 3 {
			held, by := g.Lock().TryAcquire()
			if held {
				break
			}
			g.Lock().Revoke(by)
		}
		g.Lock().Revoked()
		g.Lock().Release()
	}
	r.Header()
}
