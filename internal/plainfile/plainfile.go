// Package plainfile opens and reads files that lie where others may write.
//
// Trust: whoever owns the folder may put a FIFO, a device, an endless file, or a link to
// one in the place of what is expected. None of these may make the reader wait or grow,
// and none but a regular file is opened at all: we may be root, and to be opened is what
// some devices act on (a watchdog resets the machine).
package plainfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens the regular file at path for reading, and says what it is. It waits for
// nobody, as opening a FIFO would. Errors are about path: fs.ErrNotExist, fs.ErrPermission.
func Open(path string) (*os.File, os.FileInfo, error) {
	// Found, and not opened: of what it is, only a regular file may be opened.
	found, err := open(path, unix.O_PATH)
	if err != nil {
		return nil, nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(found)
	var st unix.Stat_t
	if err := unix.Fstat(found, &st); err != nil {
		return nil, nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil, fmt.Errorf("%s is not a regular file", path)
	}
	// This very file, whatever path is by now. Not to wait is for one that somebody has
	// leased.
	fd, err := open(fmt.Sprintf("/proc/self/fd/%d", found), unix.O_RDONLY|unix.O_NONBLOCK)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s cannot be opened: is /proc mounted?", path)
	}
	if err != nil {
		return nil, nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

func open(path string, flags int) (fd int, err error) {
	for {
		if fd, err = unix.Open(path, flags|unix.O_CLOEXEC, 0); err != unix.EINTR {
			return fd, err
		}
	}
}

// Read returns the content of the regular file at path, of at most most bytes, and
// what the open file is. It waits for nobody.
func Read(path string, most int64) ([]byte, os.FileInfo, error) {
	f, st, err := Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(b)) > most {
		return nil, nil, fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return b, st, nil
}
