// Command trespass tries what a program that was taken over would try, and says what came of it. A test runs it under an AppArmor
// profile, which must not let it, and without one, where nothing else may be in its way.
//
//	trespass ATTEMPT...
//
//	read=FILE, write=FILE    open the file; nothing is written
//	bind=SOCKET              make a unix socket at that path
//	connect=SOCKET           connect to the unix socket
//	tcp=ADDRESS              connect to HOST:PORT, which may refuse
//	netlink=                 ask the kernel for its network interfaces
//	packet=                  open a packet socket, which sees all traffic
//	ptrace=PID               trace the process
//	kill=PID                 send it SIGCONT, which does nothing to a process that runs
//	exec=PROGRAM             run the program
//
// For each attempt it prints a line: the attempt, a space, and "allowed", "denied" (EACCES or EPERM), or what else went wrong.
//
// Trust: it is for hosts that a test made.
package main

import (
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	log.SetFlags(0)
	runtime.LockOSThread() // who traces is a thread
	for _, attempt := range os.Args[1:] {
		what, of, _ := strings.Cut(attempt, "=")
		try, ok := attempts[what]
		if !ok {
			log.Fatalf("trespass: what is %q?", attempt)
		}
		switch err := try(of); {
		case err == nil:
			fmt.Println(attempt, "allowed")
		case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
			fmt.Println(attempt, "denied")
		default:
			fmt.Println(attempt, err)
		}
	}
}

var attempts = map[string]func(of string) error{
	"read":    func(path string) error { return open(path, os.O_RDONLY) },
	"write":   func(path string) error { return open(path, os.O_WRONLY) },
	"bind":    bind,
	"connect": func(path string) error { return dial("unix", path) },
	"tcp":     func(addr string) error { return dial("tcp", addr) },
	"netlink": func(string) error {
		_, err := net.Interfaces()
		return err
	},
	"packet": func(string) error { return socket(unix.AF_PACKET, unix.SOCK_RAW) },
	"ptrace": func(pid string) error { return ofProcess(pid, trace) },
	"kill":   func(pid string) error { return ofProcess(pid, func(n int) error { return unix.Kill(n, unix.SIGCONT) }) },
	"exec":   func(program string) error { return exec.Command(program).Run() },
}

// open waits for nobody: a device or a pipe may be asked for.
func open(path string, flags int) error {
	f, err := os.OpenFile(path, flags|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func bind(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	return l.Close()
}

// dial takes a refusal for success: it came from the other side.
func dial(network, addr string) error {
	c, err := net.DialTimeout(network, addr, 5*time.Second)
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.Close()
}

func socket(domain, kind int) error {
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func ofProcess(pid string, do func(int) error) error {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return err
	}
	return do(n)
}

func trace(pid int) error {
	if err := unix.PtraceSeize(pid); err != nil {
		return err
	}
	if err := unix.PtraceInterrupt(pid); err != nil {
		return err
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil {
		return err
	}
	return unix.PtraceDetach(pid)
}
