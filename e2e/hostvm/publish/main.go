// Command publish publishes guards for gateways whose machines have no system on their disks, and so no agent. It writes where an agent
// in the machine would write: into the memory that the machine's QEMU got from the server, which root finds in QEMU's process.
//
//	publish GATEWAY FINGERPRINT@ADDRESS…
//
// The first three guards are primary, the very first is in use. No doorbell is rung: a coordinator looks at regions now and then without one.
//
// Trust: for tests. Like every guest it is believed only as far as the host believes one.
package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"guardring/e2e/impostor"
	"guardring/shmproto/ivshmem"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("publish: ")
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("want a gateway and its guards")
	}
	var sample []impostor.Guard
	for i, a := range args[1:] {
		fingerprint, addr, ok := strings.Cut(a, "@")
		if !ok {
			return fmt.Errorf("%q is not FINGERPRINT@ADDRESS", a)
		}
		sample = append(sample, impostor.Guard{Fingerprint: fingerprint, Addr: addr, Primary: i < 3, InUse: i == 0})
	}
	memory, err := region("/gateways/" + args[0] + ".sock")
	if err != nil {
		return err
	}
	guest, err := impostor.Over(memory, func(ivshmem.PeerID, ivshmem.Vector) error { return nil })
	if err != nil {
		return err
	}
	return guest.Publish(sample...)
}

// region maps the memory of the QEMU that has a device at a socket.
func region(socket string) ([]byte, error) {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		line, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(line), "ivshmem-doorbell") || !strings.Contains(string(line), socket) {
			continue // it has ended, or is another one
		}
		return mapFrom(filepath.Join(filepath.Dir(f), "fd"))
	}
	return nil, fmt.Errorf("no QEMU has a device at %s", socket)
}

// mapFrom maps the one memory file among a process's descriptors.
func mapFrom(fds string) ([]byte, error) {
	entries, err := os.ReadDir(fds)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		path := filepath.Join(fds, e.Name())
		if target, err := os.Readlink(path); err != nil || !strings.HasPrefix(target, "/memfd:guardring:") {
			continue
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		return syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	}
	return nil, fmt.Errorf("%s: no region among the descriptors", fds)
}
