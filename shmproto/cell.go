package shmproto

import (
	"encoding/binary"
	"errors"
)

// le is the byte order of everything in a region.
var le = binary.LittleEndian

// readAttempts bounds how often a reader copies a record that is being replaced.
const readAttempts = 4

// cell shows one current truth: a version word and two buffers, version v in
// buffer v mod 2. The writer fills the buffer that is not shown and then stores
// the version, so a writer that dies leaves the old record whole.
type cell struct{ mem []byte }

// recordHeader is what stands before a payload and is checksummed with it.
type recordHeader struct {
	Version     uint64
	Kind        uint16
	Writer      uint16 // lock slot of a guest agent, seat of a host agent
	Incarnation Incarnation
	Generation  Generation
	Seq         uint64
	Attachment  Attachment
}

// bufferSize is the room of one buffer: a record header and a payload.
func (c cell) bufferSize() int { return (len(c.mem) - cellBuffersOff) / 2 }

func (c cell) bufferOff(version uint64) int {
	return cellBuffersOff + int(version%2)*c.bufferSize()
}

// format makes the cell empty.
func (c cell) format() { store(c.mem, cellVersionOff, counterStart) }

// version is the version shown now. It is only good for noticing a change.
func (c cell) version() uint64 { return load(c.mem, cellVersionOff) }

// seal completes the record in b, whose payload of n bytes starts at
// recordHeaderSize, and returns the whole words of it.
func seal(b []byte, n int, h recordHeader) []byte {
	end := recordHeaderSize + (n+7)&^7
	b = b[:end]
	clear(b[recordHeaderSize+n:])
	le.PutUint64(b[recordVersionOff:], h.Version)
	le.PutUint64(b[recordShapeOff:], uint64(n)|uint64(h.Kind)<<32|uint64(h.Writer)<<48)
	le.PutUint64(b[recordIncarnationOff:], uint64(h.Incarnation))
	le.PutUint64(b[recordGenerationOff:], uint64(h.Generation))
	le.PutUint64(b[recordSeqOff:], h.Seq)
	le.PutUint64(b[recordAttachmentOff:], uint64(h.Attachment))
	le.PutUint64(b[recordReservedOff:], 0)
	le.PutUint64(b[recordChecksumOff:], checksum(b[recordVersionOff:]))
	return b
}

// fill copies a sealed record into the buffer of its version, which is not shown.
func (c cell) fill(version uint64, record []byte) {
	copyIn(c.mem[:c.bufferOff(version)+c.bufferSize()], c.bufferOff(version), record)
}

// show makes version the current one. The fence behind it keeps the next fill,
// which overwrites what was shown before, from being seen before the version.
func (c cell) show(version uint64) {
	store(c.mem, cellVersionOff, version)
	fence()
}

// read copies the current record into scratch, checks it, and returns its header
// and its payload within scratch.
func (c cell) read(scratch []byte, kind uint16) (recordHeader, []byte, error) {
	var last uint64
	for try := range readAttempts {
		v := c.version()
		h, payload, err := c.readVersion(scratch, kind, v)
		if err == nil || errors.Is(err, ErrEmpty) {
			return h, payload, err
		}
		// Twice bad in one version: nobody is replacing it, it is damaged.
		if try > 0 && v == last {
			return recordHeader{}, nil, err
		}
		last = v
	}
	return recordHeader{}, nil, ErrTorn
}

func (c cell) readVersion(scratch []byte, kind uint16, v uint64) (recordHeader, []byte, error) {
	off := c.bufferOff(v)
	head := scratch[:recordHeaderSize]
	copyOut(head, c.mem, off)
	if le.Uint64(head) == 0 && [recordHeaderSize]byte(head) == ([recordHeaderSize]byte{}) {
		return recordHeader{}, nil, ErrEmpty
	}
	shape := le.Uint64(head[recordShapeOff:])
	h := recordHeader{
		Version:     le.Uint64(head[recordVersionOff:]),
		Kind:        uint16(shape >> 32),
		Writer:      uint16(shape >> 48),
		Incarnation: Incarnation(le.Uint64(head[recordIncarnationOff:])),
		Generation:  Generation(le.Uint64(head[recordGenerationOff:])),
		Seq:         le.Uint64(head[recordSeqOff:]),
		Attachment:  Attachment(le.Uint64(head[recordAttachmentOff:])),
	}
	n := uint64(uint32(shape))
	switch {
	case h.Version != v:
		return recordHeader{}, nil, violation(recordVersionOff, "record of another version than the one shown")
	case h.Kind != kind:
		return recordHeader{}, nil, violation(recordShapeOff, "record of another kind than its cell holds")
	case n > uint64(c.bufferSize()-recordHeaderSize):
		return recordHeader{}, nil, violation(recordShapeOff, "record longer than its buffer")
	}
	record := scratch[:recordHeaderSize+(int(n)+7)&^7]
	copyOut(record[recordHeaderSize:], c.mem, off+recordHeaderSize)
	if le.Uint64(record[recordChecksumOff:]) != checksum(record[recordVersionOff:]) {
		return recordHeader{}, nil, violation(recordChecksumOff, "record does not match its checksum")
	}
	return h, record[recordHeaderSize:][:n], nil
}
