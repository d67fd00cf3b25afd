package main

import (
	"github.com/urfave/cli/v2"

	"guardring/host-agent/config"
	"guardring/host-agent/rundir"
	"guardring/internal/manual"
	"guardring/internal/version"
)

// manualOf is what the manual pages say that the commands' definitions do not.
func manualOf(app *cli.App) manual.Program {
	d := config.Default()
	return manual.Program{
		App: app, Version: version.Short(),
		Description: []string{
			"Several Tor gateways on one host, one for each activity, pick their entry guards by themselves, and two of them may pick the same relay. That relay then sees two activities of one person. " +
				"guardring keeps the gateways' guards apart, with as few changes of guards as possible.",
			"The server (guardring serve) gives each gateway a region of shared memory. An agent in each gateway, guardring-guest(1), shows there which guards its Tors use. The coordinator (guardring coordinate) compares them and tells " +
				"the later holder of a common guard to give it up. The Debian package runs both as services: guardring-server, guardring-coordinator and, for the one that stands by, guardring-standby.",
			"With systemd's descriptor store a restart of the server goes unnoticed. Stopping and starting it does not: each gateway must then be shut down and started.",
			"Where the services run as the user guardring, commands that open the ledger must, too: runuser -u guardring -- guardring ledger show. Root is refused, for its files could not be opened by the services.",
			"Options may stand before and after arguments.",
		},
		Files: []manual.Item{
			{Name: config.DefaultPath, Text: "the configuration: see guardring.yaml(5)"},
			{Name: "/etc/guardring/gateways.d/NAME.yaml", Text: "one gateway each, as guardring gateway writes them"},
			{Name: d.RunDir, Text: "the sockets of server and coordinators"},
			{Name: rundir.Dir(d.RunDir).GuestSocket("NAME"), Text: "the socket of one gateway's QEMU"},
			{Name: d.LedgerDir, Text: "the ledger: the coordinator's durable record of claims and orders, a list of one person's guards per activity"},
			{Name: d.DomainsDir, Text: "documents of domains as they were before guardring gateway attach"},
			{Name: "/etc/apparmor.d/local/guardring-server, guardring-coordinator, guardring", Text: "what you allow beside what our AppArmor profiles do"},
		},
		Exit: []manual.Item{
			{Name: "0", Text: "all is well"},
			{Name: "1", Text: "it failed; standard error says why and what to do. With status --check, doctor and apparmor check: a warning"},
			{Name: "2", Text: "with status --check, doctor and apparmor check: a fault"},
			{Name: "3", Text: "with status --check: unknown"},
		},
		SeeAlso: []string{"guardring-guest(1)", "virsh(1)", "tor(1)"},
		Config: manual.Config{
			Name: "guardring.yaml", Path: config.DefaultPath, Usage: "configuration of the host's server and coordinator", Example: config.Example,
		},
	}
}
