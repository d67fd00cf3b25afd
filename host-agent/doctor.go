package main

import (
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"guardring/host-agent/config"
	"guardring/host-agent/doctor"
	"guardring/host-agent/domains"
	"guardring/host-agent/hook"
	"guardring/host-agent/report"
	"guardring/host-agent/rundir"
	"guardring/internal/checkup"
)

func doctorCommand() *cli.Command {
	return &cli.Command{Name: "doctor", Usage: "check this host and name what must be mended; exit code 0 well, 1 warnings, 2 faults", Action: alone(examine), Flags: append(settings("run-dir", "ledger-dir"),
		&cli.BoolFlag{Name: "json", Usage: "one JSON document"},
		&cli.StringFlag{Name: "hooks-dir", Usage: "libvirt's `DIR` of hooks", Value: hook.Dir},
	)}
}

// examine asks everybody, and leaves the judgement to package doctor.
func examine(c *cli.Context) error {
	cfg, err := load(c)
	f := doctor.Findings{Config: c.String("config"), ConfigErr: err, RunDir: cfg.RunDir, LedgerDir: cfg.LedgerDir}
	if f.Config == "" {
		f.Config = config.DefaultPath
	}
	if err == nil {
		exe, _ := os.Executable() // "" is nobody's: a hook then runs another program
		f.Hook, f.HookFault = hook.State(c.String("hooks-dir"), exe)
		askServer(&f, cfg)
		askCoordinators(&f, cfg)
		if err := askLibvirt(c, &f, cfg); err != nil {
			f.Libvirt, f.LibvirtErr = nil, err
		}
	}
	lines := doctor.Check(f)
	if c.Bool("json") {
		err = writeJSON(c.App.Writer, checkup.Document{Worst: lines.Worst(), Lines: lines})
	} else {
		err = checkup.Print(c.App.Writer, lines)
	}
	if err == nil {
		err = checkup.Conclude(lines)
	}
	return err
}

func askServer(f *doctor.Findings, cfg config.Config) {
	st, err := serverStatus(cfg)
	if err != nil {
		f.ServerErr = err
	} else {
		f.Server = &doctor.Server{PID: st.PID, Store: st.Store}
	}
	for _, g := range cfg.Gateways {
		one := doctor.Gateway{Name: g.Name, Socket: rundir.Dir(cfg.RunDir).GuestSocket(g.Name), UID: int(g.Owner), GID: int(g.Group), Mode: uint32(g.Mode), HasUUID: g.Domain != ""}
		if served, ok := st.Gateway(g.Name); ok {
			guest := served.Guest()
			one.Served, one.Seat, one.PID = true, guest.State, guest.PID
		}
		f.Gateways = append(f.Gateways, one)
	}
}

func askCoordinators(f *doctor.Findings, cfg config.Config) {
	all := answers(cfg)
	f.CoordinatorErr = all.CoordinatorErr
	for _, d := range all.Coordinators {
		f.Coordinators = append(f.Coordinators, doctor.Coordinator{PID: d.Self.PID, Acting: d.Self.Role == report.RoleActing, LedgerFault: d.Self.LedgerError})
		for i := range f.Gateways {
			g := &f.Gateways[i]
			for _, x := range d.Gateways {
				if x.Name != g.Name {
					continue
				}
				if g.Fault == "" {
					g.Fault = x.Fault
				}
				if !x.Quarantine.IsZero() {
					g.Quarantined = x.Reason
				}
			}
			if d.Self.Role != report.RoleActing {
				continue // a standby knows no members
			}
			for _, m := range d.Members {
				gateway, _, _ := strings.Cut(m.Member, "/")
				switch {
				case gateway != g.Name:
				case m.State == "away", m.State == "left":
					g.Away++
				default:
					g.Members++
				}
			}
		}
	}
}

// askLibvirt is for gateways with a domain; without one, libvirt need not be there.
func askLibvirt(c *cli.Context, f *doctor.Findings, cfg config.Config) error {
	if !slices.ContainsFunc(cfg.Gateways, func(g config.Gateway) bool { return g.Domain != "" }) {
		return nil
	}
	conn, err := domains.Connect(c.Context, domains.Address{Socket: cfg.LibvirtSocket, URI: cfg.LibvirtURI})
	if err != nil {
		return err
	}
	defer conn.Close()
	h, err := conn.Host()
	if err != nil {
		return err
	}
	seats := map[string]string{}
	for _, g := range f.Gateways {
		seats[g.Name] = g.Seat // so that the list finds no fault with the server: the doctor does
	}
	list, err := domains.Inventory{Libvirt: conn, Known: known(cfg), SocketOf: rundir.Dir(cfg.RunDir).GuestSocket, Seats: seats}.List()
	if err != nil {
		return err
	}
	f.Libvirt = &doctor.Libvirt{KVM: h.KVM, AppArmor: h.AppArmor, UID: h.UID, GID: h.GID}
	for _, l := range list {
		d := doctor.Domain{Name: l.Domain, UUID: l.UUID, State: string(l.State), KVM: l.Type == "kvm", Interrupts: l.Interrupts, Fault: l.Fault, Remedy: l.Remedy}
		if i := slices.IndexFunc(f.Gateways, func(g doctor.Gateway) bool { return g.Name == l.Name }); i >= 0 && f.Gateways[i].HasUUID {
			f.Gateways[i].Domain = d
		} else if i < 0 {
			f.Strays = append(f.Strays, d)
		}
	}
	return nil
}
