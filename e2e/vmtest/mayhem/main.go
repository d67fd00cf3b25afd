// Command mayhem is a hostile or unlucky gateway: it runs as root in a test's guest, has the ivshmem device to itself through sysfs, and
// does harm with it.
//
//	mayhem publish FINGERPRINT@ADDRESS…  publish well-formed records as fast as it can, until it is killed
//	mayhem ring SECONDS                  ring both host seats as fast as it can
//	mayhem spin SECONDS                  the same loop without the device: what the guest's processor costs by itself
//	mayhem random SECONDS                fill the whole region with random bytes, again and again, and ring
//
// It prints what it has done as one line.
//
// Trust: it is the untrusted side.
package main

import (
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"guardring/e2e/impostor"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// device is where vmtest puts the ivshmem device.
const device = "/sys/bus/pci/devices/0000:00:10.0/"

// doorbell is the register's offset in BAR0 (QEMU docs/specs/ivshmem-spec).
const doorbell = 12

func main() {
	log.SetFlags(0)
	log.SetPrefix("mayhem: ")
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("want a way and its arguments")
	}
	registers, memory, err := open()
	if err != nil {
		return err
	}
	ring := func(peer ivshmem.PeerID, v ivshmem.Vector) error {
		store(registers, doorbell, uint32(peer)<<16|uint32(v))
		return nil
	}
	if args[0] == "publish" {
		return publish(memory, ring, args[1:])
	}
	seconds, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	until := time.Now().Add(time.Duration(seconds) * time.Second)
	var n int
	switch args[0] {
	case "ring":
		n = loop(until, registers, doorbell)
	case "spin":
		n = loop(until, make([]byte, len(registers)), doorbell)
	case "random":
		n = scribble(until, memory, ring)
	default:
		return fmt.Errorf("unknown way %q", args[0])
	}
	fmt.Println(n)
	return nil
}

// open maps the device's registers and the region.
func open() (registers, memory []byte, err error) {
	if err := os.WriteFile(device+"enable", []byte("1"), 0); err != nil && !errors.Is(err, syscall.EBUSY) {
		return nil, nil, err
	}
	if registers, err = mapFile(device + "resource0"); err != nil {
		return nil, nil, err
	}
	memory, err = mapFile(device + "resource2")
	return registers, memory, err
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

// publish shows the guards, a primary one turn and none the next, so that every publication is another.
func publish(memory []byte, ring func(ivshmem.PeerID, ivshmem.Vector) error, guards []string) error {
	i, err := impostor.Over(memory, ring)
	if err != nil {
		return err
	}
	var sample []impostor.Guard
	for _, g := range guards {
		fp, addr, _ := strings.Cut(g, "@")
		sample = append(sample, impostor.Guard{Fingerprint: fp, Addr: addr, Primary: true})
	}
	for n := 0; ; n++ {
		sample[0].InUse = n%2 == 0
		if err := i.Publish(sample...); err != nil {
			return err
		}
		if n == 10 {
			fmt.Println("publishing")
		}
	}
}

// loop writes doorbells for the two host seats in turn.
func loop(until time.Time, registers []byte, at int) int {
	n := 0
	for time.Now().Before(until) {
		for range 1000 {
			store(registers, at, uint32(n%shmproto.HostSeats)<<16|uint32(shmproto.VectorChanged))
			n++
		}
	}
	return n
}

// scribble overwrites the region, the parts of others included, which no honest guest does.
func scribble(until time.Time, memory []byte, ring func(ivshmem.PeerID, ivshmem.Vector) error) int {
	n := 0
	random := rand.NewChaCha8([32]byte{4})
	page := make([]byte, 4096)
	for time.Now().Before(until) {
		for at := 0; at < len(memory); at += len(page) {
			random.Read(page)
			copy(memory[at:], page)
		}
		for seat := range ivshmem.PeerID(shmproto.HostSeats) {
			_ = ring(seat, shmproto.VectorChanged) // it cannot fail
		}
		n++
	}
	return n
}
