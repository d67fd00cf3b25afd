// Command giver is a server of memory that is not ours: it hands a file to whoever connects, where guardring hands out anonymous memory.
//
//	giver SOCKET FILE
//
// Everybody may connect. It prints a line when it listens and one for each that was given the file, and runs until it is ended.
//
// Trust: it is for hosts that a test made.
package main

import (
	"fmt"
	"log"
	"net"
	"os"

	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("giver SOCKET FILE")
	}
	log.Fatalf("giver: %v", give(os.Args[1], os.Args[2]))
}

func give(socket, file string) error {
	memory, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := memory.Truncate(shmproto.RegionSize); err != nil {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		return err
	}
	fmt.Println("listens")
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return err
		}
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		var failure error
		// No peers: QEMU must not even get so far.
		if err := raw.Control(func(fd uintptr) {
			failure = ivshmem.Send(int(fd), ivshmem.Handshake(shmproto.GuestSeat, int(memory.Fd()), nil))
		}); err != nil {
			return err
		}
		fmt.Println("given", failure)
	}
}
