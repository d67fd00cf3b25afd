package tornet

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// ReplyError is a refusal by Tor: a reply with a code other than 250.
type ReplyError struct {
	// Command is the command's first word.
	Command string
	// Code is the three digits.
	Code string
	// Text is the last line's text.
	Text string
}

func (e *ReplyError) Error() string {
	return fmt.Sprintf("control port: %s: %s %s", e.Command, e.Code, e.Text)
}

// requestTimeout bounds one control command.
const requestTimeout = 15 * time.Second

// Control is a connection to a Tor's control port, authenticated by cookie. Commands may come from several goroutines.
type Control struct {
	conn net.Conn

	mu      sync.Mutex // one command at a time
	replies chan []string

	evMu   sync.Mutex
	events map[chan string]bool
	closed chan struct{}
}

// DialControl connects to a control socket and authenticates with the cookie file.
func DialControl(ctx context.Context, socket, cookieFile string) (*Control, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("dial control port: %w", err)
	}
	cookie, err := os.ReadFile(cookieFile)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("read control cookie: %w", err)
	}
	c := &Control{conn: conn, replies: make(chan []string, 1), events: map[chan string]bool{}, closed: make(chan struct{})}
	go c.read()
	if _, err := c.Do("AUTHENTICATE " + hex.EncodeToString(cookie)); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close ends the connection; event channels are closed.
func (c *Control) Close() error { return c.conn.Close() }

func (c *Control) read() {
	defer func() {
		close(c.closed)
		c.evMu.Lock()
		for ch := range c.events {
			close(ch)
		}
		c.events = nil
		c.evMu.Unlock()
	}()
	r := bufio.NewReaderSize(c.conn, 1<<16)
	var reply []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		if len(line) < 4 {
			return
		}
		if line[3] == '+' {
			var body strings.Builder
			body.WriteString(line)
			for {
				l, err := r.ReadString('\n')
				if err != nil {
					return
				}
				l = strings.TrimRight(l, "\r\n")
				if l == "." {
					break
				}
				body.WriteByte('\n')
				body.WriteString(strings.TrimPrefix(l, "."))
			}
			line = body.String()
		}
		reply = append(reply, line)
		if line[3] != ' ' {
			// Asynchronous events of several lines end with a space line too, so both are gathered the same way.
			continue
		}
		if strings.HasPrefix(reply[0], "650") {
			c.dispatch(strings.Join(reply, "\n"))
		} else {
			select {
			case c.replies <- reply:
			default: // an answer nobody waits for: the command timed out
			}
		}
		reply = nil
	}
}

func (c *Control) dispatch(ev string) {
	c.evMu.Lock()
	defer c.evMu.Unlock()
	for ch := range c.events {
		select {
		case ch <- ev:
		default: // a slow listener must not block the reader; listeners look at the truth when they wake
		}
	}
}

// Do sends one command of one line and returns the reply's lines without their codes. Data replies ("250+key=") hold
// their body after a newline.
func (c *Control) Do(command string) ([]string, error) {
	if strings.ContainsAny(command, "\r\n") {
		return nil, fmt.Errorf("control command with a line break: %q", command)
	}
	word, _, _ := strings.Cut(command, " ")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn.SetWriteDeadline(time.Now().Add(requestTimeout))
	if _, err := c.conn.Write([]byte(command + "\r\n")); err != nil {
		return nil, fmt.Errorf("control port: %s: %w", word, err)
	}
	timer := time.NewTimer(requestTimeout)
	defer timer.Stop()
	select {
	case lines := <-c.replies:
		last := lines[len(lines)-1]
		if !strings.HasPrefix(last, "250") {
			return nil, &ReplyError{Command: word, Code: last[:3], Text: last[4:]}
		}
		out := make([]string, len(lines))
		for i, l := range lines {
			out[i] = l[4:]
		}
		return out, nil
	case <-c.closed:
		return nil, fmt.Errorf("control port: %s: %w", word, net.ErrClosed)
	case <-timer.C:
		c.conn.Close() // later answers would be taken for the next command's
		return nil, fmt.Errorf("control port: %s: %w", word, os.ErrDeadlineExceeded)
	}
}

// Info asks GETINFO for one key.
func (c *Control) Info(key string) (string, error) {
	lines, err := c.Do("GETINFO " + key)
	if err != nil {
		return "", err
	}
	v, ok := strings.CutPrefix(lines[0], key+"=")
	if !ok {
		return "", fmt.Errorf("control port: GETINFO %s answered %q", key, lines[0])
	}
	return strings.TrimPrefix(v, "\n"), nil
}

// Conf asks GETCONF for one option; all its lines, nil when it has its default.
func (c *Control) Conf(option string) ([]string, error) {
	lines, err := c.Do("GETCONF " + option)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range lines {
		if k, v, ok := strings.Cut(l, "="); ok && strings.EqualFold(k, option) {
			out = append(out, v)
		}
	}
	return out, nil
}

// SetConf sends SETCONF with the given "Key=value" words, quoted where needed.
func (c *Control) SetConf(pairs ...string) error {
	var b strings.Builder
	b.WriteString("SETCONF")
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		b.WriteByte(' ')
		b.WriteString(k)
		if ok {
			b.WriteString(`="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`)
		}
	}
	_, err := c.Do(b.String())
	return err
}

// Events subscribes to the connection's events. Which events come is set by Do("SETEVENTS …"). Events may be lost when
// the channel is full: take one as a reason to look, and ask Tor for the truth. cancel ends the subscription.
func (c *Control) Events() (ch <-chan string, cancel func()) {
	e := make(chan string, 256)
	c.evMu.Lock()
	defer c.evMu.Unlock()
	if c.events == nil {
		close(e)
		return e, func() {}
	}
	c.events[e] = true
	return e, func() {
		c.evMu.Lock()
		defer c.evMu.Unlock()
		if c.events[e] {
			delete(c.events, e)
			close(e)
		}
	}
}

// errBootstrap is a Tor that says why it cannot bootstrap.
var errBootstrap = errors.New("tor does not bootstrap")

// AwaitBootstrap waits for PROGRESS=100.
func (c *Control) AwaitBootstrap(ctx context.Context) error {
	ev, cancel := c.Events()
	defer cancel()
	if _, err := c.Do("SETEVENTS STATUS_CLIENT"); err != nil {
		return err
	}
	phase, err := c.Info("status/bootstrap-phase")
	if err != nil {
		return err
	}
	for {
		if strings.Contains(phase, "PROGRESS=100 ") {
			return nil
		}
		select {
		case e, ok := <-ev:
			if !ok {
				return fmt.Errorf("%w: it ended at %q", errBootstrap, phase)
			}
			if strings.Contains(e, "BOOTSTRAP") {
				phase = e
			}
		case <-ctx.Done():
			return fmt.Errorf("%w: last heard %q: %w", errBootstrap, phase, ctx.Err())
		}
	}
}
