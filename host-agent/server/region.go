package server

import (
	"crypto/rand"
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
type region struct {
	memory    int
	mapping   []byte
	book      int                  // see bookSize
	doorbells [][]*eventfd.Eventfd // by peer, by vector
	epoch     [16]byte
	adopted   bool
}

// seals keep whoever holds the memory from changing its size.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

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

func (r *region) held() error { return r.showEnded(1) }

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
