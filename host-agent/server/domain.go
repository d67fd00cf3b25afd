package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"guardring/apparmor"
)

// cutMachine: libvirt cuts a machine's name, with driver and number, at 64
// characters; shorter ones than this are whole.
const cutMachine = 64 - len("qemu-2147483647-")

// libvirtProfile begins the name of the profile that libvirt gives a domain; its UUID
// follows.
const libvirtProfile = "libvirt-"

// maxEvidence: libvirt's command lines have some thousand bytes.
const maxEvidence = 1 << 20

// evidence is what the machine says of the process at the guest seat's socket.
type evidence struct {
	profile string   // AppArmor's, set by the kernel; "" without AppArmor
	machine string   // libvirt's name of the machine, from the cgroup; "" if in none
	args    []string // the command line, which the process itself could have changed
}

// checkDomain reports why the process is not the QEMU of the libvirt domain with
// this UUID.
//
// Preconditions: ended is asked afterwards, because the number may be another
// process's by now.
func (p *process) checkDomain(ctx context.Context, uuid string, lines *commandLines) (refusal, error) {
	label, err := apparmor.LabelOf("", p.pid)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EINVAL) { // these: no AppArmor here
		return refusedDomain, fmt.Errorf("read the AppArmor label: %w", err)
	}
	e := evidence{profile: label.Profile}
	if err := e.confinedAs(uuid); err != nil {
		return refusedDomain, err
	}
	if enforced(label, libvirtProfile+strings.ToLower(uuid)) {
		// The kernel's word, which the process cannot change. Its memory need not be
		// asked, by which it could let us wait.
		return "", nil
	}
	groups, err := readAtMost(fmt.Sprintf("/proc/%d/cgroup", p.pid), maxEvidence)
	if err != nil {
		return refusedDomain, err
	}
	e.machine = machineOf(groups)
	e.args, err = lines.read(ctx, p.pid)
	switch {
	case errors.Is(err, errStuck):
		return refusedStuck, err
	case err != nil:
		return refusedDomain, err
	}
	if err := e.belongsTo(uuid); err != nil {
		return refusedDomain, err
	}
	return "", nil
}

// belongsTo goes through what there is, the strongest first. All of it must
// agree. The label needs AppArmor; the command line is always there, but without
// a label a QEMU that was taken over could claim another's UUID.
func (e evidence) belongsTo(uuid string) error {
	if err := e.confinedAs(uuid); err != nil {
		return err
	}
	said, err := argument(e.args, "-uuid")
	switch {
	case err != nil:
		return err
	case said == "":
		return fmt.Errorf("it is no QEMU of libvirt: its command line has no -uuid; want domain %s", uuid)
	case !strings.EqualFold(said, uuid):
		return fmt.Errorf("it is domain %s; want domain %s", quoted(said), uuid)
	}
	if e.machine == "" {
		return nil
	}
	name, err := argument(e.args, "-name")
	if err != nil {
		return err
	}
	name = strings.ReplaceAll(strings.TrimPrefix(name, "guest="), ",,", ";") // a comma in a name
	name, _, _ = strings.Cut(name, ",")
	if want := machineName(name); want != e.machine && (len(e.machine) < cutMachine || !strings.HasPrefix(want, e.machine)) {
		return fmt.Errorf("its command line names the domain %s, its cgroup the machine %q", quoted(name), e.machine)
	}
	return nil
}

// confinedAs reports that the process has another domain's label.
func (e evidence) confinedAs(uuid string) error {
	if of, ok := strings.CutPrefix(e.profile, libvirtProfile); ok && !strings.EqualFold(of, uuid) {
		return fmt.Errorf("its AppArmor profile is %q, which is another domain's; want domain %s", e.profile, uuid)
	}
	return nil
}

// readAtMost reads a file of /proc whose length its process decides: a process can
// declare all its memory its command line.
func readAtMost(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// quoted is what a process says of itself, fit for a log: it could be a whole command
// line of any length.
func quoted(said string) string {
	const most = 64
	if len(said) > most {
		return fmt.Sprintf("%q... (%d bytes)", said[:most], len(said))
	}
	return strconv.Quote(said)
}

// argument returns what follows the option, "" if it is not there.
func argument(args []string, option string) (value string, err error) {
	found := 0
	for i, a := range args {
		if a == option && i+1 < len(args) {
			value = args[i+1]
			found++
		}
	}
	if found > 1 {
		return "", fmt.Errorf("its command line has %d times %s", found, option)
	}
	return value, nil
}

// machineOf finds libvirt's machine name, without driver and number, in a text of
// /proc/PID/cgroup: with systemd "machine-qemu\x2d7\x2dNAME.scope", else
// "qemu-7-NAME.libvirt-qemu".
func machineOf(groups []byte) string {
	for line := range strings.Lines(string(groups)) {
		for part := range strings.SplitSeq(strings.TrimSpace(line), "/") {
			unescaped := escaped.ReplaceAllStringFunc(part, func(x string) string {
				n, _ := strconv.ParseUint(x[2:], 16, 8) // two hexadecimal digits
				return string(byte(n))
			})
			if m := machineCgroup.FindStringSubmatch(unescaped); m != nil {
				return m[1] + m[2]
			}
		}
	}
	return ""
}

var (
	escaped       = regexp.MustCompile(`\\x[0-9a-f]{2}`)
	machineCgroup = regexp.MustCompile(`^(?:machine-qemu-[0-9]+-(.*)\.scope|qemu-[0-9]+-(.*)\.libvirt-qemu)$`)
)

// machineName is what libvirt makes of a domain's name for its cgroup: letters,
// digits, single dots and dashes inside.
func machineName(domain string) string {
	var b strings.Builder
	skip := true
	for _, r := range domain {
		switch {
		case r == '.' || r == '-':
			if !skip {
				b.WriteRune(r)
			}
			skip = true
			continue
		case '0' <= r && r <= '9', 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z':
			b.WriteRune(r)
		}
		skip = false
	}
	return strings.TrimRight(b.String(), "-.")
}
