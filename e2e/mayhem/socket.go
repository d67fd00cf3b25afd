package main

import (
	"crypto/rand"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// atSocket are the ways that take no part in the protocol: they connect, again and again, and misbehave.
var atSocket = map[string]func(socket string) error{
	"garbage":     garbage,
	"connections": func(socket string) error { return crowd(socket, 1000, 100*time.Millisecond) },
	"descriptors": descriptors,
	"stall":       func(socket string) error { return crowd(socket, 200, time.Hour) },
}

// connect tries once; a full backlog is what it wants, and no error.
func connect(socket string) (*net.UnixConn, error) {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

// each connects a hundred times a second and does something with the connection.
func each(socket string, do func(c *net.UnixConn)) error {
	return again(10*time.Millisecond, func(int) error {
		c, err := connect(socket)
		if err != nil || c == nil {
			return err
		}
		defer c.Close()
		do(c)
		return nil
	})
}

func garbage(socket string) error {
	junk := make([]byte, 64<<10)
	return each(socket, func(c *net.UnixConn) {
		_, _ = rand.Read(junk) // never fails
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.Write(junk) // the server hangs up on it
	})
}

func descriptors(socket string) error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	fds := make([]int, 100)
	for n := range fds {
		fds[n] = int(null.Fd())
	}
	rights := unix.UnixRights(fds...)
	return each(socket, func(c *net.UnixConn) {
		_, _, _ = c.WriteMsgUnix([]byte{1}, rights, nil) // the server hangs up on it
	})
}

// crowd keeps many connections open for a while, and opens them again.
func crowd(socket string, size int, stay time.Duration) error {
	return again(0, func(int) error {
		var open []net.Conn
		for range size {
			c, err := connect(socket)
			if err != nil {
				return err
			}
			if c != nil {
				open = append(open, c)
			}
		}
		time.Sleep(stay)
		for _, c := range open {
			_ = c.Close()
		}
		return nil
	})
}
