// Package device gives the agent its place in a gateway's region: the memory,
// its own seat, doorbells to the other seats and its own doorbell. The way
// here is the ivshmem server's socket, as QEMU takes it; a PCI device in a guest
// has the same methods.
//
// It also shares out the lock's writer slots among the agents of one gateway,
// with flock(2), so that a slot's former agent is known to be gone.
//
// Trust: the server is the host's, which the guest trusts; what is in the memory
// is checked by shmproto. The runtime directory belongs to the agent's user.
package device
