package domains

import (
	"cmp"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/digitalocean/go-libvirt"
)

// State is what libvirt says that a domain does.
type State string

// The states. Only StateOff means that no QEMU has the gateway's seat.
const (
	StateRunning  State = "running"
	StatePaused   State = "paused"
	StateStopping State = "stopping"
	StateOff      State = "off"
	StateAsleep   State = "asleep" // suspended by its guest
	StateUnknown  State = "unknown"
)

// Alive reports whether there is a QEMU.
func (s State) Alive() bool { return s != StateOff }

func stateOf(n int32) State {
	switch libvirt.DomainState(n) {
	case libvirt.DomainRunning, libvirt.DomainBlocked:
		return StateRunning
	case libvirt.DomainPaused:
		return StatePaused
	case libvirt.DomainShutdown:
		return StateStopping
	case libvirt.DomainShutoff, libvirt.DomainCrashed:
		return StateOff
	case libvirt.DomainPmsuspended:
		return StateAsleep
	}
	return StateUnknown
}

// Domain is a domain that libvirt has.
type Domain struct {
	Name   string
	UUID   string // as libvirt writes it
	State  State
	handle libvirt.Domain
}

// Domains lists all domains, sorted by name.
func (c *Connection) Domains() ([]Domain, error) {
	var handles []libvirt.Domain
	err := c.call("list domains", func() (err error) {
		handles, _, err = c.rpc.ConnectListAllDomains(1, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	var all []Domain
	for _, h := range handles {
		d, err := c.describe(h)
		if isNot(err) {
			continue // gone since the list was made
		}
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b Domain) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// Find looks for a domain by UUID, then by name; ok is false if there is none.
func (c *Connection) Find(key string) (d Domain, ok bool, err error) {
	var h libvirt.Domain
	err = c.call("find the domain "+key, func() (err error) {
		if id, isID := parseUUID(key); isID {
			h, err = c.rpc.DomainLookupByUUID(id)
			if err == nil || !isNot(err) {
				return err
			}
		}
		h, err = c.rpc.DomainLookupByName(key)
		return err
	})
	if isNot(err) {
		return Domain{}, false, nil
	}
	if err == nil {
		d, err = c.describe(h)
	}
	if isNot(err) {
		return Domain{}, false, nil
	}
	return d, err == nil, err
}

func (c *Connection) describe(h libvirt.Domain) (Domain, error) {
	d := Domain{Name: h.Name, UUID: formatUUID(h.UUID), handle: h}
	err := c.call("state of the domain "+h.Name, func() error {
		state, _, err := c.rpc.DomainGetState(h, 0)
		d.State = stateOf(state)
		return err
	})
	return d, err
}

// Document is the domain's document as it is kept, with its secrets, so that it
// can be defined again.
func (c *Connection) Document(d Domain) (string, error) {
	return c.document(d, libvirt.DomainXMLInactive|libvirt.DomainXMLSecure)
}

// OpenDocument is the document of the running domain (of a domain that is off, the
// kept one) as anybody may read it who may look at libvirt.
func (c *Connection) OpenDocument(d Domain) (string, error) { return c.document(d, 0) }

func (c *Connection) document(d Domain, flags libvirt.DomainXMLFlags) (text string, err error) {
	err = c.call("read the document of the domain "+d.Name, func() (err error) {
		text, err = c.rpc.DomainGetXMLDesc(d.handle, flags)
		return err
	})
	if err != nil {
		return "", err
	}
	return text, nil
}

// Define makes a domain of a document, or changes the one with its UUID; a running
// one changes when it is next started.
func (c *Connection) Define(text string) error {
	return c.call("define the domain", func() error {
		_, err := c.rpc.DomainDefineXMLFlags(text, 0)
		return err
	})
}

// Start starts a domain that is off.
func (c *Connection) Start(d Domain) error {
	return c.call("start the domain "+d.Name, func() error { return c.rpc.DomainCreate(d.handle) })
}

// Undefine makes libvirt forget a domain that is off. Its disks stay; the copy of
// the firmware's variables, which libvirt made, goes.
func (c *Connection) Undefine(d Domain) error {
	return c.call("undefine the domain "+d.Name, func() error {
		return c.rpc.DomainUndefineFlags(d.handle, libvirt.DomainUndefineNvram)
	})
}

// Saved reports whether the domain was saved and would continue from that.
func (c *Connection) Saved(d Domain) (bool, error) {
	var saved int32
	err := c.call("look for a saved state of the domain "+d.Name, func() (err error) {
		saved, err = c.rpc.DomainHasManagedSaveImage(d.handle, 0)
		return err
	})
	var said libvirt.Error
	if errors.As(err, &said) && said.Code == uint32(libvirt.ErrNoSupport) {
		return false, nil // a driver that cannot save
	}
	return saved != 0, err
}

func formatUUID(id libvirt.UUID) string {
	h := hex.EncodeToString(id[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

func parseUUID(text string) (id libvirt.UUID, ok bool) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != len(id) {
		return id, false
	}
	return libvirt.UUID(b), true
}
