package ledger

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"guardring/shmproto"
)

// Rebuild ends the directory's epoch and starts a new one without history: the
// next coordinator takes its state from the guests' publications, first come,
// first stamped. The old files are kept in a sub-directory (returned) for whoever wants to look into them. No coordinator may
// run on the directory: ErrInUse.
func Rebuild(path string, now time.Time) (epoch shmproto.Epoch, kept string, err error) {
	d, err := open(path, unix.LOCK_EX)
	if err != nil {
		return shmproto.Epoch{}, "", err
	}
	defer d.Close()
	names, err := d.list()
	if err != nil {
		return shmproto.Epoch{}, "", err
	}
	epoch = newEpoch(now)
	// The new epoch must be the higher one although the clock may have been set
	// back: guests compare numbers.
	for _, n := range names {
		epoch.Number = max(epoch.Number, n.epoch.Number+1)
	}
	if old, err := d.readEpoch(); err == nil {
		epoch.Number = max(epoch.Number, old.Number+1)
	}
	if err := d.replaceEpoch(epoch); err != nil {
		return shmproto.Epoch{}, "", err
	}
	if len(names) == 0 {
		return epoch, "", nil
	}
	kept = d.file(fmt.Sprintf("before-%d", epoch.Number))
	if err := os.MkdirAll(kept, 0o700); err != nil {
		return epoch, "", err
	}
	for _, n := range names {
		if err := os.Rename(d.file(n.name), kept+"/"+n.name); err != nil {
			return epoch, kept, err
		}
	}
	return epoch, kept, d.sync()
}
