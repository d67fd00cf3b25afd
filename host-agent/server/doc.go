// Package server gives each gateway its region: a sealed memfd, a fixed table
// of seats with their eventfds, and the sockets on which the seats are taken by
// QEMU's ivshmem protocol (package ivshmem). `guardring serve` is this package.
//
// The table never changes: 0 and 1 are host seats, 2 is the guest seat. Every
// client is told the whole table, no disconnect is ever announced, and no ID is
// given to another process before its holder is gone, so QEMU never meets the
// reused peer ID that crashes it. With systemd's descriptor store a server that
// is restarted or killed goes on with the same regions, doorbells and holders.
//
// Trust: who connects may be hostile. A client is told everything at once or
// closed; it may not send; it is counted, its connections are paced, and it
// makes nobody wait but those at its own socket. Memory is never read back,
// except its header once at start, to name damage. A seat is taken by socket,
// credentials and, if so configured, AppArmor label; it is given on only when
// the connection is closed and the process has ended, because a process keeps
// the mapping after it has lost its connection.
package server
