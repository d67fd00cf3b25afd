package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"guardring/apparmor"
	"guardring/host-agent/config"
	"guardring/host-agent/confinement"
	"guardring/internal/checkup"
)

func apparmorCommand() *cli.Command {
	root := &cli.StringFlag{Name: "root", Usage: "work in the tree `DIR` (an image that is being made), instead of this system"}
	dry := &cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and change nothing"}
	asJSON := &cli.BoolFlag{Name: "json", Usage: "one JSON document"}
	keep := &cli.BoolFlag{Name: "keep", Usage: "for the package: leave every file as it is or is not, write what the configuration says, and load"}
	force := &cli.BoolFlag{Name: "force", Usage: "also files of guardring that are not as this build has them"}
	return &cli.Command{Name: "apparmor", Usage: "confine guardring's own processes, and tell what really is confined", Subcommands: []*cli.Command{
		{Name: "show", Usage: "print the profiles, with the reason for each rule, and how each stands", Action: alone(apparmorShow), Flags: append(settings("run-dir", "ledger-dir"), root, asJSON)},
		{Name: "install", Usage: "put the profiles into /etc/apparmor.d, and load them: all or none", Action: alone(apparmorInstall), Flags: append(settings("run-dir", "ledger-dir"), root, dry, force, keep, asJSON)},
		{Name: "check", Usage: "tell which of guardring's processes and of the gateways' QEMUs are confined, and by which profile; exit code 0 well, 1 warnings, 2 faults", Action: alone(apparmorCheck), Flags: append(settings("run-dir", "ledger-dir"), asJSON)},
		{Name: "remove", Usage: "unload them and take them out again", Action: alone(apparmorRemove), Flags: []cli.Flag{root, dry, force, asJSON}},
	}}
}

// system is the tree that the command is about.
func system(c *cli.Context) (confinement.System, error) {
	if c.String("root") == "" {
		return confinement.System{}, nil
	}
	root, err := filepath.Abs(c.String("root"))
	return confinement.System{Root: root}, err
}

// tunables are what the profiles must know of the configuration that was loaded from
// file, "" for the usual one.
func tunables(file string, cfg config.Config) (string, error) {
	if file == "" {
		file = config.DefaultPath
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	all := []apparmor.Setting{
		{Variable: "guardring_run", Key: "run-dir", Path: cfg.RunDir},
		{Variable: "guardring_ledger", Key: "ledger-dir", Path: cfg.LedgerDir},
		{Variable: "guardring_domains", Key: "domains-dir", Path: cfg.DomainsDir},
		{Variable: "guardring_etc", Key: "--config", Path: filepath.Dir(file)},
		{Variable: "guardring_etc", Key: "gateways-dir", Path: outside(filepath.Dir(file), cfg.GatewaysDir)},
		{Variable: "guardring_consensus", Key: "consensus", Path: cfg.Consensus},
		{Variable: "guardring_iso", Key: "agent-iso", Path: cfg.AgentISO},
		{Variable: "guardring_agent", Key: "guest-agent", Path: cfg.GuestAgent},
		{Variable: "guardring_libvirt", Key: "libvirt-socket", Path: cfg.LibvirtSocket},
		{Variable: "guardring_watch", Key: "libvirt-watch", Path: cfg.LibvirtWatch},
	}
	for _, s := range all[:len(all):len(all)] {
		if where := resolved(s.Path); where != s.Path {
			s.Path = where
			s.Key += ", where it really lies"
			all = append(all, s)
		}
	}
	return apparmor.Tunables(all)
}

// resolved is an absolute path without links: the kernel compares rules with that. What
// is not there yet is taken as it stands.
func resolved(path string) string {
	if path == "" {
		return ""
	}
	path = filepath.Clean(path)
	rest := ""
	for dir := path; dir != "/"; dir = filepath.Dir(dir) {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		}
		rest = filepath.Join(filepath.Base(dir), rest)
	}
	return path
}

// outside is path, or "" if it is "" or lies in dir. A file that is named relative to
// the working directory has a relative path beside it.
func outside(dir, path string) string {
	if path != "" && !filepath.IsAbs(path) {
		path, _ = filepath.Abs(path) // dir, which is absolute, was found in the same way
	}
	if strings.HasPrefix(path, dir+"/") {
		return ""
	}
	return path
}

// prepared reads what every subcommand needs.
func prepared(c *cli.Context) (cfg config.Config, s confinement.System, configured string, err error) {
	if cfg, err = load(c); err == nil {
		s, err = system(c)
	}
	if err == nil {
		configured, err = tunables(c.String("config"), cfg)
	}
	return cfg, s, configured, err
}

// shownFile is a file of ours in the document of show.
type shownFile struct {
	Path    string          `json:"path"`
	Profile string          `json:"profile,omitempty"`
	State   string          `json:"state"`
	Rules   []apparmor.Rule `json:"rules"`
	Text    string          `json:"text"`
}

// qemuText is what a QEMU needs: with libvirt nothing that it does not have.
const qemuText = `QEMUs that libvirt starts need nothing more: for a <shmem> with a server, virt-aa-helper puts the
socket into the domain's own profile, and the memory is anonymous. A QEMU that something else starts
under a profile of yours needs there:
  RUN/gateways/NAME.sock rw,
  unix (send, receive, connect) type=stream peer=(label=guardring-server),`

func apparmorShow(c *cli.Context) error {
	cfg, s, configured, err := prepared(c)
	if err != nil {
		return err
	}
	qemu := strings.ReplaceAll(qemuText, "RUN", cfg.RunDir)
	files := apparmor.HostFiles()
	if configured != "" {
		files = append([]apparmor.File{{Name: apparmor.Configured, Text: configured}}, files...)
	}
	var shown []shownFile
	for _, f := range files {
		shown = append(shown, shownFile{Path: filepath.Join(apparmor.Dir, f.Name), Profile: f.Profile, State: s.State(f), Rules: apparmor.Rules(f.Text), Text: f.Text})
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, struct {
			Files []shownFile `json:"files"`
			QEMU  string      `json:"qemu"`
		}{shown, qemu})
	}
	for _, f := range shown {
		fmt.Fprintf(c.App.Writer, "### %s: %s\n%s\n", f.Path, f.State, f.Text)
	}
	_, err = fmt.Fprintf(c.App.Writer, "### QEMU\n# %s\n", strings.ReplaceAll(qemu, "\n", "\n# "))
	return err
}

func apparmorInstall(c *cli.Context) error {
	_, s, configured, err := prepared(c)
	if err != nil {
		return err
	}
	r, err := s.Install(c.Context, confinement.Options{Configured: configured, DryRun: c.Bool("dry-run"), Force: c.Bool("force"), Keep: c.Bool("keep")})
	if err != nil {
		return err
	}
	return printReport(c, r, "processes that run already are confined when they are started anew: guardring apparmor check")
}

// apparmorRemove needs no configuration: whatever is there of ours goes.
func apparmorRemove(c *cli.Context) error {
	s, err := system(c)
	if err != nil {
		return err
	}
	r, err := s.Remove(c.Context, confinement.Options{DryRun: c.Bool("dry-run"), Force: c.Bool("force")})
	if err != nil {
		return err
	}
	return printReport(c, r, "")
}

// printReport writes what was done, and next if anything was.
func printReport(c *cli.Context, r confinement.Report, next string) error {
	if c.Bool("json") {
		return writeJSON(c.App.Writer, r)
	}
	if r.DryRun {
		fmt.Fprintln(c.App.Writer, "a dry run, nothing is changed:")
	}
	changed := false
	for _, step := range r.Steps {
		switch {
		case step.Action == "keep":
			fmt.Fprintf(c.App.Writer, "keep %s, which is not as this build of guardring has it\n", step.Target)
			continue
		case step.Action == "reload":
			fmt.Fprintf(c.App.Writer, "reload %s\n", step.Target)
			continue
		case step.Done:
			fmt.Fprintf(c.App.Writer, "%s %s: done already\n", step.Action, step.Target)
			continue
		case r.DryRun && step.Text != "":
			fmt.Fprintf(c.App.Writer, "%s %s:\n    %s\n", step.Action, step.Target, strings.ReplaceAll(strings.TrimRight(step.Text, "\n"), "\n", "\n    "))
		default:
			fmt.Fprintf(c.App.Writer, "%s %s\n", step.Action, step.Target)
		}
		changed = true
	}
	if len(r.Steps) == 0 {
		fmt.Fprintln(c.App.Writer, "nothing of guardring is there")
	}
	for _, n := range r.Notes {
		fmt.Fprintf(c.App.Writer, "note: %s\n", n)
	}
	if changed && !r.DryRun && next != "" {
		fmt.Fprintf(c.App.Writer, "next: %s\n", next)
	}
	return nil
}

// checkDocument is the doctor's form, and which profile confines which process.
type checkDocument struct {
	checkup.Document
	Processes []confinement.Process `json:"processes"`
}

func apparmorCheck(c *cli.Context) error {
	cfg, s, configured, err := prepared(c)
	if err != nil {
		return err
	}
	lines, processes := s.Check(configured, subjects(cfg))
	if c.Bool("json") {
		err = writeJSON(c.App.Writer, checkDocument{checkup.Document{Worst: lines.Worst(), Lines: lines}, processes})
	} else {
		err = checkup.Print(c.App.Writer, lines)
	}
	if err == nil {
		err = checkup.Conclude(lines)
	}
	return err
}

// subjects are the processes that should be confined: ours, and whoever has a
// gateway's seat.
func subjects(cfg config.Config) []confinement.Subject {
	const started = "start it as its service, or with guardring run after guardring apparmor install"
	all := []confinement.Subject{
		{Name: "this command", PID: os.Getpid(), Want: apparmor.CLI, Remedy: "guardring apparmor install; it confines /usr/bin/guardring and /usr/local/bin/guardring, no other copy"},
	}
	st, err := serverStatus(cfg)
	server := confinement.Subject{Name: "server", PID: st.PID, Remedy: started, Want: apparmor.Server}
	if err != nil {
		server.Missing = fmt.Sprintf("no process is seen: %s", err)
	}
	all = append(all, server)
	coordinators := answers(cfg)
	for _, d := range coordinators.Coordinators {
		all = append(all, confinement.Subject{Name: fmt.Sprintf("coordinator %d", d.Self.Number), PID: d.Self.PID, Want: apparmor.Coordinator, Remedy: started})
	}
	if len(coordinators.Coordinators) == 0 {
		all = append(all, confinement.Subject{Name: "coordinator", Want: apparmor.Coordinator, Remedy: started, Missing: fmt.Sprintf("no process is seen: %v", coordinators.CoordinatorErr)})
	}
	for _, g := range cfg.Gateways {
		one := confinement.Subject{Name: "gateway " + g.Name, Want: g.AppArmorProfile,
			Missing: "nobody has its seat", Remedy: "start what has its seat under an AppArmor profile, and name that one: apparmor-profile"}
		if g.Domain != "" {
			one.Remedy = "set security_driver = \"apparmor\" in /etc/libvirt/qemu.conf, look for a <seclabel> in the domain, then shut it down and start it"
			one.Missing = "nobody has its seat, and no process the domain's profile: it is off, or its QEMU is not confined and has no device of ours"
			if one.Want == "" {
				one.Want = "libvirt-" + strings.ToLower(string(g.Domain))
			}
		}
		if served, ok := st.Gateway(g.Name); ok {
			one.PID = served.Guest().PID
		}
		all = append(all, one)
	}
	return all
}
