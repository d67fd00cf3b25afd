package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Limits of reading command lines. A command line is the other process's own memory. Kernels
// since 4.17 read none that lies in a file, such as one of FUSE, that the process serves itself
// (CVE-2018-1120); but the lock of a process's memory is held by its own threads, too, and they
// can wait for such a file.
const (
	commandLineTime = 500 * time.Millisecond // a QEMU that starts has it in memory
	maxReadings     = 8                      // of one gateway at once; one that hangs holds a thread
)

// errStuck: a command line could not be read in time.
var errStuck = errors.New("its command line cannot be read in time: is it in memory that the process holds back?")

// commandLines reads command lines for one gateway, and waits for none longer than
// its limit. A reading that hangs goes on in a goroutine of its own until the process
// gives in or ends; until then that process is refused at once, and no other is kept
// waiting by it. It is safe for concurrent use.
type commandLines struct {
	path  func(pid int) string
	limit time.Duration

	mu      sync.Mutex
	reading map[int]struct{} // processes whose reading has not ended
}

func newCommandLines() *commandLines {
	return &commandLines{
		path:    func(pid int) string { return fmt.Sprintf("/proc/%d/cmdline", pid) },
		limit:   commandLineTime,
		reading: map[int]struct{}{},
	}
}

// read returns the arguments of a process. The error is errStuck if that takes too
// long, or did so before and has not ended yet.
func (c *commandLines) read(ctx context.Context, pid int) ([]string, error) {
	c.mu.Lock()
	_, hangs := c.reading[pid]
	full := hangs || len(c.reading) >= maxReadings
	if !full {
		c.reading[pid] = struct{}{}
	}
	c.mu.Unlock()
	if full {
		return nil, errStuck
	}
	type result struct {
		line []byte
		err  error
	}
	done := make(chan result, 1) // nobody may wait for it any more
	go func() {
		line, err := readAtMost(c.path(pid), maxEvidence)
		c.mu.Lock()
		delete(c.reading, pid)
		c.mu.Unlock()
		done <- result{line, err}
	}()
	limit := time.NewTimer(c.limit)
	defer limit.Stop()
	var r result
	select {
	case r = <-done:
	case <-limit.C:
		select {
		case r = <-done: // on a machine that had stood still, time is over when all is there
		default:
			return nil, errStuck
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if r.err != nil {
		return nil, r.err
	}
	var args []string
	for a := range bytes.SplitSeq(bytes.TrimSuffix(r.line, []byte{0}), []byte{0}) {
		args = append(args, string(a))
	}
	return args, nil
}

// waiting is how many readings have not ended.
func (c *commandLines) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.reading)
}
