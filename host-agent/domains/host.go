package domains

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Host is what libvirt says of the machine, as far as it matters here.
type Host struct {
	KVM      bool // domains of type kvm can be made
	AppArmor bool // QEMU is confined by AppArmor
	UID, GID int  // of QEMU; -1 if libvirt does not say
}

// Host asks libvirt.
func (c *Connection) Host() (Host, error) {
	var text string
	err := c.call("ask for its capabilities", func() (err error) {
		text, err = c.rpc.ConnectGetCapabilities()
		return err
	})
	if err != nil {
		return Host{}, err
	}
	return hostOf(text)
}

func hostOf(capabilities string) (Host, error) {
	var doc struct {
		Models []struct {
			Model  string `xml:"model"`
			Labels []struct {
				Type  string `xml:"type,attr"`
				Value string `xml:",chardata"`
			} `xml:"baselabel"`
		} `xml:"host>secmodel"`
		Guests []struct {
			Arch struct {
				Name    string `xml:"name,attr"`
				Domains []struct {
					Type string `xml:"type,attr"`
				} `xml:"domain"`
			} `xml:"arch"`
		} `xml:"guest"`
	}
	if err := xml.Unmarshal([]byte(capabilities), &doc); err != nil {
		return Host{}, fmt.Errorf("libvirt's capabilities: %w", err)
	}
	h := Host{UID: -1, GID: -1}
	for _, m := range doc.Models {
		switch m.Model {
		case "apparmor":
			h.AppArmor = true
		case "dac":
			for _, l := range m.Labels {
				h.owner(l.Value)
			}
		}
	}
	for _, g := range doc.Guests {
		h.KVM = h.KVM || g.Arch.Name == "x86_64" && slices.ContainsFunc(g.Arch.Domains, func(d struct {
			Type string `xml:"type,attr"`
		}) bool {
			return d.Type == "kvm"
		})
	}
	return h, nil
}

// owner reads a label such as "+64055:+107".
func (h *Host) owner(label string) {
	u, g, ok := strings.Cut(label, ":")
	uid, err := strconv.Atoi(strings.TrimPrefix(u, "+"))
	gid, err2 := strconv.Atoi(strings.TrimPrefix(g, "+"))
	if ok && err == nil && err2 == nil {
		h.UID, h.GID = uid, gid
	}
}
