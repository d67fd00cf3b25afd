// Command stopwatch measures ways between a test's guest and its host, with the agent's own device code. In the guest, as root, while
// no agent runs there:
//
//	stopwatch bell N                 ring the host, and wait for `stopwatch mirror` to ring back
//	stopwatch serial PORT N          write 64 bytes to a virtio-serial port, and wait until they come back
//	stopwatch order N FP@ADDRESS…    publish another of the guards each time, which another gateway holds, and wait for the order
//
//	stopwatch show N FP@ADDRESS…     the same without waiting: publishing, and the write to the doorbell
//
// Each prints its N times in nanoseconds, as JSON. On the host:
//
//	stopwatch mirror SOCKET          take a host seat, and ring the guest whenever it rings
//
// Trust: a test's own guest and host.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"guardring/e2e/impostor"
	"guardring/guest-agent/device"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("stopwatch: ")
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("want what to measure, and its arguments")
	}
	if args[0] == "mirror" {
		return mirror(args[1])
	}
	count := args[1]
	if args[0] == "serial" && len(args) > 2 {
		count = args[2]
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	var took []time.Duration
	switch args[0] {
	case "bell":
		took, err = bell(n)
	case "serial":
		took, err = serial("/dev/virtio-ports/"+args[1], n)
	case "order", "show":
		took, err = order(n, args[2:], args[0] == "order")
	default:
		err = fmt.Errorf("unknown way %q", args[0])
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(took)
}

// mirror answers until it is killed.
func mirror(socket string) error {
	c, err := ivshmem.Dial(socket, shmproto.Vectors, 5*time.Second)
	if err != nil {
		return err
	}
	fmt.Println("mirroring")
	for {
		if _, err := c.Interrupt(shmproto.VectorChanged).Wait(); err != nil {
			return err
		}
		if err := c.Ring(shmproto.GuestSeat, shmproto.VectorChanged); err != nil {
			return err
		}
	}
}

// pause lies between two measurements of any kind: the host has done with the last one, and both sides sleep as they do in between
// orders.
const pause = 20 * time.Millisecond

// limit bounds one measurement.
const limit = 10 * time.Second

// open takes the device by VFIO. The process is ended if what is measured does not come.
func open() (device.Device, *time.Timer, error) {
	d, _, err := device.Open(device.Options{Kind: device.ByVFIO, StateFile: "/var/lib/guardring-guest/device.json", GID: -1, Root: true})
	if err != nil {
		return nil, nil, err
	}
	return d, time.AfterFunc(limit, func() { log.Fatalf("nothing came within %v", limit) }), nil
}

func bell(n int) (took []time.Duration, err error) {
	d, alarm, err := open()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	for range n {
		alarm.Reset(limit)
		time.Sleep(pause)
		begin := time.Now()
		if err := d.Ring(); err != nil {
			return nil, err
		}
		if err := d.Wait(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begin))
	}
	return took, nil
}

func serial(port string, n int) (took []time.Duration, err error) {
	f, err := os.OpenFile(port, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, 64)
	for range n {
		time.Sleep(pause)
		begin := time.Now()
		if _, err := f.Write(b); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(f, b); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begin))
	}
	return took, nil
}

// order waits for the orders only if asked to: else it measures what the guest does by itself.
func order(n int, guards []string, wait bool) (took []time.Duration, err error) {
	d, alarm, err := open()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	i, err := impostor.Over(d.Memory(), func(peer ivshmem.PeerID, _ ivshmem.Vector) error {
		if peer > 0 {
			return nil // the first call rang both host seats
		}
		return d.Ring()
	})
	if err != nil {
		return nil, err
	}
	// Nobody is told to leave the only guard that there is.
	var spare []impostor.Guard
	for k := range 18 {
		spare = append(spare, impostor.Guard{Fingerprint: fmt.Sprintf("%040X", k+1), Addr: fmt.Sprintf("198.19.%d.1:9001", k), Primary: k < 2})
	}
	for k := range n {
		alarm.Reset(limit)
		fp, addr, _ := strings.Cut(guards[k%len(guards)], "@")
		p, err := impostor.Compose(append([]impostor.Guard{{Fingerprint: fp, Addr: addr, Primary: true}}, spare...)...)
		if err != nil {
			return nil, err
		}
		time.Sleep(pause)
		had := i.Ordered()
		begin := time.Now()
		if err := i.Show(p); err != nil {
			return nil, err
		}
		for wait && i.Ordered() == had {
			if err := d.Wait(); err != nil {
				return nil, err
			}
		}
		took = append(took, time.Since(begin))
	}
	return took, nil
}
