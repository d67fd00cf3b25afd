package server

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"guardring/host-agent/rundir"
	"guardring/internal/eventfd"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// region is a gateway's shared memory and doorbells, or the lease board's.
//
// The book is a second, small memfd that no client is ever given. It keeps what
// must survive the server together with the region but must not be read back
// from memory that a guest can write: the count of attachments, and how far the
// handshake of each seat has come.
type region struct {
	memory    int
	mapping   []byte
	book      int
	doorbells [][]*eventfd.Eventfd // by peer, by vector
	epoch     [16]byte
	adopted   bool
}

const (
	bookSize     = 4096
	bookMagic    = "grbook1\n"
	bookEpochOff = 8
	bookCountOff = 24
	bookLen      = 32
	bookSentOff  = 64 // a word of 8 bytes per seat
	seals        = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
)

// regionSize and regionSeats tell the lease board from a gateway.
func regionSize(name string) int {
	if name == rundir.Board {
		return shmproto.LeaseBoardSize
	}
	return shmproto.RegionSize
}

func regionSeats(name string) int {
	if name == rundir.Board {
		return shmproto.HostSeats
	}
	return shmproto.Seats
}

// makeRegion makes a fresh region.
func makeRegion(name string) (_ *region, err error) {
	r := &region{memory: -1, book: -1}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if _, err := rand.Read(r.epoch[:]); err != nil {
		return nil, err
	}
	if r.memory, err = sealedMemory("guardring:"+name, regionSize(name)); err != nil {
		return nil, err
	}
	if r.book, err = sealedMemory("guardring-book:"+name, bookSize); err != nil {
		return nil, err
	}
	if err := r.setAttachment(0); err != nil {
		return nil, err
	}
	for range regionSeats(name) {
		var vectors []*eventfd.Eventfd
		for range shmproto.Vectors {
			e, err := eventfd.New()
			if err != nil {
				return nil, err
			}
			vectors = append(vectors, e)
		}
		r.doorbells = append(r.doorbells, vectors)
	}
	if err := r.mmap(name); err != nil {
		return nil, err
	}
	if name == rundir.Board {
		shmproto.FormatLeaseBoard(r.mapping)
		return r, nil
	}
	if err := shmproto.Format(r.mapping, r.header(name)); err != nil {
		return nil, fmt.Errorf("format region: %w", err)
	}
	return r, nil
}

// sealedMemory makes a memfd that nobody who holds it can truncate under others
// that map it, which would kill them with SIGBUS.
func sealedMemory(name string, size int) (int, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return -1, fmt.Errorf("make shared memory: %w", err)
	}
	if err = unix.Ftruncate(fd, int64(size)); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("make %d bytes of shared memory: %w", size, err)
	}
	return fd, nil
}

func (r *region) mmap(name string) error {
	b, err := unix.Mmap(r.memory, 0, regionSize(name), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map region: %w", err)
	}
	r.mapping = b
	return nil
}

// parts names the descriptors that a region consists of, in a fixed order.
func parts(name string) []string {
	all := []string{"memory", "book"}
	for p := range regionSeats(name) {
		for v := range shmproto.Vectors {
			all = append(all, vectorPart(p, v))
		}
	}
	return all
}

func vectorPart(peer, vector int) string { return fmt.Sprintf("vector/%d/%d", peer, vector) }

// descriptors returns what is to be stored, by part.
func (r *region) descriptors(name string) []Descriptor {
	all := []Descriptor{{"memory", r.memory}, {"book", r.book}}
	for p, vectors := range r.doorbells {
		for v, e := range vectors {
			all = append(all, Descriptor{vectorPart(p, v), e.FD()})
		}
	}
	return all
}

// adoptRegion makes a region from stored descriptors, which it takes over: on
// error they are closed. found has at least one.
func adoptRegion(name string, found map[string][]int) (_ *region, err error) {
	r := &region{memory: -1, book: -1, adopted: true}
	defer func() {
		if err != nil {
			r.close()
		}
		for _, fds := range found {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
		}
	}()
	var faults []error
	for _, part := range parts(name) {
		switch n := len(found[part]); n {
		case 0:
			faults = append(faults, fmt.Errorf("%s is missing", part))
		case 1:
		default:
			faults = append(faults, fmt.Errorf("%s is there %d times", part, n))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	take := func(part string) int {
		fd := found[part][0]
		delete(found, part)
		unix.CloseOnExec(fd)
		return fd
	}
	r.memory, r.book = take("memory"), take("book")
	if err := checkMemory(r.memory, regionSize(name)); err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	if err := checkMemory(r.book, bookSize); err != nil {
		return nil, fmt.Errorf("book: %w", err)
	}
	if _, err := r.attachment(); err != nil {
		return nil, err
	}
	for p := range regionSeats(name) {
		r.doorbells = append(r.doorbells, nil)
		for v := range shmproto.Vectors {
			part := vectorPart(p, v)
			fd := take(part)
			e, err := eventfd.Adopt(fd)
			if err != nil {
				_ = unix.Close(fd)
				return nil, fmt.Errorf("%s: %w", part, err)
			}
			r.doorbells[p] = append(r.doorbells[p], e)
		}
	}
	if err := r.mmap(name); err != nil {
		return nil, err
	}
	return r, nil
}

func checkMemory(fd, size int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	have, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	switch {
	case err != nil:
		return fmt.Errorf("no memfd: %w", err)
	case st.Size != int64(size):
		return fmt.Errorf("%d bytes, want %d", st.Size, size)
	case have&seals != seals:
		return fmt.Errorf("seals %#x, want %#x", have, seals)
	}
	return nil
}

// mend writes the region's header anew if a guest has damaged it, and reports
// whether it had.
func (r *region) mend(name string) (mended bool, err error) {
	if name == rundir.Board { // no guest has that
		_, err := shmproto.OpenLeaseBoard(r.mapping)
		return false, err
	}
	return shmproto.Mend(r.mapping, r.header(name))
}

func (r *region) header(name string) shmproto.Header {
	return shmproto.Header{Gateway: name, RegionEpoch: r.epoch, Compatible: shmproto.FeatureEnded}
}

// attachment reads the count from the book.
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

// setAttachment writes the book.
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

// attach counts one more connection of the guest seat: first in the book, so
// that no count is given twice, then in the header.
func (r *region) attach() (shmproto.Attachment, error) {
	a, err := r.attachment()
	if err != nil {
		return 0, err
	}
	a++
	if err := r.setAttachment(a); err != nil {
		return 0, err
	}
	shmproto.SetAttachment(r.mapping, a)
	return a, nil
}

// leave shows that the present attachment's holder is gone; held that it is
// there, which after a restart the word may deny: a guest can write it.
func (r *region) leave() error { return r.showEnded(0) }
func (r *region) held() error  { return r.showEnded(1) }

func (r *region) showEnded(back shmproto.Attachment) error {
	a, err := r.attachment()
	if err == nil {
		shmproto.SetAttachment(r.mapping, a) // a guest can write that too
		shmproto.SetEnded(r.mapping, a-back)
	}
	return err
}

// peers is the table as clients are told it.
func (r *region) peers() []ivshmem.Peer {
	var peers []ivshmem.Peer
	for p, vectors := range r.doorbells {
		peer := ivshmem.Peer{ID: ivshmem.PeerID(p)}
		for _, e := range vectors {
			peer.Vectors = append(peer.Vectors, e.FD())
		}
		peers = append(peers, peer)
	}
	return peers
}

// quiet empties a seat's doorbells before another process takes it: what was
// rung for its former holder means nothing to the next.
func (r *region) quiet(seat ivshmem.PeerID) {
	for _, e := range r.doorbells[seat] {
		_, _ = e.Drain()
	}
}

func (r *region) epochString() string { return hex.EncodeToString(r.epoch[:]) }

// close releases our descriptors and mapping; those of others stay as they are.
func (r *region) close() {
	for _, vectors := range r.doorbells {
		for _, e := range vectors {
			_ = e.Close()
		}
	}
	if r.mapping != nil {
		_ = unix.Munmap(r.mapping)
		r.mapping = nil
	}
	for _, fd := range []int{r.memory, r.book} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}
