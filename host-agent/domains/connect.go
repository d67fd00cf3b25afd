package domains

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"
	"time"

	"github.com/digitalocean/go-libvirt"

	"guardring/internal/hint"
)

// Address says where a libvirtd is, and which of its drivers is meant.
type Address struct {
	Socket string // path; the read-only one is enough to watch
	URI    string // such as qemu:///system
}

// Limits in time. A define can take a minute where libvirt may not open /dev/kvm,
// because it starts each QEMU binary anew to ask it.
const (
	dialTime = 10 * time.Second
	callTime = 3 * time.Minute
)

// ErrAbsent: no libvirt answers at the socket.
var ErrAbsent = errors.New("libvirt does not answer")

// errLost: the connection ended, or libvirt took too long.
var errLost = errors.New("the connection to libvirt is lost")

// Connection is a connection to libvirt. Its methods may be called by several
// goroutines.
type Connection struct {
	rpc     *libvirt.Libvirt
	conn    net.Conn
	address Address
	ctx     context.Context
	cancel  context.CancelFunc
}

// Connect connects; the connection ends when ctx does. The error is ErrAbsent if
// nobody listens.
func Connect(ctx context.Context, a Address) (*Connection, error) {
	dialer := net.Dialer{Timeout: dialTime}
	conn, err := dialer.DialContext(ctx, "unix", a.Socket)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, hint.Errorf("start it (systemctl start libvirtd), or set libvirt-socket in the configuration", "%w at %s", ErrAbsent, a.Socket)
	case errors.Is(err, fs.ErrPermission):
		return nil, hint.Wrap(fmt.Errorf("libvirt at %s: %w", a.Socket, err), "run it as root, or as a user of the group libvirt")
	case err != nil:
		return nil, fmt.Errorf("libvirt at %s: %w", a.Socket, err)
	}
	c := &Connection{conn: conn, address: a, rpc: libvirt.NewWithDialer(dialed{&framed{Conn: conn}})}
	c.ctx, c.cancel = context.WithCancel(ctx)
	if err := c.call("connect to "+a.URI, func() error { return c.rpc.ConnectToURI(libvirt.ConnectURI(a.URI)) }); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// dialed gives the library a connection that is ours to close.
type dialed struct{ net.Conn }

// Dial implements the library's Dialer.
func (d dialed) Dial() (net.Conn, error) { return d.Conn, nil }

// Close ends the connection. Calls that wait fail.
func (c *Connection) Close() {
	c.cancel()
	_ = c.conn.Close()
}

// call does one thing with a limit in time, which the library does not have: past
// it the connection is closed. What do assigns counts only without an error.
func (c *Connection) call(what string, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	limit := time.NewTimer(callTime)
	defer limit.Stop()
	var err error
	select {
	case err = <-done:
	case <-limit.C:
		err = fmt.Errorf("%w: no answer within %s", errLost, callTime)
		_ = c.conn.Close()
	case <-c.ctx.Done():
		err = c.ctx.Err()
		_ = c.conn.Close()
	}
	var said libvirt.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &said):
		return fmt.Errorf("libvirt: %s: %w", what, err)
	case errors.Is(err, syscall.EINVAL), errors.Is(err, net.ErrClosed): // what the library says once it is disconnected
		err = errLost
	}
	return fmt.Errorf("%s: %w", what, err)
}

// isNot reports whether libvirt says that there is no such domain or network.
func isNot(err error) bool {
	var said libvirt.Error
	return errors.As(err, &said) && (said.Code == uint32(libvirt.ErrNoDomain) || said.Code == uint32(libvirt.ErrNoNetwork))
}
