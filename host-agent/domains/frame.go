package domains

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// The length of a packet of libvirt's protocol, with the length itself: header at
// least, and what libvirt allows at most (VIR_NET_MESSAGE_MAX).
const (
	lengthSize = 4
	leastFrame = 28
	mostFrame  = 32<<20 + lengthSize
)

// framed lets only packets through whose length can be true. The library takes each
// length as it is: a short one is a panic in a goroutine of its own, a long one
// memory. So another program's socket in the configuration would end a coordinator.
type framed struct {
	net.Conn
	length [lengthSize]byte
	unread []byte // of length
	left   int    // of the packet, with unread
}

// Read is for one goroutine.
func (f *framed) Read(p []byte) (int, error) {
	if f.left == 0 {
		if _, err := io.ReadFull(f.Conn, f.length[:]); err != nil {
			return 0, err
		}
		n := binary.BigEndian.Uint32(f.length[:])
		if n < leastFrame || n > mostFrame {
			_ = f.Close()
			return 0, fmt.Errorf("a packet of %d bytes: this is no libvirt", n)
		}
		f.unread, f.left = f.length[:], int(n)
	}
	var n int
	var err error
	if len(f.unread) > 0 {
		n = copy(p, f.unread)
		f.unread = f.unread[n:]
	} else {
		n, err = f.Conn.Read(p[:min(len(p), f.left)])
	}
	f.left -= n
	return n, err
}
