package main

import (
	"github.com/urfave/cli/v2"

	"guardring/guest-agent/config"
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
				"guardring keeps the gateways' guards apart; this is the part that runs in each gateway.",
			"The agent (guardring-guest run) shows the host which guards this gateway's Tors use, through a memory device of the virtual machine, and tells Tor to give up those that the host names. " +
				"It needs no network. What the other gateways use it never learns.",
			"guardring-guest join prepares Tor's configuration, with a backup; guardring-guest leave restores it exactly. A clone of a gateway begins with the same guards: guardring-guest fresh gives it new ones, once.",
		},
		Files: []manual.Item{
			{Name: config.DefaultPath, Text: "the configuration: see guardring-guest.yaml(5)"},
			{Name: "/etc/tor/guardring", Text: "what the Tors are told, in files that they include; made by guardring-guest join"},
			{Name: d.RunDir, Text: "the status socket and locks"},
			{Name: "/var/lib/guardring-guest", Text: "how the memory device was before guardring-guest prepare"},
		},
		Exit: []manual.Item{
			{Name: "0", Text: "all is well"},
			{Name: "1", Text: "it failed; standard error says why and what to do. With doctor: a warning"},
			{Name: "2", Text: "with doctor: a check has failed"},
			{Name: "4", Text: "with run: all Tors have left (guardring-guest leave), so that its service does not start it again"},
		},
		SeeAlso: []string{"guardring(1)", "tor(1)"},
		Config: manual.Config{
			Name: "guardring-guest.yaml", Path: config.DefaultPath, Usage: "configuration of a gateway's guardring agent", Example: config.Example,
		},
	}
}
