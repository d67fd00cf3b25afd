package device

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"guardring/shmproto"
)

// ErrNoWriter: as many agents as a region allows run already.
var ErrNoWriter = errors.New("no writer slot free")

// Writer is one of the lock's writer slots, held until Release or the end of
// the process.
type Writer struct {
	Slot int // 0 to shmproto.MaxWriters-1
	file *os.File
}

// TakeWriter takes a free writer slot. dir is the runtime directory, which all
// agents of one gateway share and only their user may write.
func TakeWriter(dir string) (*Writer, error) {
	for slot := range shmproto.MaxWriters {
		path := filepath.Join(dir, fmt.Sprintf("writer-%d.lock", slot))
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("writer slot: %w", err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return &Writer{Slot: slot, file: f}, nil
		}
		_ = f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("writer slot: lock %s: %w", path, err)
		}
	}
	return nil, fmt.Errorf("%w: %d agents run already with %s", ErrNoWriter, shmproto.MaxWriters, dir)
}

// Release gives the slot up. The file stays: removing it would let two agents
// hold two files of one name.
func (w *Writer) Release() error { return w.file.Close() }
