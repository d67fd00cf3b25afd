package domains

import (
	"errors"
	"fmt"

	"guardring/libvirt-xml/domainxml"
)

// Listed is a gateway as `guardring gateway list` shows it: what the
// configuration, libvirt and the server say of it.
type Listed struct {
	Name       string `json:"name"`
	Domain     string `json:"domain,omitempty"` // libvirt's name of it
	UUID       string `json:"uuid,omitempty"`
	State      State  `json:"state,omitempty"`   // of the domain
	Type       string `json:"type,omitempty"`    // of the domain: kvm or qemu
	MadeBy     string `json:"made_by,omitempty"` // create or attach; "" if it has no domain of ours
	Interrupts bool   `json:"interrupts"`        // its machine allows doorbells; else its agent polls
	Served     bool   `json:"served"`
	Seat       string `json:"seat,omitempty"` // the guest seat, as the server says: free, connected, lost
	Socket     string `json:"socket"`
	Fault      string `json:"fault,omitempty"`
	Remedy     string `json:"remedy,omitempty"`
}

// Inventory is what List goes by.
type Inventory struct {
	Libvirt  *Connection // nil: it does not answer
	Known    []Known
	SocketOf func(name string) string
	// Seats is the state of the guest seat of each gateway that is served; nil: no
	// server runs.
	Seats map[string]string
}

// List describes every configured gateway, in their order, and then each domain
// that says that it is a gateway and is not configured.
func (v Inventory) List() ([]Listed, error) {
	var all []Listed
	met := map[string]bool{} // UUIDs
	for _, k := range v.Known {
		l, err := v.listed(k)
		if err != nil {
			return nil, err
		}
		met[k.UUID] = true
		all = append(all, l)
	}
	if v.Libvirt == nil {
		return all, nil
	}
	there, err := v.Libvirt.Domains()
	if err != nil {
		return nil, err
	}
	for _, d := range there {
		if met[d.UUID] {
			continue
		}
		if l, ok := v.stray(d); ok {
			all = append(all, l)
		}
	}
	return all, nil
}

func (v Inventory) listed(k Known) (Listed, error) {
	l := Listed{Name: k.Name, UUID: k.UUID, Socket: v.SocketOf(k.Name)}
	l.Seat, l.Served = v.Seats[k.Name]
	fault := func(remedy, format string, args ...any) {
		if l.Fault == "" {
			l.Fault, l.Remedy = fmt.Sprintf(format, args...), remedy
		}
	}
	if v.Seats != nil && !l.Served {
		fault("guardring gateway reload", "the server does not serve it")
	}
	if k.UUID == "" || v.Libvirt == nil {
		return l, nil
	}
	there, ok, err := v.Libvirt.Find(k.UUID)
	if err != nil {
		return Listed{}, err
	}
	if !ok {
		fault(fmt.Sprintf("run the guardring gateway create again that was interrupted, or guardring gateway remove %s", k.Name), "libvirt has no domain with its UUID")
		return l, nil
	}
	l.Domain, l.State = there.Name, there.State
	facts, err := v.facts(there)
	var refused *domainxml.Refusal
	switch {
	case errors.As(err, &refused):
		fault(refused.Remedy, "%s", refused.Reason)
		return l, nil
	case err != nil:
		return Listed{}, err
	}
	l.Interrupts, l.MadeBy, l.Type = facts.Interrupts, madeBy(facts), facts.Type
	attach := fmt.Sprintf("guardring gateway attach %s --name %s", there.Name, k.Name)
	switch {
	case !facts.HasShmem:
		fault(attach, "its domain has no device of ours")
	case facts.ServerPath != l.Socket:
		fault(attach, "its domain's device is at the socket %s", facts.ServerPath)
	case there.State.Alive() && l.Seat == "free":
		fault("shut the domain down and start it: it takes the seat only when it starts", "its domain is %s, and nobody has the guest seat", there.State)
	}
	if l.State.Alive() || l.Fault != "" {
		return l, nil
	}
	for _, name := range facts.Networks {
		n, err := v.Libvirt.network(name)
		if err != nil {
			return Listed{}, err
		}
		if !n.active {
			fault("virsh net-start "+name+" (and virsh net-autostart)", "its domain cannot start: the network %s is not active", name)
		}
	}
	saved, err := v.Libvirt.Saved(there)
	if err != nil {
		return Listed{}, err
	}
	if saved {
		fault("virsh managedsave-remove "+there.Name, "its domain is saved, and would go on with the devices of then")
	}
	return l, nil
}

// stray is a domain that says that it is a gateway, and that no file names.
func (v Inventory) stray(d Domain) (Listed, bool) {
	facts, err := v.facts(d)
	if err != nil || facts.Gateway == "" && !facts.HasShmem {
		return Listed{}, false
	}
	l := Listed{Name: facts.Gateway, Domain: d.Name, UUID: d.UUID, State: d.State, MadeBy: madeBy(facts), Interrupts: facts.Interrupts, Socket: facts.ServerPath,
		Fault: "it is not configured, so it cannot start", Remedy: "guardring gateway attach " + d.Name + ", or take the device out with virsh edit"}
	switch {
	case facts.Created:
		l.Remedy = "guardring gateway create " + facts.Gateway + " again, or virsh undefine " + d.Name
	case facts.Gateway != "":
		l.Remedy = "guardring gateway attach " + d.Name + " again, then detach it if it should not be one"
	}
	return l, true
}

func (v Inventory) facts(d Domain) (domainxml.Facts, error) {
	text, err := v.Libvirt.Document(d)
	if err != nil {
		return domainxml.Facts{}, err
	}
	return domainxml.Inspect(text)
}

func madeBy(f domainxml.Facts) string {
	switch {
	case f.Gateway == "":
		return ""
	case f.Created:
		return "create"
	}
	return "attach"
}
