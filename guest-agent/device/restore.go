package device

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"

	"guardring/guest-agent/pci"
	"guardring/internal/hint"
	"guardring/internal/plainfile"
	"guardring/internal/printable"
)

// record is what the state file holds: how the device was before Prepare.
type record struct {
	Address  string `json:"address"`
	Driver   string `json:"driver"`          // "" for none
	Override string `json:"driver_override"` // "" for none
	Enabled  bool   `json:"enabled"`
	Boot     string `json:"boot_id"`
	// NoVFIO is why VFIO could not be had in this boot; "" if it was not tried or works.
	NoVFIO string `json:"no_vfio,omitempty"`
}

// maxReason bounds the reason that a state file gives, in bytes.
const maxReason = 400

// readRecord returns the state file's record; ok is false if there is none.
func (o Options) readRecord() (r record, ok bool, err error) {
	b, info, err := plainfile.Read(o.StateFile, 64<<10) // its folder is the agent's user's
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, false, nil
	}
	if err == nil {
		err = written(info)
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err == nil && !pci.ValidAddress(r.Address) {
		err = fmt.Errorf("%q is no PCI address", r.Address)
	}
	// The folder is the agent's user's, who must not have root write elsewhere.
	for _, driver := range []string{r.Driver, r.Override} {
		if err == nil && driver != "" && !pci.ValidDriver(driver) {
			err = fmt.Errorf("%q is no driver", driver)
		}
	}
	if err != nil {
		return record{}, false, hint.Wrap(fmt.Errorf("state file %s: %w", o.StateFile, err), "remove the file; then leave cannot give the device back to its former driver")
	}
	r.NoVFIO = oneLine(r.NoVFIO)
	return r, true, nil
}

// written tells whether the state file is one that Prepare wrote: the agent's user can put another one
// into its place, and so name the driver that root gives the device to, but cannot make it root's.
func written(info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return errors.New("it is not root's")
	}
	return nil
}

// oneLine makes one line of what the file says for people: root reads it at a terminal
// and in the unit's log, and the agent's user may have written it.
func oneLine(s string) string {
	return printable.Line(strings.ToValidUTF8(s[:min(len(s), maxReason)], ""))
}

// note is the step that remembers how the device is now. What an earlier run of
// this boot remembered stays: the device may be half changed already.
func (o Options) note(d pci.Device) []step {
	boot := o.bootID()
	if old, ok, err := o.readRecord(); err == nil && ok && old.Address == d.Address && old.Boot == boot {
		return nil
	}
	r := record{Address: d.Address, Driver: d.Driver, Override: d.Override, Enabled: d.Enabled, Boot: boot}
	what := "noted in " + o.StateFile + " that the driver of " + d.Address + " was " + orNone(d.Driver)
	return []step{{"prepare-noted", what, func() error { return o.writeRecord(r) }}}
}

func (o Options) writeRecord(r record) error {
	if err := os.MkdirAll(filepath.Dir(o.StateFile), 0o755); err != nil {
		return err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return renameio.WriteFile(o.StateFile, append(b, '\n'), 0o644)
}

// remember adds to the state file why VFIO cannot be had.
func (o Options) remember(d pci.Device, why string) error {
	r, ok, err := o.readRecord()
	if err != nil || !ok || r.Address != d.Address || r.NoVFIO == why {
		return nil // then it is tried again next time
	}
	r.NoVFIO = why
	return o.writeRecord(r)
}

// noVFIO is what remember kept in this boot.
func (o Options) noVFIO(d pci.Device) string {
	if r, ok, err := o.readRecord(); err == nil && ok && r.Address == d.Address && r.Boot == o.bootID() {
		return r.NoVFIO
	}
	return ""
}

// Restore gives the device back as Prepare found it. Without a state file, or
// without the device, nothing is to be done. It needs root, and nobody may use the
// device.
func Restore(o Options, dry bool) (Prepared, error) {
	r, ok, err := o.readRecord()
	if err != nil || !ok {
		return Prepared{}, err
	}
	var p Prepared
	var steps []step
	add := func(name, what string, do func() error) { steps = append(steps, step{name, what, do}) }
	d, err := o.Bus.Device(r.Address)
	switch {
	case errors.Is(err, fs.ErrNotExist): // the device has gone, with all that was done to it
	case err != nil:
		return Prepared{}, err
	case judgeKind(d) != nil: // the file is not the place to learn which device may be taken from its driver
		return Prepared{}, hint.Wrap(fmt.Errorf("state file %s: %w", o.StateFile, judgeKind(d)), "remove the file")
	case r.Boot != o.bootID() && d.Driver != vfioDriver && !d.Enabled: // this boot has changed nothing
	default:
		if err := o.unused(d); err != nil {
			return Prepared{}, err
		}
		if d.Override != r.Override {
			add("restore-override", "set the driver_override of "+d.Address+" back to "+orNone(r.Override), func() error { return o.Bus.SetOverride(d.Address, r.Override) })
		}
		if d.Driver == vfioDriver && r.Driver != vfioDriver {
			add("restore-unbound", "took "+d.Address+" from "+vfioDriver, func() error { return o.Bus.Unbind(d.Address) })
			d.Driver = ""
		}
		if d.Driver == "" {
			steps = append(steps, o.close(d, r)...)
		}
		if r.Driver != "" && d.Driver != r.Driver {
			add("restore-bound", "gave "+d.Address+" back to "+r.Driver, func() error { return o.Bus.Bind(d.Address, r.Driver) })
		}
	}
	add("restore-forgotten", "removed "+o.StateFile, func() error { return os.Remove(o.StateFile) })
	return p, o.run(&p, steps, dry)
}

// close takes the resource files back and switches the memory off, as it was.
func (o Options) close(d pci.Device, r record) []step {
	var steps []step
	for _, bar := range []int{barRegisters, barMemory} {
		path := o.Bus.ResourceFile(d.Address, bar)
		if st, err := os.Stat(path); err == nil && st.Mode().Perm() == 0o660 {
			steps = append(steps, step{"restore-resource", "took " + path + " back", func() error {
				err := os.Chmod(path, 0o600) // as the kernel makes it
				if os.Geteuid() == 0 {       // only root gives files away
					err = errors.Join(err, os.Chown(path, 0, 0))
				}
				return err
			}})
		}
	}
	if !r.Enabled {
		steps = append(steps, step{"restore-off", "", func() error {
			now, err := o.Bus.Device(d.Address)
			if err != nil || !now.Enabled {
				return err
			}
			return o.Bus.Enable(d.Address, false)
		}})
		if d.Enabled {
			steps[len(steps)-1].what = "switched its memory off"
		}
	}
	return steps
}
