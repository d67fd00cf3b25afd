package shmproto

// JournalKind says what happened.
type JournalKind uint16

// The kinds of journal records. A reader passes on kinds that it does not know.
const (
	JournalPublished JournalKind = 1 + iota // guest: Args seq of the publication, attachment
	JournalReceipt                          // guest: Args term and seq of the order, status | reason<<8
	JournalJoined                           // guest: the member has come
	JournalLeft                             // guest: the member has left
	JournalOrdered                          // host: Args term and seq of the order, number of exclusions
)

// Journal is one ring record: what happened, for explain and for tests; the
// cells are the truth.
type Journal struct {
	Seq  uint64 // counts the ring's records and wraps; set by Append
	Kind JournalKind
	Slot uint8 // member slot
	Args [3]uint64
}

// ring is a journal of fixed records. Its head word is the number of the next
// record; record s lies in place s mod ringRecords.
type ring struct{ mem []byte }

func ringIn(area []byte, off int) ring { return ring{area[off:][:ringSize]} }

func (r ring) format()      { store(r.mem, ringHeadOff, counterStart) }
func (r ring) head() uint64 { return load(r.mem, ringHeadOff) }

func (r ring) place(seq uint64) int {
	return ringRecordsOff + int(seq%ringRecords)*ringRecordSize
}

// author is who wrote a ring record; zero in a host ring except for the slot.
type author struct {
	slot        uint16
	incarnation Incarnation
	generation  Generation
}

// append writes record seq and then the head, in that order. The record is made
// in b.
func (r ring) append(seq uint64, j Journal, a author, b *[ringRecordSize]byte) {
	*b = [ringRecordSize]byte{}
	le.PutUint64(b[journalSeqOff:], seq)
	le.PutUint64(b[journalShapeOff:], uint64(j.Kind)|uint64(j.Slot)<<16|uint64(a.slot)<<32)
	le.PutUint64(b[journalIncarnationOff:], uint64(a.incarnation))
	le.PutUint64(b[journalGenerationOff:], uint64(a.generation))
	for i, v := range j.Args {
		le.PutUint64(b[journalArgsOff+8*i:], v)
	}
	le.PutUint64(b[journalChecksumOff:], checksum(b[journalSeqOff:]))
	copyIn(r.mem, r.place(seq), b[:])
	store(r.mem, ringHeadOff, seq+1)
}

// ringReader reads a ring with a private cursor.
type ringReader struct {
	ring
	cursor uint64 // number of the next record to read
}

// newRingReader starts at the head: what was appended before is not delivered.
func newRingReader(r ring) ringReader { return ringReader{r, r.head()} }

// read fills dst with what was appended since the last call and says how many
// records were lost: overwritten, damaged, or refused by valid. It looks at no
// more than ringRecords records.
func (r *ringReader) read(dst []Journal, valid func(author) bool) (n int, lost uint64) {
	head := r.head()
	switch ahead := head - r.cursor; {
	case ahead == 0:
		return 0, 0
	case before(head, r.cursor):
		// Only a late or a hostile writer takes the head back. Go with it: the
		// next honest record will be there.
		r.cursor = head
		return 0, 1
	case ahead > ringRecords:
		lost = ahead - ringRecords
		r.cursor = head - ringRecords
	}
	for ; r.cursor != head && n < len(dst); r.cursor++ {
		j, a, ok := r.record(r.cursor)
		if !ok || valid != nil && !valid(a) {
			lost++
			continue
		}
		dst[n] = j
		n++
	}
	return n, lost
}

func (r ring) record(seq uint64) (Journal, author, bool) {
	var b [ringRecordSize]byte
	copyOut(b[:], r.mem, r.place(seq))
	if le.Uint64(b[journalChecksumOff:]) != checksum(b[journalSeqOff:]) || le.Uint64(b[journalSeqOff:]) != seq {
		return Journal{}, author{}, false
	}
	shape := le.Uint64(b[journalShapeOff:])
	if uint16(shape>>16) >= MaxMembers {
		return Journal{}, author{}, false
	}
	j := Journal{Seq: seq, Kind: JournalKind(shape), Slot: uint8(shape >> 16)}
	for i := range j.Args {
		j.Args[i] = le.Uint64(b[journalArgsOff+8*i:])
	}
	return j, author{
		slot:        uint16(shape >> 32),
		incarnation: Incarnation(le.Uint64(b[journalIncarnationOff:])),
		generation:  Generation(le.Uint64(b[journalGenerationOff:])),
	}, true
}
