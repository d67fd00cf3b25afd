// Package plainfile reads files that lie where others may write.
//
// Trust: whoever owns the folder may put a FIFO, a device or an endless file in
// the place of what is expected. None of these may make the reader wait or grow.
package plainfile

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// Read returns the content of the regular file at path, of at most most bytes, and
// what the open file is. It waits for nobody, as opening a FIFO would.
func Read(path string, most int64) ([]byte, os.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is not a regular file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(b)) > most {
		return nil, nil, fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return b, st, nil
}
