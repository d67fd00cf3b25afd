package shmproto

// The peers of every region, the same for ever: host seats from 0 on, then the
// guest's. Each has the same number of vectors (ivshmem specification).
const (
	HostSeats = 2         // peer IDs 0 and 1: coordinators
	GuestSeat = HostSeats // peer ID 2: the gateway's QEMU or agent
	Seats     = HostSeats + 1

	Vectors       = 2 // of each peer; the second is reserved
	VectorChanged = 0 // "something changed": look at the cells
)
