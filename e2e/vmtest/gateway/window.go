package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"guardring/e2e/tornet"
	"guardring/e2e/vmtest"
)

// Window has a Tor that lies in a guest where Debian has it look like a Tor of this machine: the client's sockets lead into the guest.
type Window struct {
	// Tor is the Tor, as tests and the oracle use it.
	Tor *tornet.Client

	guest     *vmtest.Guest
	network   *tornet.Network
	listeners []net.Listener
}

// GuardLogPort is the virtio-serial port that Tor's guard log must be written to, in vmtest.Options.Ports: it is tornet.Tor.GuardLog.
const GuardLogPort = "guard.log"

// Where Debian has Tor's sockets; ports in the guest that are joined with them.
var sockets = []struct {
	name, path string
	port       int
}{{"control", "/run/tor/control", 9151}, {"socks", "/run/tor/socks", 9150}}

// Forwards are the ways into a guest that a Window needs, in vmtest.Network. The number is another one for each guest that runs at the same time.
func Forwards(number int) []vmtest.Forward {
	var all []vmtest.Forward
	for _, s := range sockets {
		all = append(all, vmtest.Forward{Host: forwarded(number, s.port), Guest: s.port})
	}
	return all
}

// forwarded is the port of this machine's 127.0.0.1 that leads to one of a guest.
func forwarded(number, port int) int { return 20000 + 10*number + port - 9150 }

// NewWindow makes the client's sockets, beside the guest's files. The guest has Forwards(number).
func NewWindow(guest *vmtest.Guest, network *tornet.Network, number int) (*Window, error) {
	w := &Window{guest: guest, network: network}
	for _, s := range sockets {
		l, err := net.Listen("unix", filepath.Join(guest.Dir, s.name))
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		w.listeners = append(w.listeners, l)
		target := net.JoinHostPort("127.0.0.1", strconv.Itoa(forwarded(number, s.port)))
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go join(c, target)
			}
		}()
	}
	w.Tor = network.Remote(guest.Name, guest.Dir, func() ([]byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
		defer cancel()
		return guest.ReadFile(ctx, "/var/lib/tor/state")
	})
	return w, nil
}

func join(a net.Conn, target string) {
	b, err := net.Dial("tcp", target)
	if err != nil {
		a.Close()
		return
	}
	var once sync.Once
	end := func() { once.Do(func() { a.Close(); b.Close() }) }
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		go func() {
			defer end()
			io.Copy(way[0], way[1])
		}()
	}
}

// Admit lets the client's connections in, until the guest boots again.
func (w *Window) Admit(ctx context.Context) error {
	for _, s := range sockets {
		if err := w.guest.Pass(ctx, "0.0.0.0:"+strconv.Itoa(s.port), s.path); err != nil {
			return err
		}
	}
	return nil
}

// Connect connects to a Tor that has been started, anew if it was connected, and waits until that can build circuits.
func (w *Window) Connect(ctx context.Context) error {
	b, err := w.guest.ReadFile(ctx, cookie)
	if err != nil {
		return err
	}
	if err := os.WriteFile(w.Tor.CookieFile(), b, 0o600); err != nil {
		return err
	}
	return w.Tor.Connect(ctx)
}

// Close ends the client, not the Tor.
func (w *Window) Close() error {
	var errs []error
	for _, l := range w.listeners {
		errs = append(errs, l.Close())
	}
	if w.Tor != nil {
		errs = append(errs, w.network.RemoveClient(w.Tor))
	}
	return errors.Join(errs...)
}
