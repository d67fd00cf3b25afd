package server

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"guardring/host-agent/rundir"
)

// prepareRunDir makes the directories and takes RUN/server.lock, which is held
// until the returned file is closed or the process ends.
func prepareRunDir(run string) (*os.File, error) {
	if err := ownDir(run, 0o755); err != nil {
		return nil, fmt.Errorf("run directory %s: %w", run, err)
	}
	dir := rundir.Dir(run)
	lock, err := lockRunDir(dir.Lock())
	if err != nil {
		return nil, err
	}
	for _, d := range []struct {
		path string
		mode fs.FileMode
	}{
		{dir.Gateways(), 0o755}, // QEMU's user must get to its socket
		{dir.Host(), 0o700},     // coordinators only
	} {
		err := ownDir(d.path, d.mode)
		if err == nil {
			err = os.Chmod(d.path, d.mode)
		}
		if err != nil {
			_ = lock.Close()
			return nil, fmt.Errorf("socket directory %s: %w", d.path, err)
		}
	}
	return lock, nil
}

// ownDir makes path if it is missing, and checks that nobody but root and
// ourselves can put files there: who can, could answer in our place.
func ownDir(path string, mode fs.FileMode) error {
	err := os.Mkdir(path, mode)
	switch {
	case err == nil:
		return os.Chmod(path, mode) // whatever the umask
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	switch me := uint32(os.Geteuid()); {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return errors.New("exists and is not a directory")
	case st.Uid != me && st.Uid != 0:
		return fmt.Errorf("belongs to user %d, this server runs as user %d: give it to this user (chown) or choose another directory", st.Uid, me)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("others can write in it (mode %04o): chmod go-w", st.Mode&0o7777)
	}
	return nil
}

// lockRunDir makes sure that one server at a time uses the directory. The lock
// file names the holder; only the lock counts.
func lockRunDir(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("server lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := io.ReadAll(io.LimitReader(f, 32))
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another server (process %s) holds %s: stop it, or give this one a run directory of its own", strings.TrimSpace(string(pid)), path)
		}
		return nil, fmt.Errorf("server lock %s: %w", path, err)
	}
	if err = f.Truncate(0); err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("server lock: %w", err)
	}
	return f, nil
}
