// Package statussock hands one JSON document to whoever connects to a unix
// socket, and fetches such a document. It is what `status` commands and
// monitoring read; it has no state. A socket may also answer a question, one line
// per connection (ServeAnswers, Ask): commands of the operator.
//
// Trust: who may read or ask is decided by the socket's mode and directory. A
// reader may be slow, silent or hostile: no more than one bounded line is read
// from it, and only where questions are answered; it is written to with a
// deadline, and only a few are served at once. The fetching side trusts the
// socket's owner but bounds size and time.
package statussock

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"guardring/internal/sockpath"
)

// Limits of the exchange.
const (
	maxReaders  = 8                // documents being written at once; more wait in the socket's queue
	readerTime  = 5 * time.Second  // for one reader to ask, and to take the whole document
	connectTime = 10 * time.Second // connecting waits for nothing; a machine may be busy
	acceptPause = time.Second      // after the system ran out of descriptors
	maxQuestion = 4096             // bytes of one question
	maxDocument = 64 * 1024 * 1024 // bytes that Fetch accepts
)

// Listener is a bound socket that is not served yet, so that callers report a bad
// path before they start their work.
type Listener struct {
	l          *net.UnixListener
	path       string
	readerTime time.Duration
}

// Listen binds path with the given mode. A socket file that nobody listens on is
// replaced; one that is in use, or anything that is not a socket, is an error.
func Listen(path string, mode fs.FileMode) (*Listener, error) {
	if err := sockpath.Check(path); err != nil {
		return nil, fmt.Errorf("status socket %s: %w", path, err)
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("status socket %s: %w", path, err)
	}
	// Bound under another name and renamed only when the mode is right, so that
	// nobody connects before.
	temporary := path + ".new"
	if sockpath.Check(temporary) != nil {
		temporary = path
	}
	_ = os.Remove(temporary)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("status socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(temporary, mode)
	if err == nil && temporary != path {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = l.Close()
		_ = os.Remove(temporary)
		return nil, fmt.Errorf("status socket %s: %w", path, err)
	}
	return &Listener{l: l, path: path, readerTime: readerTime}, nil
}

// Close gives the socket up without serving it.
func (l *Listener) Close() error {
	_ = os.Remove(l.path)
	return l.l.Close()
}

// Present reports whether there is a socket file at path. Anything else at path
// is an error.
func Present(path string) (bool, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case info.Mode().Type() != fs.ModeSocket:
		return false, errors.New("exists and is not a socket: remove it or choose another path")
	}
	return true, nil
}

// removeStale removes the socket file at path if nobody listens on it. It is an
// error if somebody does, or if the file is no socket.
func removeStale(path string) error {
	if there, err := Present(path); !there {
		return err
	}
	c, err := net.DialTimeout("unix", path, connectTime)
	switch {
	case err == nil:
		_ = c.Close()
		return errors.New("another process listens there")
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("another process may listen there: %w", err)
}

// Serve writes document(), as JSON with a newline, to each connection until ctx
// ends; then it removes the socket and returns nil. document is called once per
// connection, from several goroutines.
func (l *Listener) Serve(ctx context.Context, document func() any) error {
	return l.serve(ctx, func(*net.UnixConn) (any, error) { return document(), nil })
}

// ServeAnswers is Serve for a socket that is asked: answer gets the line that a
// client sent, without the newline. A client that sends no whole line in time, or
// a longer one, gets no answer.
func (l *Listener) ServeAnswers(ctx context.Context, answer func(question []byte) any) error {
	return l.serve(ctx, func(c *net.UnixConn) (any, error) {
		l.limit(ctx, c)
		line, err := bufio.NewReader(io.LimitReader(c, maxQuestion)).ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		return answer(bytes.TrimSpace(line)), nil
	})
}

func (l *Listener) serve(ctx context.Context, document func(*net.UnixConn) (any, error)) error {
	defer os.Remove(l.path)
	var writers sync.WaitGroup
	defer writers.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.l.Close() })
	defer stop()
	slots := make(chan struct{}, maxReaders)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		c, err := l.l.AcceptUnix()
		if err != nil {
			<-slots
			if ctx.Err() != nil {
				return nil
			}
			if !outOfDescriptors(err) {
				return fmt.Errorf("status socket %s: %w", l.path, err)
			}
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		writers.Go(func() {
			defer func() { <-slots }()
			l.write(ctx, c, document)
		})
	}
}

func outOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ENOBUFS)
}

// limit gives the reader its time from now on, and none when ctx has ended, which may be
// at the same moment.
func (l *Listener) limit(ctx context.Context, c *net.UnixConn) {
	_ = c.SetDeadline(time.Now().Add(l.readerTime))
	if ctx.Err() != nil {
		_ = c.SetDeadline(time.Now())
	}
}

// write sends one document. An error is the reader's own loss: it sees a
// document that ends early.
func (l *Listener) write(ctx context.Context, c *net.UnixConn, document func(*net.UnixConn) (any, error)) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer stop()
	d, err := document(c)
	if err != nil {
		return
	}
	l.limit(ctx, c)
	b, err := json.Marshal(d)
	if err != nil {
		b, _ = json.Marshal(map[string]string{"error": err.Error()})
	}
	_, _ = c.Write(append(b, '\n'))
}

// Fetch reads the document from the socket at path, all within timeout. what
// names the program that should be listening, for the error's hint.
func Fetch(path, what string, timeout time.Duration) ([]byte, error) {
	return exchange(path, what, nil, timeout)
}

// Ask sends a question, as one line of JSON, to a socket that ServeAnswers serves,
// and returns the answer. See Fetch.
func Ask(path, what string, question any, timeout time.Duration) ([]byte, error) {
	line, err := json.Marshal(question)
	if err != nil {
		return nil, err
	}
	return exchange(path, what, append(line, '\n'), timeout)
}

func exchange(path, what string, question []byte, timeout time.Duration) ([]byte, error) {
	deadline := time.Now().Add(timeout)
	c, err := net.DialTimeout("unix", path, timeout)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("no status socket at %s: is %s running? %w", path, what, fs.ErrNotExist)
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("nobody listens at %s: is %s running? %w", path, what, syscall.ECONNREFUSED)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s may not be read by this user: run the command as root, or as the user that %s runs as: %w", path, what, fs.ErrPermission)
	case err != nil:
		return nil, fmt.Errorf("ask %s at %s: %w", what, path, err)
	}
	defer c.Close()
	if err := c.SetDeadline(deadline); err != nil {
		return nil, fmt.Errorf("ask %s at %s: %w", what, path, err)
	}
	if len(question) > 0 {
		if _, err := c.Write(question); err != nil {
			return nil, fmt.Errorf("ask %s at %s: %w", what, path, err)
		}
	}
	b, err := io.ReadAll(io.LimitReader(c, maxDocument+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("%s at %s did not answer within %s: it hangs or is overloaded: %w", what, path, timeout, os.ErrDeadlineExceeded)
	case err != nil:
		return nil, fmt.Errorf("ask %s at %s: %w", what, path, err)
	case len(b) > maxDocument:
		return nil, fmt.Errorf("the %s at %s sent more than %d bytes", what, path, maxDocument)
	case !json.Valid(b):
		return nil, fmt.Errorf("the %s at %s sent no complete JSON document (%d bytes): it stopped while answering, or another program listens there", what, path, len(b))
	}
	return b, nil
}
