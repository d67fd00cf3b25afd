package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"guardring/host-agent/agentiso"
)

// agentImage writes the image for guests without libvirt's help.
func agentImage(c *cli.Context) error {
	args, err := arguments(c, "FILE")
	if err != nil {
		return err
	}
	cfg, err := load(c)
	if err != nil {
		return err
	}
	path, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	if err := writeISO(path, cfg.GuestAgent); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s: in the guest, as root: mount -o ro /dev/disk/by-label/%s /mnt; sh /mnt/install\n", path, agentiso.Label)
	return err
}

// writeISO makes the image with the guest's agent.
func writeISO(path, configured string) error {
	us, err := os.Executable()
	if err != nil {
		return err
	}
	agent, err := agentiso.FindAgent(configured, us)
	if err != nil {
		return err
	}
	return agentiso.Write(path, agent)
}
