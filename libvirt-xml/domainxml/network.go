package domainxml

import (
	"net/netip"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// ExternalAddress is the host's address in the external network, and the
// network's size. Not Whonix's (10.0.2.2/24): both may be on one host.
var ExternalAddress = netip.MustParsePrefix("10.77.77.1/24")

// Network is what a libvirt network is made from.
type Network struct {
	Name    string       // libvirt's name
	Bridge  string       // the bridge's name on the host; libvirt's choice if ""
	Address netip.Prefix // the host's address and the network's size, with DHCP and NAT; none: isolated, without the host
}

// Networks returns the networks that a gateway needs and does not share with the
// host's own: the external one (none with a UserNetwork), then the internal one.
func (g Gateway) Networks() []Network {
	g = g.withDefaults()
	var all []Network
	if g.UserNetwork == "" {
		all = append(all, Network{Name: g.ExternalNetwork, Address: ExternalAddress})
	}
	return append(all, Network{Name: g.InternalNetwork})
}

// validate names every fault.
func (n Network) validate() error {
	var faults []error
	if n.Name == "" || strings.ContainsAny(n.Name, "/ ") || !oneLine(n.Name) {
		faults = append(faults, refuse("write letters, digits and -", "network name %q", n.Name))
	}
	if len(n.Bridge) > 15 || strings.ContainsAny(n.Bridge, "/ :") || !oneLine(n.Bridge) {
		faults = append(faults, refuse("write at most 15 letters, digits and -", "bridge name %q", n.Bridge))
	}
	if n.Address.IsValid() && (!n.Address.Addr().Is4() || n.Address.Bits() > 29 || n.Address.Bits() < 8) {
		faults = append(faults, refuse("write it as 10.77.77.1/24", "network address %s", n.Address))
	}
	return joined(faults)
}

// Network returns libvirt's document. An external network gives gateways
// addresses and the way out; it answers no DNS, for gateways ask Tor. An
// internal one is a bridge and nothing else.
func (n Network) Network() (*libvirtxml.Network, error) {
	if err := n.validate(); err != nil {
		return nil, err
	}
	doc := &libvirtxml.Network{
		Name:   n.Name,
		Bridge: &libvirtxml.NetworkBridge{Name: n.Bridge, STP: "on", Delay: "0"},
		DNS:    &libvirtxml.NetworkDNS{Enable: "no"},
	}
	if !n.Address.IsValid() {
		return doc, nil
	}
	doc.Forward = &libvirtxml.NetworkForward{Mode: "nat"}
	first, last := n.Address.Addr().Next(), lastOf(n.Address)
	if !first.Less(last) { // the host has one of the highest addresses
		first, last = n.Address.Masked().Addr().Next(), n.Address.Addr().Prev()
	}
	doc.IPs = []libvirtxml.NetworkIP{{
		Address: n.Address.Addr().String(), Prefix: uint(n.Address.Bits()),
		DHCP: &libvirtxml.NetworkDHCP{Ranges: []libvirtxml.NetworkDHCPRange{{Start: first.String(), End: last.String()}}},
	}}
	return doc, nil
}

// XML returns the network's document as text, with a line feed at its end.
func (n Network) XML() (string, error) {
	d, err := n.Network()
	if err != nil {
		return "", err
	}
	return document(d, "network")
}

// lastOf is the address before the broadcast address.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := range b {
		host := max(0, min(8, 8*(i+1)-p.Bits()))
		b[i] |= byte(1<<host - 1)
	}
	return netip.AddrFrom4(b).Prev()
}
