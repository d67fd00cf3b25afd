package domains

import (
	"github.com/digitalocean/go-libvirt"
)

// network is a virtual network as libvirt has it.
type network struct {
	there, active, autostart bool
	handle                   libvirt.Network
}

func (c *Connection) network(name string) (network, error) {
	var n network
	err := c.call("find the network "+name, func() error {
		h, err := c.rpc.NetworkLookupByName(name)
		if err != nil {
			return err
		}
		active, err := c.rpc.NetworkIsActive(h)
		if err != nil {
			return err
		}
		auto, err := c.rpc.NetworkGetAutostart(h)
		n = network{there: true, active: active != 0, autostart: auto != 0, handle: h}
		return err
	})
	if isNot(err) {
		return network{}, nil
	}
	return n, err
}

func (c *Connection) defineNetwork(text string) error {
	return c.call("define the network", func() error {
		_, err := c.rpc.NetworkDefineXML(text)
		return err
	})
}

func (c *Connection) startNetwork(name string) error {
	n, err := c.network(name)
	if err != nil || n.active {
		return err
	}
	return c.call("start the network "+name, func() error { return c.rpc.NetworkCreate(n.handle) })
}

func (c *Connection) autostartNetwork(name string) error {
	n, err := c.network(name)
	if err != nil {
		return err
	}
	return c.call("let the network "+name+" start with libvirt", func() error { return c.rpc.NetworkSetAutostart(n.handle, 1) })
}
