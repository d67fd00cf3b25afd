package ivshmem

import (
	"encoding/binary"
	"errors"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// reader cuts the stream of a unix socket into messages. A message's descriptor
// belongs to the message in whose bytes it arrived.
type reader struct {
	conn *net.UnixConn
}

// room for the descriptors of one write. A server sends one; a second is
// received only so that it can be named, and closed.
const maxRights = 4

// read returns the next message; the descriptor, unless it is NoFD, is the
// caller's. number counts messages, for errors. io.EOF means that the stream
// ended between two messages.
func (r *reader) read(number int) (value int64, fd int, err error) {
	var b [8]byte
	oob := make([]byte, unix.CmsgSpace(maxRights*4))
	fd = NoFD
	wrong := func(reason string) (int64, int, error) {
		e := &ProtocolError{Message: number, Value: int64(binary.LittleEndian.Uint64(b[:])), HasFD: fd != NoFD, Reason: reason}
		if fd != NoFD {
			_ = unix.Close(fd)
		}
		return 0, NoFD, e
	}
	for have := 0; have < len(b); {
		// ReadMsgUnix sets close-on-exec.
		n, oobn, flags, _, err := r.conn.ReadMsgUnix(b[have:], oob)
		fds := rights(oob[:oobn])
		for _, got := range fds {
			if fd == NoFD {
				fd = got
				continue
			}
			_ = unix.Close(got)
			err = errTwoDescriptors
		}
		switch {
		case errors.Is(err, errTwoDescriptors):
			return wrong("more than one descriptor")
		case flags&unix.MSG_CTRUNC != 0:
			return wrong("a descriptor was lost: this process may have too many open (ulimit -n), or a security policy holds it back")
		case err == nil && n == 0, errors.Is(err, io.EOF):
			if have == 0 && fd == NoFD {
				return 0, NoFD, io.EOF
			}
			return wrong("the stream ends within the message")
		case err != nil:
			if fd != NoFD {
				_ = unix.Close(fd)
			}
			return 0, NoFD, err
		}
		have += n
	}
	return int64(binary.LittleEndian.Uint64(b[:])), fd, nil
}

// rights returns the descriptors in control messages. The kernel wrote them, so
// what does not parse is absent.
func rights(oob []byte) []int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var fds []int
	for i := range messages {
		if got, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}
