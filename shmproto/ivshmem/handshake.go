package ivshmem

import "fmt"

// ProtocolError says which message of a server was wrong, and why.
type ProtocolError struct {
	Message int   // counts the connection's messages from 1
	Value   int64 // the message's number
	HasFD   bool  // a descriptor came with it
	Reason  string
}

func (e *ProtocolError) Error() string {
	fd := "without a descriptor"
	if e.HasFD {
		fd = "with a descriptor"
	}
	return fmt.Sprintf("ivshmem message %d (%d, %s): %s", e.Message, e.Value, fd, e.Reason)
}

// effect is what a checked message means to the client.
type effect int

const (
	effectNone    effect = iota // version, own ID
	effectMemory                // the descriptor is the shared memory
	effectPeer                  // the descriptor is the next vector of peer
	effectOwn                   // the descriptor is our next vector
	effectSurplus               // the descriptor is of no use
	effectRemoved               // peer has gone: forget its vectors
)

// sequence is the client's view of the stream: which messages came, hence which
// may come next. It is pure: descriptors are only present or absent.
//
// Invariants: own and each peer have at most maxVectors vectors, and there are
// at most maxPeers peers.
type sequence struct {
	want     int // own vectors that complete the handshake
	messages int // seen so far
	own      PeerID
	vectors  int  // own vectors seen
	surplus  bool // an own vector came that is not wanted
	peers    map[PeerID]int
	refused  Refusal // 0 unless the server's first message was one
}

// complete reports whether the handshake is over.
func (s *sequence) complete() bool { return s.messages >= 3 && s.vectors >= s.want }

// accept checks the next message. After an error the stream is of no more use.
func (s *sequence) accept(value int64, hasFD bool) (effect, PeerID, error) {
	s.messages++
	wrong := func(format string, args ...any) (effect, PeerID, error) {
		return effectNone, 0, &ProtocolError{Message: s.messages, Value: value, HasFD: hasFD, Reason: fmt.Errorf(format, args...).Error()}
	}
	switch s.messages {
	case 1:
		switch {
		case hasFD:
			return wrong("the version must come without one")
		case value < 0:
			s.refused = Refusal(value)
			return wrong("%w", s.refused)
		case value != Version:
			return wrong("protocol version %d is served, %d is spoken here: is this an ivshmem server?", value, Version)
		}
		return effectNone, 0, nil
	case 2:
		switch {
		case hasFD:
			return wrong("the own ID must come without one")
		case value < 0 || value > 0xffff:
			return wrong("an ID is 0 to 65535")
		}
		s.own = PeerID(value)
		return effectNone, 0, nil
	case 3:
		if value != memoryMark || !hasFD {
			return wrong("the shared memory (%d, with a descriptor) is due", memoryMark)
		}
		return effectMemory, 0, nil
	}
	if value < 0 || value > 0xffff {
		return wrong("an ID is 0 to 65535")
	}
	id := PeerID(value)
	switch {
	case id == s.own && !hasFD:
		return wrong("our own ID is announced as gone")
	case id == s.own && s.vectors == s.want && !s.surplus:
		// A server that is killed between sending a message and noting that is followed by
		// one that sends it again. QEMU leaves a vector too many alone, too.
		s.surplus = true
		return effectSurplus, id, nil
	case id == s.own && s.vectors == s.want:
		return wrong("we have %d vectors; is one number of vectors configured on both sides?", s.want)
	case id == s.own:
		s.vectors++
		return effectOwn, id, nil
	case !hasFD:
		if s.peers[id] == 0 {
			return wrong("a peer that was never announced has gone")
		}
		delete(s.peers, id)
		return effectRemoved, id, nil
	case s.peers[id] == maxVectors:
		return wrong("more than %d vectors of one peer", maxVectors)
	case s.peers[id] == 0 && len(s.peers) == maxPeers:
		return wrong("more than %d peers", maxPeers)
	}
	s.peers[id]++
	return effectPeer, id, nil
}
