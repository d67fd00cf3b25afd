// Package qtest drives the ivshmem-doorbell device of a QEMU whose processors never run, through QEMU's qtest socket: it does what
// firmware and the guest's driver would do. So a real QEMU, and libvirt's, can be exercised without a guest.
//
// The protocol is QEMU's qtest (tests/qtest in its source): a command on a line, an answer on a line. Registers and BARs are the
// ivshmem specification's, "Device registers"; MSI-X table and pending bits are in BAR1.
//
// Trust: a test's own QEMU.
package qtest

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Slot is where guardring's gateways have the device, on the root bus.
const Slot = 0x10

// Where the BARs are put. No firmware runs that could have put anything else there.
const (
	barRegister = 0xe0000000
	barMSIX     = 0xe0010000
	barMemory   = 0xe0100000
	ivPosition  = barRegister + 8
	doorbell    = barRegister + 12
	pending     = barMSIX + 0x800
	msixCap     = 0x40
	msixEnable  = 0x80000000
	msixMasked  = 0xc0000000
)

// answerLimit bounds each answer.
const answerLimit = 60 * time.Second

// Device is the device of one QEMU. It is not for several goroutines.
type Device struct {
	conn   net.Conn
	answer *bufio.Reader
}

// Open takes the connection of QEMU's qtest socket, finds the device in Slot, and sets it up: addresses, bus master, MSI-X with so many vectors. QEMU
// answers when all its devices are made.
func Open(conn net.Conn, vectors int) (*Device, error) {
	d := &Device{conn: conn, answer: bufio.NewReader(conn)}
	id, err := d.do("outl 0xcf8 %#x\ninl 0xcfc", 1<<31|Slot<<11)
	if err != nil {
		return nil, err
	}
	if id != 0x11101af4 {
		return nil, fmt.Errorf("in slot %#x is a device %#x, not ivshmem's 1af4:1110", Slot, id)
	}
	for _, c := range []struct{ offset, value uint32 }{{0x10, barRegister}, {0x14, barMSIX}, {0x18, barMemory}, {0x1c, 0}, {0x04, 6}} {
		if err := d.config(c.offset, c.value); err != nil {
			return nil, err
		}
	}
	for v := range vectors {
		entry := barMSIX + 16*v
		if _, err := d.do("writel %#x 0xfee00000\nwritel %#x %#x\nwritel %#x 0", entry, entry+8, 0x30+v, entry+12); err != nil {
			return nil, err
		}
	}
	return d, d.config(msixCap, msixMasked)
}

// do sends commands, one a line, and returns the last one's answer.
func (d *Device) do(format string, args ...any) (value uint32, err error) {
	for command := range strings.SplitSeq(fmt.Sprintf(format, args...), "\n") {
		if value, err = d.one(command); err != nil {
			return 0, fmt.Errorf("qtest %s: %w", command, err)
		}
	}
	return value, nil
}

func (d *Device) one(command string) (uint32, error) {
	if err := d.conn.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintln(d.conn, command); err != nil {
		return 0, err
	}
	line, err := d.answer.ReadString('\n')
	if err != nil {
		return 0, err
	}
	said, ok := strings.CutPrefix(strings.TrimSpace(line), "OK")
	if !ok {
		return 0, fmt.Errorf("QEMU answers %q", line)
	}
	if said = strings.TrimSpace(said); said == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(said, 0, 64)
	return uint32(n), err
}

func (d *Device) config(offset, value uint32) error {
	_, err := d.do("outl 0xcf8 %#x\noutl 0xcfc %#x", 1<<31|Slot<<11|offset, value)
	return err
}

// Position is the IVPosition register: the device's own peer ID, -1 before the server has answered.
func (d *Device) Position() (int32, error) {
	v, err := d.do("readl %#x", ivPosition)
	return int32(v), err
}

// Ring rings a vector of a peer.
func (d *Device) Ring(peer, vector int) error {
	_, err := d.do("writel %#x %#x", doorbell, uint32(peer)<<16|uint32(vector))
	return err
}

// Pending are the vectors on which the device was rung, as bits.
func (d *Device) Pending() (uint32, error) { return d.do("readl %#x", pending) }

// AwaitPending waits at most limit until a vector is pending. There is no event to wait for: nothing in this QEMU runs.
func (d *Device) AwaitPending(vector int, limit time.Duration) error {
	for end := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		switch bits, err := d.Pending(); {
		case err != nil:
			return err
		case bits>>vector&1 == 1:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("vector %d is not pending after %v", vector, limit)
		}
	}
}

// Acknowledge delivers what is pending, to nobody, and checks that nothing is left.
func (d *Device) Acknowledge() error {
	if err := d.config(msixCap, msixEnable); err != nil {
		return err
	}
	if err := d.config(msixCap, msixMasked); err != nil {
		return err
	}
	bits, err := d.Pending()
	if err == nil && bits != 0 {
		err = fmt.Errorf("vectors %#b stay pending", bits)
	}
	return err
}

// Load reads a word of the shared memory.
func (d *Device) Load(offset int) (uint32, error) { return d.do("readl %#x", barMemory+offset) }

// Store writes one.
func (d *Device) Store(offset int, value uint32) error {
	_, err := d.do("writel %#x %#x", barMemory+offset, value)
	return err
}

// Close closes the connection.
func (d *Device) Close() error { return d.conn.Close() }
