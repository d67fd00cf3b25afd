package device

import "guardring/shmproto"

// The registers in BAR0 (ivshmem-spec, "Device registers"), 32 bits each.
const (
	registersSize      = 0x100
	registerIVPosition = 8
	registerDoorbell   = 12
)

// doorbell is what the register takes to ring a peer.
func doorbell(seat uint32) uint32 { return seat<<16 | shmproto.VectorChanged }
