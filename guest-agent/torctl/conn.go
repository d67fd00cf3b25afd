package torctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cretz/bine/control"
)

// DefaultTimeout is how long a request may take where Config names nothing.
// Tor answers within milliseconds unless it is busy with a new consensus.
const DefaultTimeout = 15 * time.Second

// Config says how to reach one control port.
type Config struct {
	// Address is the path of a unix socket (it contains a "/"; an optional
	// prefix "unix:" is ignored) or host:port.
	Address string
	// CookiePath replaces the path that Tor names. Optional.
	CookiePath string
	// Password is used when Tor takes one and no cookie is readable. Optional.
	Password string
	// Timeout bounds connecting with authentication, and each request. Zero
	// means DefaultTimeout.
	Timeout time.Duration
}

// Conn is an authenticated control connection. All methods may be called from
// several goroutines; requests are sent one after another.
type Conn struct {
	timeout time.Duration
	raw     net.Conn
	text    *textproto.Conn
	bine    *control.Conn
	frames  *frames
	events  *queue

	turn    chan struct{} // a token: who holds it may send a request
	asked   atomic.Bool   // a request waits for its answer
	replies chan Reply    // from the reader, at most one
	done    chan struct{} // closed when the reader has ended

	failure sync.Once
	mu      sync.Mutex
	cause   error         // why the connection ended
	failed  chan struct{} // closed with cause
}

// Dial connects and authenticates. Errors that a user can mend have a Hint
// method with the remedy.
func Dial(ctx context.Context, cfg Config) (*Conn, error) {
	timeout := cfg.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	network, address := split(cfg.Address)
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, dialError(network, address, err)
	}
	c := newConn(raw, timeout)
	// A cancelled context ends the handshake at once.
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	err = c.authenticate(cfg)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		raw.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("control port %s: no answer within %s: %w", address, timeout, os.ErrDeadlineExceeded)
		}
		return nil, err
	}
	raw.SetDeadline(time.Time{})
	go c.read()
	return c, nil
}

func newConn(raw net.Conn, timeout time.Duration) *Conn {
	c := &Conn{
		timeout: timeout,
		raw:     raw,
		frames:  newFrames(raw),
		events:  newQueue(),
		turn:    make(chan struct{}, 1),
		replies: make(chan Reply, 1),
		done:    make(chan struct{}),
		failed:  make(chan struct{}),
	}
	c.text = textproto.NewConn(struct {
		io.Reader
		io.WriteCloser
	}{c.frames, raw})
	c.bine = control.NewConn(c.text)
	c.turn <- struct{}{}
	return c
}

// split tells unix sockets from TCP addresses.
func split(address string) (network, rest string) {
	address = strings.TrimPrefix(address, "unix:")
	if strings.Contains(address, "/") {
		return "unix", address
	}
	return "tcp", address
}

// read is the only reader of the socket. It ends when the connection does.
func (c *Conn) read() {
	defer close(c.done)
	for {
		resp, err := c.bine.ReadResponse()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("control port closed the connection")
			}
			c.fail(err)
			return
		}
		r := fromBine(resp)
		if resp.IsAsync() {
			c.events.put(toEvent(r))
			continue
		}
		if !c.asked.CompareAndSwap(true, false) {
			// Whatever this is, it would be taken for the next request's answer.
			c.fail(fmt.Errorf("control port sent %d without being asked", r.Code))
			return
		}
		c.replies <- r // never blocks: one request at a time
	}
}

// fail ends the connection; the first reason stays.
func (c *Conn) fail(err error) {
	c.failure.Do(func() {
		c.mu.Lock()
		c.cause = err
		c.mu.Unlock()
		close(c.failed)
		c.raw.Close()
	})
}

// Do sends one request and returns Tor's answer. A refusal by Tor is an *Error,
// returned with the reply, and leaves the connection usable; with any other
// error the connection is closed. The deadline is Config.Timeout or ctx's,
// whichever is earlier; cancelling ctx while Tor has not answered closes the
// connection.
func (c *Conn) Do(ctx context.Context, command string) (Reply, error) {
	return c.do(ctx, command, nil)
}

// DoLines is Do for a long data reply: of its data, only the lines for which
// keep returns true are kept. keep is called in another goroutine, one line at a
// time, and must not keep its argument.
func (c *Conn) DoLines(ctx context.Context, command string, keep func(line []byte) bool) (Reply, error) {
	return c.do(ctx, command, &keep)
}

func (c *Conn) do(ctx context.Context, command string, keep *func([]byte) bool) (Reply, error) {
	word, _, _ := strings.Cut(command, " ")
	if strings.ContainsAny(command, "\r\n\x00") {
		return Reply{}, fmt.Errorf("%s: a request must be one line", word)
	}
	if strings.HasPrefix(command, "+") {
		return Reply{}, fmt.Errorf("%s: multi-line requests are not supported", word)
	}
	timer := time.NewTimer(c.timeout)
	defer timer.Stop()
	select {
	case <-c.turn:
		defer func() { c.turn <- struct{}{} }()
	case <-c.failed:
		return Reply{}, c.Err()
	case <-ctx.Done():
		return Reply{}, context.Cause(ctx)
	case <-timer.C:
		return Reply{}, fmt.Errorf("%s: earlier requests are still unanswered: %w", word, os.ErrDeadlineExceeded)
	}
	c.frames.keep.Store(keep)
	defer c.frames.keep.Store(nil)
	c.asked.Store(true)
	c.raw.SetWriteDeadline(time.Now().Add(c.timeout))
	if _, err := io.WriteString(c.raw, command+"\r\n"); err != nil {
		c.fail(fmt.Errorf("send %s: %w", word, err))
		return Reply{}, c.Err()
	}
	select {
	case r := <-c.replies:
		if r.Code < 200 || r.Code > 299 {
			return r, &Error{Command: word, Code: r.Code, Text: r.Text()}
		}
		return r, nil
	case <-c.failed:
	case <-ctx.Done():
		c.fail(fmt.Errorf("%s: given up before Tor answered: %w", word, context.Cause(ctx)))
	case <-timer.C:
		c.fail(fmt.Errorf("%s: no answer within %s: %w", word, c.timeout, os.ErrDeadlineExceeded))
	}
	return Reply{}, c.Err()
}

// Ready holds a token while events are waiting. Receive from it, then call Take.
func (c *Conn) Ready() <-chan struct{} { return c.events.ready }

// Take returns the events that came since the last call, in order. An event
// named Resync stands for events that were lost: ask Tor anew.
func (c *Conn) Take() []Event { return c.events.take() }

// Subscribe replaces the set of events that Tor sends (SETEVENTS).
func (c *Conn) Subscribe(ctx context.Context, names ...string) error {
	_, err := c.Do(ctx, strings.Join(append([]string{"SETEVENTS"}, names...), " "))
	return err
}

// Failed is closed when the connection has ended; Err then says why.
func (c *Conn) Failed() <-chan struct{} { return c.failed }

// Err says why the connection ended: nil while it is good, os.ErrClosed after
// Close.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// Close ends the connection and waits for its goroutine. It sends no QUIT: that
// would have to wait for a Tor that may hang.
func (c *Conn) Close() error {
	c.fail(os.ErrClosed)
	<-c.done
	return nil
}
