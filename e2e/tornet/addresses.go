package tornet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
)

// addresses gives node i a /16 of its own, but where SameSubnet says otherwise. Tor hands out 127.192.0.0/10 as virtual addresses, so i
// stays below 180.
func (n *Network) addresses(nodes int) []string {
	first := 127
	if n.cfg.Routable {
		first = 10
	}
	out := make([]string, nodes)
	for i := range out {
		out[i] = fmt.Sprintf("%d.%d.0.1", first, 10+i)
	}
	for _, group := range n.cfg.SameSubnet {
		for k, g := range group {
			out[authorities+g] = fmt.Sprintf("%d.%d.%d.1", first, 10+authorities+group[0], k)
		}
	}
	return out
}

// addAddresses gives the loopback interface the addresses; one that it has is no error.
func addAddresses(ctx context.Context, addresses []string) error {
	for _, a := range addresses {
		if out, err := exec.CommandContext(ctx, "ip", "address", "replace", a+"/32", "dev", "lo").CombinedOutput(); err != nil {
			return fmt.Errorf("add %s to the loopback interface: %w: %s", a, err, out)
		}
	}
	return nil
}

// freePort finds a port p below the ephemeral range where p and p+1 are free on every node's address, and the following
// ones on ::1 where that exists, so that several networks can run on one machine.
func freePort(addresses []string) (int, error) {
	for range 200 {
		p := 20000 + 64*rand.IntN(190)
		if portFree(p, addresses) {
			return p, nil
		}
	}
	return 0, errors.New("tornet: no free port on 127.0.0.0/8 between 20000 and 32160")
}

func portFree(p int, addresses []string) bool {
	for _, address := range addresses {
		for _, q := range []int{p, p + 1} {
			l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(q)))
			if err != nil {
				return false
			}
			l.Close()
		}
	}
	return true
}
