package ivshmem

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Message is one protocol message. FD is the descriptor that goes with it, or
// NoFD.
type Message struct {
	Value int64
	FD    int
}

// NoFD is Message.FD where no descriptor is attached.
const NoFD = -1

// Peer is a peer of a region with the eventfds of its vectors, from vector 0.
type Peer struct {
	ID      PeerID
	Vectors []int
}

// Handshake lists the messages that the client with the ID own is sent. memory
// is the region's descriptor. peers is the whole table, in the order in which
// it is announced; the entry of own, wherever it stands, comes last.
func Handshake(own PeerID, memory int, peers []Peer) []Message {
	messages := []Message{
		{Value: Version, FD: NoFD},
		{Value: int64(own), FD: NoFD},
		{Value: memoryMark, FD: memory},
	}
	announce := func(p Peer) {
		for _, fd := range p.Vectors {
			messages = append(messages, Message{Value: int64(p.ID), FD: fd})
		}
	}
	for _, p := range peers {
		if p.ID != own {
			announce(p)
		}
	}
	for _, p := range peers {
		if p.ID == own {
			announce(p)
		}
	}
	return messages
}

// Send writes the messages to the stream socket fd and never waits, whatever
// the descriptor's flags are. If the socket's buffer does not take all of them
// at once, or the peer is gone, it returns an error; the connection is then of
// no more use. Each message is one write, because a receiver gets at most the
// descriptors of one write at a time.
func Send(fd int, messages []Message) error {
	var b [8]byte
	for i, m := range messages {
		binary.LittleEndian.PutUint64(b[:], uint64(m.Value))
		var rights []byte
		if m.FD != NoFD {
			rights = unix.UnixRights(m.FD)
		}
		n, err := unix.SendmsgN(fd, b[:], rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err != nil {
			return fmt.Errorf("send message %d of %d: %w", i+1, len(messages), err)
		}
		if n != len(b) {
			return fmt.Errorf("send message %d of %d: only %d of its %d bytes were taken", i+1, len(messages), n, len(b))
		}
	}
	return nil
}

// Refusal is sent in place of the version to a client that gets nothing. The
// protocol has no such message, but no client accepts it: QEMU ends with "server
// sent version -16, expecting 0". A mere close would not do: QEMU 7.2 reads on
// from a closed connection and never ends, with a processor fully busy.
type Refusal int64

// The refusals: errno values, so that they can be looked up.
const (
	RefusedTaken  = -Refusal(unix.EBUSY)  // the seat is taken
	RefusedDenied = -Refusal(unix.EACCES) // this process may not have one
	RefusedBroken = -Refusal(unix.EIO)    // the server cannot serve it now
)

func (r Refusal) Error() string {
	switch r {
	case RefusedTaken:
		return "the seat is taken: its holder's process still runs"
	case RefusedDenied:
		return "this process may not have the seat"
	case RefusedBroken:
		return "the server cannot serve a seat now"
	}
	return fmt.Sprintf("refused with code %d", int64(r))
}

// Refuse tells a client that it gets nothing. The caller closes the connection.
func Refuse(fd int, why Refusal) error {
	return Send(fd, []Message{{Value: int64(why), FD: NoFD}})
}
