package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"guardring/e2e/impostor"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// seat is what a gateway has: its memory and the host's doorbells.
type seat struct {
	memory []byte
	ring   func(peer ivshmem.PeerID, v ivshmem.Vector) error
	bell   int // the descriptor of its own doorbell; −1 by device
}

// device is where vmtest puts the ivshmem device.
const device = "/sys/bus/pci/devices/0000:00:10.0/"

// doorbell is the register's offset in BAR0 (QEMU docs/specs/ivshmem-spec).
const doorbell = 12

func open(socket string) (*seat, error) {
	if socket != "" {
		c, err := ivshmem.Dial(socket, shmproto.Vectors, 5*time.Second)
		if err != nil {
			return nil, err
		}
		return &seat{c.Memory, c.Ring, c.Interrupt(shmproto.VectorChanged).FD()}, nil
	}
	if err := os.WriteFile(device+"enable", []byte("1"), 0); err != nil && !errors.Is(err, syscall.EBUSY) {
		return nil, err
	}
	registers, err := mapFile(device + "resource0")
	if err != nil {
		return nil, err
	}
	memory, err := mapFile(device + "resource2")
	if err != nil {
		return nil, err
	}
	return &seat{memory, func(peer ivshmem.PeerID, v ivshmem.Vector) error {
		store(registers, doorbell, uint32(peer)<<16|uint32(v))
		return nil
	}, -1}, nil
}

func mapFile(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_SYNC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", name, err)
	}
	return b, nil
}

// impostor publishes by this seat.
func (s *seat) impostor() (*impostor.Impostor, error) { return impostor.Over(s.memory, s.ring) }

// ringHosts rings both host seats.
func (s *seat) ringHosts() error {
	var errs []error
	for peer := range ivshmem.PeerID(shmproto.HostSeats) {
		errs = append(errs, s.ring(peer, shmproto.VectorChanged))
	}
	return errors.Join(errs...)
}
