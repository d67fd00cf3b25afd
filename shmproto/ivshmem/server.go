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
