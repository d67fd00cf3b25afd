package guardring_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// role is what a package is for; it decides what the package may import.
type role string

const (
	ground   role = "ground"   // what both agents stand on; no policy
	protocol role = "protocol" // the memory protocol and the words of Tor
	core     role = "core"     // decides; pure
	form     role = "form"     // writes and edits other programs' documents; pure
	model    role = "model"    // simulates the world around a core; pure
	adapter  role = "adapter"  // one thing outside: a socket, a file, a program
	loop     role = "loop"     // owns a core and performs what it says
	display  role = "display"  // shows a status document to people
	command  role = "command"  // package main: flags -> Config -> run
	trial    role = "trial"    // end-to-end: drives built binaries
)

// roles gives each package its role. A new package needs a line here.
var roles = map[string]role{
	"internal/checkup": ground, "internal/configfile": ground, "internal/eventfd": ground, "internal/graph": ground, "internal/hint": ground, "internal/killpoint": ground, "internal/manual": ground, "internal/manual/manualtest": ground, "internal/plainfile": ground, "internal/printable": ground,
	"internal/sockpath": ground, "internal/statussock": ground, "internal/version": ground,
	"apparmor": ground, "host-agent/rundir": ground, "shmproto/ivshmem": ground,

	"internal/consensus": protocol, "internal/guardstate": protocol, "shmproto": protocol,

	"internal/coordinator": core, "internal/coordinator/election": core, "guest-agent/rotation": core,

	"libvirt-xml/domainxml": form,

	"internal/simulation": model,

	"host-agent/agentiso": adapter, "host-agent/config": adapter, "host-agent/confinement": adapter, "host-agent/consensusfile": adapter, "host-agent/doctor": adapter, "host-agent/domains": adapter, "host-agent/hook": adapter, "host-agent/journal": adapter, "host-agent/ledger": adapter, "host-agent/server": adapter, "host-agent/units": adapter,
	"guest-agent/config": adapter, "guest-agent/device": adapter, "guest-agent/discovery": adapter, "guest-agent/enforce": adapter,
	"guest-agent/fresh": adapter, "guest-agent/include": adapter, "guest-agent/pci": adapter, "guest-agent/pci/pcitest": adapter, "guest-agent/statewatch": adapter, "guest-agent/torctl": adapter,

	"host-agent/runner": loop, "guest-agent/runner": loop,
	"guest-agent/doctor": loop, // of one turn: it asks every adapter once
	"host-agent/figures": display, "host-agent/report": display, "guest-agent/report": display,
	"host-agent": command, "guest-agent": command,
}

// mayImport says which roles a role may import, and why no other.
var mayImport = map[role]struct {
	roles []role
	why   string
}{
	ground:   {[]role{ground}, "what everybody stands on knows neither guards nor policy"},
	protocol: {[]role{protocol}, "both agents and every version must mean the same by it"},
	core:     {[]role{protocol}, "a core is simulated and replayed: facts in, commands out, nothing else"},
	model:    {[]role{protocol, core}, "a model runs the real core, and nothing that touches the machine"},
	form:     {[]role{protocol}, "a document is text in, text out: it is compared with what was printed before"},
	adapter:  {[]role{ground, protocol, form}, "adapters import no core and not each other: the loop translates between them"},
	loop:     {[]role{ground, protocol, core, adapter}, "the loop is the one place where cores and adapters meet"},
	display:  {[]role{ground, protocol}, "what is shown is a document, not the thing itself"},
	command:  {[]role{ground, protocol, core, form, model, adapter, loop, display}, "main puts the parts together"},
	trial:    {[]role{trial}, "end-to-end tests drive built binaries; their oracle is Tor, not our own code"},
}

// excepted are single imports against mayImport, and why.
var excepted = map[[2]string]string{
	{"e2e/vmtest/device", "shmproto/ivshmem"}:       "a test rings as a host agent does",
	{"e2e/impostor", "internal/guardstate"}:         "a hostile guest speaks the protocol",
	{"e2e/vmtest/stopwatch", "guest-agent/device"}:  "what is measured is the agent's own way to the device",
	{"e2e/hostvm/bell", "shmproto"}:                 "it stands for both agents, without their policy",
	{"e2e/hostvm/bell", "shmproto/ivshmem"}:         "it stands for both agents, without their policy",
	{"e2e/vmtest/stopwatch", "shmproto"}:            "it stands for both agents, without their policy",
	{"e2e/vmtest/stopwatch", "shmproto/ivshmem"}:    "it stands for both agents, without their policy",
	{"e2e/mayhem", "shmproto"}:                      "a hostile guest rings as the protocol has it",
	{"e2e/mayhem", "shmproto/ivshmem"}:              "a hostile guest rings as the protocol has it",
	{"e2e/hostvm/standin", "internal/guardstate"}:   "it stands for an agent, without a Tor",
	{"e2e/hostvm/standin", "shmproto"}:              "it stands for an agent, without a Tor",
	{"e2e/hostvm/giver", "shmproto"}:                "it stands for the server, with other memory",
	{"e2e/hostvm/giver", "shmproto/ivshmem"}:        "it stands for the server, with other memory",
	{"e2e/hostvm/publish", "shmproto/ivshmem"}:      "it stands for an agent whose machine has no system",
	{"e2e/failover", "shmproto"}:                    "a gateway that is played reads orders and leases as an honest one does",
	{"e2e/impostor", "internal/eventfd"}:            "a hostile guest speaks the protocol",
	{"e2e/impostor", "shmproto"}:                    "a hostile guest speaks the protocol",
	{"e2e/impostor", "shmproto/ivshmem"}:            "a hostile guest takes its seat as an honest one does",
	{"guest-agent/config", "guest-agent/discovery"}: "what the file leaves out is filled in from where Debian puts it",
	{"guest-agent/device", "guest-agent/pci"}:       "sysfs is one thing, what a gateway's device must be is another",
	{"guest-agent/pci/pcitest", "guest-agent/pci"}:  "a made-up bus has the real one's types",
	{"guest-agent/fresh", "guest-agent/include"}:    "one place replaces files that Tor reads, and empties the include file",
	{"guest-agent/doctor", "guest-agent/runner"}:    "the running agent's document is asked before the device",
	{"guest-agent/report", "guest-agent/runner"}:    "the document's types live with the loop that fills them",
	{"internal/coordinator", "internal/graph"}:      "a checkpoint follows every field by itself, so that none is forgotten",
	{"host-agent/figures", "internal/simulation"}:   "a simulation's result is the document that is shown",
	{"host-agent/runner", "host-agent/report"}:      "the document's types live with the verdict that judges them",
}

// libraries names the only packages that may import a library, so that its
// faults are met in one place. A new library needs a line here.
var libraries = map[string]struct {
	where []string
	why   string
}{
	"github.com/ajstarks/svgo":        {[]string{"host-agent/figures"}, "a chart is drawn in one place"},
	"github.com/dustin/go-humanize":   {[]string{"host-agent", "host-agent/report", "host-agent/figures", "host-agent/doctor"}, "how many of something is said in one way, at the edge"},
	"github.com/cavaliergopher/cpio":  {[]string{"e2e/vmtest"}, "the initramfs of test guests"},
	"github.com/cretz/bine":           {[]string{"guest-agent/torctl"}, "bine has no deadlines and parses circuits wrongly; torctl mends that"},
	"github.com/fsnotify/fsnotify":    {[]string{"guest-agent/statewatch"}, "one place knows how Tor replaces its state file"},
	"github.com/google/renameio/v2":   {[]string{"guest-agent/device", "guest-agent/include", "host-agent", "host-agent/confinement", "host-agent/domains", "host-agent/hook"}, "one place writes files that Tor reads; a chart, a gateway's file, a profile, libvirt's hook, and what leave must give back, are there whole or not at all"},
	"github.com/google/nftables":      {[]string{"guest-agent/enforce"}, "one table of our own, and one place that can touch it"},
	"github.com/urfave/cli/v2":        {[]string{"host-agent", "guest-agent", "internal/manual", "internal/manual/manualtest"}, "flags become a Config in main and go no further, but into the manual"},
	"go.yaml.in/yaml/v3":              {[]string{"internal/configfile"}, "every fault at once, with its line, in one way"},
	"github.com/jedib0t/go-pretty/v6": {[]string{"host-agent/report", "e2e/demo"}, "terminal output belongs to the edge"},
	"libvirt.org/go/libvirtxml":       {[]string{"libvirt-xml/domainxml"}, "one place knows libvirt's documents"},
	"golang.org/x/term":               {[]string{"host-agent", "e2e/demo"}, "terminal output belongs to the edge"},
	"golang.org/x/time/rate":          {[]string{"host-agent/server", "host-agent/runner"}, "pacing is for loops; a core counts ticks"},
	"github.com/anishathalye/porcupine": {[]string{"e2e/failover"},
		"one place says what a right history is"},
	"github.com/digitalocean/go-libvirt": {[]string{"host-agent/domains"},
		"its calls have no limit in time; domains gives them one"},
	"github.com/diskfs/go-diskfs": {[]string{"host-agent/agentiso"},
		"one place makes the image for guests"},
	"github.com/rogpeppe/go-internal/diff": {[]string{"libvirt-xml/domainxml"},
		"what an administrator is shown of a document looks the same everywhere"},
	"github.com/coreos/go-systemd/v22": {[]string{"host-agent/server", "guest-agent"},
		"the descriptor store is the server's; the agent only says that it is ready"},
	"golang.org/x/sys/unix": {[]string{"guest-agent/device", "guest-agent/doctor", "guest-agent/enforce", "host-agent/ledger", "host-agent/server", "internal/eventfd", "internal/plainfile", "shmproto/ivshmem", "e2e/mayhem", "e2e/hostvm/trespass"},
		"system calls belong to adapters and to the hostile side (internal/killpoint also, in a build for tests)"},
}

// side is the agent that a package belongs to, "" for what both share.
func side(rel string) string {
	for _, s := range []string{"host-agent", "guest-agent"} {
		if within(rel, s) {
			return s
		}
	}
	return ""
}

// roleOf is a package's role: whatever is in e2e tries the others.
func roleOf(rel string) role {
	if within(rel, "e2e") {
		return trial
	}
	return roles[rel]
}

func within(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

// importFaults names every import that breaks a rule, and every rule that
// nothing needs any more.
func importFaults(all []pkg) []string {
	var faults []string
	say := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	needed := map[string]bool{}
	for _, p := range all {
		from := p.rel()
		if from == "" {
			continue // only tests
		}
		needed[from] = true
		rule, ok := mayImport[roleOf(from)]
		if !ok {
			say("%s has no role: say in roles what it is for", from)
			continue
		}
		imports := p.Imports
		if roleOf(from) == trial {
			imports = slices.Concat(p.Imports, p.TestImports, p.XTestImports)
		}
		for _, imp := range imports {
			to, own := strings.CutPrefix(imp, module+"/")
			_, except := excepted[[2]string{from, to}]
			switch {
			case !own:
				if strings.Contains(strings.Split(imp, "/")[0], ".") {
					faults = append(faults, libraryFault(from, imp, needed)...)
				}
			case side(from) != "" && side(to) != "" && side(from) != side(to):
				say("%s imports %s: the agents run on different machines; what both need is in shmproto or internal", from, to)
			case except:
				needed[from+" "+to] = true
			case !slices.Contains(rule.roles, roleOf(to)):
				say("%s (%s) imports %s (%s): %s", from, roleOf(from), to, roleOf(to), rule.why)
			}
		}
	}
	for _, rel := range slices.Sorted(maps.Keys(roles)) {
		if !needed[rel] {
			say("roles names %s, which is no package", rel)
		}
	}
	for e := range excepted {
		if !needed[e[0]+" "+e[1]] {
			say("excepted has %s -> %s, which nobody needs", e[0], e[1])
		}
	}
	for lib, rule := range libraries {
		for _, where := range rule.where {
			if !needed[where+" "+lib] {
				say("libraries lets %s import %s, which it does not", where, lib)
			}
		}
	}
	slices.Sort(faults)
	return faults
}

func libraryFault(from, imp string, needed map[string]bool) []string {
	for lib, rule := range libraries {
		if !within(imp, lib) {
			continue
		}
		if !slices.Contains(rule.where, from) {
			return []string{fmt.Sprintf("%s imports %s, which only %v may: %s", from, imp, rule.where, rule.why)}
		}
		needed[from+" "+lib] = true
		return nil
	}
	return []string{fmt.Sprintf("%s imports %s: say in libraries who may, and why", from, imp)}
}

func TestImports(t *testing.T) {
	for _, fault := range importFaults(packages(t)) {
		t.Error(fault)
	}
}

// TestTheImportRulesCatch adds one bad import after another to the real tree.
func TestTheImportRulesCatch(t *testing.T) {
	all := packages(t)
	for _, bad := range []struct{ from, imp, want string }{
		{"host-agent/runner", "guardring/guest-agent/torctl", "different machines"},
		{"guest-agent/torctl", "guardring/guest-agent/rotation", "adapters import no core"},
		{"host-agent/server", "guardring/host-agent/ledger", "not each other"},
		{"host-agent/server", "guardring/internal/coordinator", "adapters import no core"},
		{"internal/coordinator", "guardring/internal/statussock", "a core is simulated"},
		{"internal/guardstate", "guardring/internal/coordinator", "must mean the same"},
		{"shmproto", "guardring/internal/eventfd", "must mean the same"},
		{"e2e/oracle", "guardring/internal/guardstate", "oracle is Tor"},
		{"guest-agent/runner", "github.com/cretz/bine/control", "only [guest-agent/torctl] may"},
		{"guest-agent/runner", "example.org/new", "say in libraries"},
		{"guest-agent/brandnew", "fmt", "has no role"},
	} {
		tree := slices.Clone(all)
		at := slices.IndexFunc(tree, func(p pkg) bool { return p.rel() == bad.from })
		if at < 0 {
			tree, at = append(tree, pkg{ImportPath: module + "/" + bad.from}), len(tree)
		}
		tree[at].Imports = append(slices.Clone(tree[at].Imports), bad.imp)
		if got := strings.Join(importFaults(tree), "\n"); !strings.Contains(got, bad.want) {
			t.Errorf("%s imports %s: no fault with %q in %q", bad.from, bad.imp, bad.want, got)
		}
	}
	without := slices.DeleteFunc(slices.Clone(all), func(p pkg) bool { return p.rel() == "guest-agent/torctl" })
	if got := strings.Join(importFaults(without), "\n"); !strings.Contains(got, "roles names guest-agent/torctl") || !strings.Contains(got, "github.com/cretz/bine, which it does not") {
		t.Errorf("stale rules are not seen: %q", got)
	}
}
