package server

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// The book is a second, small memfd that no client is ever given. It keeps what
// must survive the server together with the region but must not be read back
// from memory that a guest can write: the region's epoch, the count of attachments,
// and how far the handshake of each seat has come.
const (
	bookSize     = 4096
	bookMagic    = "grbook1\n"
	bookEpochOff = 8
	bookCountOff = 24
	bookLen      = 32
	bookSentOff  = 64 // a word of 8 bytes per seat
)

// handshake is how far a seat's handshake has come, as the book has it.
type handshake struct {
	underWay bool // false: also in the books of servers that did not note it
	fresh    bool // the holder is new, not back with another connection
	sent     int  // messages
}

const (
	noteUnderWay = 1 << 16
	noteFresh    = 1 << 17
)

// attachment reads the count from the book, and takes the region's epoch from it.
func (r *region) attachment() (shmproto.Attachment, error) {
	var b [bookLen]byte
	if n, err := unix.Pread(r.book, b[:], 0); err != nil || n != len(b) {
		return 0, fmt.Errorf("book: read %d bytes: %v", n, err)
	}
	if string(b[:len(bookMagic)]) != bookMagic {
		return 0, fmt.Errorf("book: begins with %q, want %q", b[:len(bookMagic)], bookMagic)
	}
	copy(r.epoch[:], b[bookEpochOff:])
	return shmproto.Attachment(binary.LittleEndian.Uint64(b[bookCountOff:])), nil
}

// setAttachment writes the count and the epoch into the book.
func (r *region) setAttachment(a shmproto.Attachment) error {
	var b [bookLen]byte
	copy(b[:], bookMagic)
	copy(b[bookEpochOff:], r.epoch[:])
	binary.LittleEndian.PutUint64(b[bookCountOff:], uint64(a))
	if n, err := unix.Pwrite(r.book, b[:], 0); err != nil || n != len(b) {
		return fmt.Errorf("book: wrote %d bytes: %v", n, err)
	}
	return nil
}

// note writes down how far a seat's handshake has come.
func (r *region) note(seat ivshmem.PeerID, h handshake) error {
	word := uint64(h.sent)
	if h.fresh {
		word |= noteFresh
	}
	if h.underWay {
		word |= noteUnderWay
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], word)
	if n, err := unix.Pwrite(r.book, b[:], bookSentOff+8*int64(seat)); err != nil || n != len(b) {
		return fmt.Errorf("book: wrote %d bytes: %v", n, err)
	}
	return nil
}

// noted reads that.
func (r *region) noted(seat ivshmem.PeerID) handshake {
	var b [8]byte
	if n, err := unix.Pread(r.book, b[:], bookSentOff+8*int64(seat)); err != nil || n != len(b) {
		return handshake{}
	}
	word := binary.LittleEndian.Uint64(b[:])
	return handshake{underWay: word&noteUnderWay != 0, fresh: word&noteFresh != 0, sent: int(word & (noteUnderWay - 1))}
}
