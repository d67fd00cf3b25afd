// Command bell plays guest and host of one gateway at once: it drives the device of the gateway's QEMU through its qtest socket,
// takes a free host seat at the server's socket, and then rings and writes both ways, on every vector.
//
//	bell QTEST-SOCKET HOST-SOCKET
//
// It prints the seats and the region's attachment, or says what does not work and ends with code 1. A QEMU keeps its set-up; bell may be run as often as
// one likes.
//
// Trust: it is for hosts that a test made.
package main

import (
	"fmt"
	"log"
	"net"
	"os"
	"time"

	"guardring/e2e/qtest"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// limit bounds the handshake and each ring. All is emulated by what is emulated.
const limit = 20 * time.Second

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("bell QTEST-SOCKET HOST-SOCKET")
	}
	if err := exercise(os.Args[1], os.Args[2]); err != nil {
		log.Fatalf("bell: %v", err)
	}
}

func exercise(qemu, server string) error {
	host, err := ivshmem.Dial(server, shmproto.Vectors, limit)
	if err != nil {
		return err
	}
	defer host.Close()
	conn, err := net.Dial("unix", qemu)
	if err != nil {
		return err
	}
	device, err := qtest.Open(conn, shmproto.Vectors)
	if err != nil {
		return err
	}
	defer device.Close()
	seat, err := device.Position()
	if err != nil {
		return err
	}
	if seat != int32(shmproto.GuestSeat) {
		return fmt.Errorf("QEMU's seat is %d, not %d", seat, shmproto.GuestSeat)
	}
	for v := range shmproto.Vectors {
		if err := ring(device, host, v); err != nil {
			return fmt.Errorf("vector %d: %w", v, err)
		}
	}
	if err := write(device, host); err != nil {
		return err
	}
	fmt.Printf("guest seat %d, host seat %d, rung and written both ways\n", seat, host.ID)
	return nil
}

// ring rings both ways. The acting coordinator may ring meanwhile, too; one ring more is harmless.
func ring(device *qtest.Device, host *ivshmem.Client, vector int) error {
	if err := device.Acknowledge(); err != nil {
		return err
	}
	e := host.Interrupt(ivshmem.Vector(vector))
	_, _ = e.Drain()
	if err := device.Ring(int(host.ID), vector); err != nil {
		return err
	}
	if err := e.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := e.Wait(); err != nil {
		return fmt.Errorf("QEMU rings host seat %d: %w", host.ID, err)
	}
	if err := host.Ring(shmproto.GuestSeat, ivshmem.Vector(vector)); err != nil {
		return err
	}
	if err := device.AwaitPending(vector, limit); err != nil {
		return fmt.Errorf("host seat %d rings QEMU: %w", host.ID, err)
	}
	return device.Acknowledge()
}

// write passes a word each way, in the last bytes of the region, which nobody uses.
func write(device *qtest.Device, host *ivshmem.Client) error {
	const offset = shmproto.RegionSize - 64
	word := host.Memory[offset : offset+8]
	nonce := byte(time.Now().UnixNano())
	if err := device.Store(offset, 0xcafe0000|uint32(nonce)); err != nil {
		return err
	}
	if word[0] != nonce || word[3] != 0xca {
		return fmt.Errorf("QEMU wrote %#x, the host sees % x", 0xcafe0000|uint32(nonce), word[:4])
	}
	word[4] = nonce + 1
	if got, err := device.Load(offset + 4); err != nil || byte(got) != nonce+1 {
		return fmt.Errorf("the host wrote %#x, QEMU sees %#x (%v)", nonce+1, got, err)
	}
	return nil
}
