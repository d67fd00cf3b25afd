// Package ivshmem speaks QEMU's ivshmem client-server protocol, version 0
// (qemu, docs/specs/ivshmem-spec, "Interrupts and the client-server protocol"),
// on both sides. It depends on nothing but golang.org/x/sys.
//
// Trust: a client never sends; a server that receives a byte closes the
// connection. A server's messages are checked by the client: version, order,
// ranges, and that each descriptor comes exactly where one is due.
package ivshmem

// PeerID names a peer of a region (ivshmem specification: "ID", 0 to 65535).
type PeerID uint16

// Vector numbers a peer's interrupts from 0.
type Vector uint16

/*
THE API TO BE BUILT:

	// Message is one protocol message; FD is -1 where none is attached.
	type Message struct { Value int64; FD int }
	// Handshake lists the messages a client with ID own is sent: version, ID,
	// shared memory, every other peer's vectors, then its own. Pure.
	func Handshake(own PeerID, memory int, peers []Peer) []Message
	type Peer struct { ID PeerID; Vectors []int } // eventfds

	// Send writes all messages to a non-blocking SOCK_STREAM socket without
	// waiting: an error if the socket's buffer cannot take them at once.
	func Send(fd int, msgs []Message) error

	// Client is the other side: what QEMU does at start.
	func Dial(path string, timeout time.Duration) (*Client, error)
	type Client struct {
		ID     PeerID
		Memory []byte           // the mapping, shared, read-write
		...
	}
	func (c *Client) Ring(peer PeerID, v Vector) error     // rings a peer's doorbell: an eventfd write; never blocks
	func (c *Client) Wait(v Vector) *eventfd               // own vectors: readable when rung
	func (c *Client) Gone() <-chan struct{}                // the server closed the connection (not a disaster: QEMU goes on too)
	func (c *Client) Close() error
*/
