package doctor

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"guardring/guest-agent/device"
	"guardring/guest-agent/include"
	"guardring/guest-agent/pci"
	"guardring/guest-agent/pci/pcitest"
	"guardring/guest-agent/runner"
	"guardring/guest-agent/torctl"
	"guardring/internal/checkup"
	"guardring/shmproto"
)

// patient is a made-up gateway in which everything is well: a polling device with a
// host that beats, and one Tor.
type patient struct {
	t       *testing.T
	bus     *pcitest.Tree
	cfg     Config
	region  []byte            // the device's memory, before anything is opened
	answers map[string]string // of Tor, by request
	dir     string
}

const address = "0000:00:10.0"

func card() pci.Device {
	return pci.Device{Address: address, Vendor: 0x1af4, ID: 0x1110, Revision: 1, Size: [pci.BARs]uint64{0: 256, 1: 4096, 2: shmproto.RegionSize}, Enabled: true}
}

func newPatient(t *testing.T, cards ...pci.Device) *patient {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "doctor")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &patient{t: t, bus: pcitest.New(t), dir: dir, region: make([]byte, shmproto.RegionSize), answers: map[string]string{
		"GETINFO version": "0.4.9.11 (git-1)", "GETINFO dormant": "0", "GETINFO uptime": "5", "GETCONF UseEntryGuards": "1",
		"GETINFO consensus/valid-until": time.Now().UTC().Add(time.Hour).Format(time.DateTime),
	}}
	if err := shmproto.Format(p.region, shmproto.Header{Gateway: "browsing", RegionEpoch: [16]byte{1}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range cards {
		p.bus.Add(c)
	}
	p.fill(shmproto.GuestSeat)
	p.put("torrc", "%include "+p.path("guardring/default.conf")+"\nSocksPort 9050\n")
	p.put("guardring/default.conf", "# nothing\n")
	p.put("state", "")
	p.age("torrc")
	p.listen()
	p.cfg = Config{
		Device: device.Options{Kind: device.Auto, Bus: p.bus.Bus(), GID: -1, Socket: p.path("region.sock")},
		Status: func() ([]byte, error) { return nil, os.ErrNotExist },
		Look:   50 * time.Millisecond, Now: time.Now,
		Tors: []Tor{{Name: "web", Control: torctl.Config{Address: p.path("control")}, State: p.path("state"), Restart: " (systemctl restart tor)",
			Site: include.Site{Torrc: p.path("torrc"), Include: p.path("guardring/default.conf"), UID: -1, GID: -1}}},
	}
	return p
}

func (p *patient) path(name string) string { return filepath.Join(p.dir, name) }

func (p *patient) put(name, text string) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(p.path(name)), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(p.path(name), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// age makes a file an hour old.
func (p *patient) age(name string) {
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(p.path(name), then, then); err != nil {
		p.t.Fatal(err)
	}
}

// fill writes what the device's memory and its register IVPosition hold.
func (p *patient) fill(seat uint32) {
	registers := make([]byte, 256)
	binary.LittleEndian.PutUint32(registers[8:], seat)
	for bar, content := range map[int][]byte{0: registers, 2: p.region} {
		path := p.bus.Bus().ResourceFile(address, bar)
		if _, err := os.Stat(path); err != nil {
			return // no device
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
}

// listen is a control port that answers from p.answers, and to nothing else.
func (p *patient) listen() {
	l, err := net.Listen("unix", p.path("control"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { l.Close() })
	answers := p.answers
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewScanner(c); in.Scan(); {
					request := strings.TrimSpace(in.Text())
					word, key, _ := strings.Cut(request, " ")
					value, known := answers[request]
					switch {
					case word == "PROTOCOLINFO":
						fmt.Fprint(c, "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250-VERSION Tor=\"0.4.9.11\"\r\n250 OK\r\n")
					case word == "GETCONF" && known:
						fmt.Fprintf(c, "250 %s=%s\r\n", key, value)
					case word == "GETCONF":
						fmt.Fprintf(c, "250 %s\r\n", key)
					case word == "GETINFO" && known:
						fmt.Fprintf(c, "250-%s=%s\r\n250 OK\r\n", key, value)
					case word == "GETINFO":
						fmt.Fprint(c, "552 Unrecognized key\r\n")
					default:
						fmt.Fprint(c, "250 OK\r\n")
					}
				}
			}()
		}
	}()
}

// beat makes the host's lease change until the test ends, in the memory that the
// device maps.
func (p *patient) beat() {
	p.t.Helper()
	dev, _, err := device.Open(p.cfg.Device)
	if err != nil {
		p.t.Fatal(err)
	}
	region, err := shmproto.Open(dev.Memory())
	if err != nil {
		p.t.Fatal(err)
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		h := region.Host(0)
		for n := uint64(1); ; n++ {
			h.SetLease(shmproto.Lease{Epoch: shmproto.Epoch{Number: 1}, Term: 3, Heartbeat: n, Acting: true})
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	p.t.Cleanup(func() {
		close(stop)
		<-ended
		dev.Close()
	})
}

// says has a running agent answer with a document.
func (p *patient) says(d runner.Document) {
	d.PID = 7
	b, err := json.Marshal(d)
	if err != nil {
		p.t.Fatal(err)
	}
	p.cfg.Status = func() ([]byte, error) { return b, nil }
}

// line finds the one line of that name.
func line(t *testing.T, lines checkup.Lines, name string) checkup.Line {
	t.Helper()
	for _, l := range lines {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("no line %q in %+v", name, lines)
	return checkup.Line{}
}

// expect examines and checks one line.
func (p *patient) expect(name string, state checkup.State, text, remedy string) {
	p.t.Helper()
	l := line(p.t, Examine(p.t.Context(), p.cfg), name)
	if l.State != state || !strings.Contains(l.Text, text) || !strings.Contains(l.Remedy, remedy) {
		p.t.Errorf("%s: %s %q -> %q; want %s %q -> %q", name, l.State, l.Text, l.Remedy, state, text, remedy)
	}
}

func attached(kind device.Kind) runner.Document {
	return runner.Document{
		Region: runner.RegionDoc{Attached: true, Connected: true, Gateway: "browsing", Attachment: 2, Path: address, Device: string(kind), Because: "a test"},
		Host:   runner.HostDoc{Acting: true, Term: 3},
	}
}

func TestAllIsWell(t *testing.T) {
	grouped := card()
	grouped.Group, grouped.Driver, grouped.Enabled = "4", "vfio-pci", false
	p := newPatient(t, grouped)
	p.bus.AddModule("vfio-pci")
	p.bus.AddModule("vfio_iommu_type1")
	p.says(attached(device.ByVFIO))
	lines := Examine(t.Context(), p.cfg)
	for _, l := range lines {
		if l.State != checkup.Pass || l.Remedy != "" {
			t.Errorf("%+v", l)
		}
	}
	if len(lines) < 15 {
		t.Errorf("%d lines only: %+v", len(lines), lines)
	}
}

func TestDevice(t *testing.T) {
	old, plain, other := card(), card(), card()
	old.Revision = 0
	plain.Size[1] = 0
	other.Size[2] = 2 << 20
	for _, tt := range []struct {
		name         string
		card         *pci.Device
		change       func(*patient)
		text, remedy string
	}{
		{"revision 0", &old, nil, "revision 0", "newer QEMU"},
		{"plain", &plain, nil, "no MSI-X", "ivshmem-doorbell"},
		{"another program's", &other, nil, "BAR2", "guardring gateway attach"},
		{"VFIO wanted", nil, func(p *patient) { p.cfg.Device.Kind = device.ByVFIO }, "no ivshmem PCI device", "<shmem>"},
		{"wrong address", nil, func(p *patient) { p.cfg.Device.Address = address }, "no ivshmem PCI device", "pci-address"},
		{"sysfs that cannot be read", &other, func(p *patient) { p.bus.Put("sys/bus/pci/devices/"+address+"/revision", "red") }, "revision", ""},
		{"a socket's path that leads nowhere", nil, func(p *patient) { p.cfg.Device.Socket = p.path("torrc/x.sock") }, "not a directory", "come to the socket"},
		{"no socket", nil, nil, "there is no socket", "start guardring on the host"},
		{"not a socket", nil, func(p *patient) { p.put("region.sock", "") }, "is no socket", "region:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var cards []pci.Device
			if tt.card != nil {
				cards = append(cards, *tt.card)
			}
			p := newPatient(t, cards...)
			if tt.change != nil {
				tt.change(p)
			}
			p.expect("device", checkup.Fail, tt.text, tt.remedy)
		})
	}
	t.Run("two", func(t *testing.T) {
		second := card()
		second.Address = "0000:00:11.0"
		p := newPatient(t, card(), second)
		p.expect("device", checkup.Warn, "2 ivshmem devices", "pci-address")
	})
	t.Run("a socket", func(t *testing.T) {
		p := newPatient(t)
		l, err := net.Listen("unix", p.path("region.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		p.expect("device", checkup.Pass, "region.sock", "")
		p.expect("region", checkup.Skip, "running agent", "")
		p.cfg.Device.Kind = device.BySocket
		p.expect("device", checkup.Pass, "the configuration says so", "")
		if os.Geteuid() != 0 {
			os.Chmod(p.path("region.sock"), 0)
			p.expect("device", checkup.Fail, "may not be used", "group")
		}
	})
}

func TestIOMMUModulesDriver(t *testing.T) {
	p := newPatient(t, card())
	p.expect("iommu", checkup.Warn, "the agent polls", "<iommu model='intel'>")
	p.expect("driver", checkup.Pass, "ready for polling", "")
	p.cfg.Device.Kind = device.ByVFIO
	p.expect("iommu", checkup.Fail, "device: vfio", "<iommu model='intel'>")
	p.cfg.Device.Kind = device.ByPolling
	p.expect("iommu", checkup.Skip, "device: poll", "")

	off := card()
	off.Enabled = false
	p = newPatient(t, off)
	p.expect("driver", checkup.Fail, "its memory is switched off", "guardring-guest prepare")
	p.expect("region", checkup.Fail, "not prepared", "guardring-guest prepare")
	p.expect("host", checkup.Skip, "region", "")

	grouped := off
	grouped.Group = "4"
	p = newPatient(t, grouped)
	p.expect("iommu", checkup.Pass, "group 4", "")
	p.expect("modules", checkup.Fail, "not loaded", "modprobe vfio-pci")
	p.bus.AddModule("vfio-pci")
	p.expect("modules", checkup.Fail, "not loaded", "vfio_iommu_type1")
	p.bus.AddModule("vfio_iommu_type1")
	p.expect("modules", checkup.Pass, "loaded", "")
	p.expect("driver", checkup.Fail, "driver is none, not vfio-pci", "guardring-guest prepare")

	grouped.Enabled = true
	p = newPatient(t, grouped)
	p.expect("modules", checkup.Warn, "the agent polls", "modprobe")
	p.expect("vfio", checkup.Warn, "prepared for polling", "intremap='on'")
	p.expect("driver", checkup.Pass, "ready for polling", "")
	p.bus.Put("sys/kernel/iommu_groups/4/devices/0000:00:02.0/x", "")
	p.expect("iommu", checkup.Warn, "has 2 devices", "slot of its own")
}

func TestPermission(t *testing.T) {
	bound := card()
	bound.Group, bound.Driver = "4", "vfio-pci"
	p := newPatient(t, bound)
	p.bus.AddModule("vfio-pci")
	p.bus.AddModule("vfio_iommu_type1")
	node := filepath.Join(p.bus.Root, "dev/vfio/4")
	os.Chmod(filepath.Join(p.bus.Root, "dev/vfio/vfio"), 0o666)
	p.cfg.Device.Root, p.cfg.Device.GID = true, os.Getgid()
	p.expect("permission", checkup.Fail, "may not use it", "guardring-guest prepare --group")
	os.Chmod(node, 0o660)
	p.expect("permission", checkup.Pass, "may use the device", "")
	p.cfg.Device.GID = os.Getgid() + 1
	p.expect("permission", checkup.Fail, "may not use it", "guardring-guest prepare --group")
	os.Remove(node)
	p.expect("permission", checkup.Fail, "no such file", "guardring-guest prepare --group")
	p.says(attached(device.ByVFIO))
	p.expect("permission", checkup.Pass, "the running agent has the device", "")
}

func TestRegionAndHost(t *testing.T) {
	p := newPatient(t, card())
	p.expect("region", checkup.Pass, "gateway browsing", "")
	p.expect("host", checkup.Fail, "no heartbeat within", "start guardring on the host")
	p.beat()
	p.cfg.Look = 10 * time.Second
	p.expect("host", checkup.Pass, "heartbeat is seen", "")

	p = newPatient(t, card())
	p.fill(1<<32 - 1)
	p.expect("region", checkup.Fail, "IVPosition -1", "restart this VM")
	p.region = make([]byte, shmproto.RegionSize)
	p.fill(shmproto.GuestSeat)
	p.expect("region", checkup.Fail, "no region of guardring", "server path")
	p.expect("host", checkup.Skip, "", "")
	// A header of a later version, as the versions' goldens have it: any damage behind the magic is refused.
	if err := shmproto.Format(p.region, shmproto.Header{Gateway: "browsing"}); err != nil {
		t.Fatal(err)
	}
	p.region[0x14]++
	p.fill(shmproto.GuestSeat)
	p.expect("region", checkup.Fail, "checksum", "same version")
}

func TestAgent(t *testing.T) {
	p := newPatient(t, card())
	p.expect("agent", checkup.Warn, "does not run", "systemctl start")
	p.cfg.Status = func() ([]byte, error) { return nil, os.ErrPermission }
	p.expect("agent", checkup.Fail, "cannot be asked", "as root")
	p.cfg.Status = func() ([]byte, error) { return []byte(`{}`), nil }
	p.expect("agent", checkup.Fail, "its status is none", "restart the agent")
	p.cfg.Status = func() ([]byte, error) { return []byte(`{"error": "the agent's loop does not answer"}`), nil }
	p.expect("agent", checkup.Fail, "cannot be asked: the agent's loop does not answer", "restart the agent")

	doc := attached(device.ByPolling)
	doc.Faults = []runner.Complaint{{Member: "web", Text: "cookie /x: permission denied", Hint: "usermod"}}
	p.says(doc)
	p.expect("agent", checkup.Pass, "process 7", "")
	p.expect("agent's complaint", checkup.Fail, "web: cookie /x: permission denied", "usermod")
	p.expect("region", checkup.Warn, "by polling: a test", "<iommu")
	p.expect("host", checkup.Pass, "term 3", "")
	doc.Host.Acting = false
	p.says(doc)
	p.expect("host", checkup.Fail, "no host agent acts", "start guardring on the host")
	p.says(runner.Document{Region: runner.RegionDoc{Error: "no region yet"}})
	p.expect("region", checkup.Fail, "no region yet", "complaint")
	p.expect("host", checkup.Skip, "", "")
}

func TestTor(t *testing.T) {
	for _, tt := range []struct {
		name         string // of the line, without the Tor's name
		change       func(*patient)
		state        checkup.State
		text, remedy string
	}{
		{"control port", func(p *patient) { p.cfg.Tors[0].Control.Address = p.path("none") }, checkup.Fail, "none", "start Tor"},
		{"version", func(p *patient) { p.answers["GETINFO version"] = "0.4.6.10" }, checkup.Fail, "0.4.6.10 is too old", "upgrade"},
		{"version", func(p *patient) { p.answers["GETINFO version"] = "Arti" }, checkup.Warn, "Arti", "0.4.7"},
		{"version", func(p *patient) { delete(p.answers, "GETINFO version") }, checkup.Fail, "does not say", "restart"},
		{"relay", func(p *patient) { p.answers["GETCONF ORPort"] = "9001" }, checkup.Fail, "ORPort 9001", "take ORPort out"},
		{"bridges", func(p *patient) { p.answers["GETCONF UseBridges"] = "1" }, checkup.Warn, "uses bridges", "watches"},
		{"entry nodes", func(p *patient) { p.answers["GETCONF EntryNodes"] = "{de}" }, checkup.Warn, "EntryNodes {de}", "watches"},
		{"entry guards", func(p *patient) { p.answers["GETCONF UseEntryGuards"] = "0" }, checkup.Fail, "UseEntryGuards is 0", "take UseEntryGuards 0 out"},
		{"network", func(p *patient) { p.answers["GETCONF DisableNetwork"] = "1" }, checkup.Warn, "DisableNetwork is 1", "DisableNetwork 0"},
		{"dormant", func(p *patient) { p.answers["GETINFO dormant"] = "1" }, checkup.Warn, "is dormant", "wakes up"},
		{"consensus", func(p *patient) { delete(p.answers, "GETINFO consensus/valid-until") }, checkup.Warn, "none yet", "bootstrapped"},
		{"consensus", func(p *patient) { p.answers["GETINFO consensus/valid-until"] = "2026-01-01 00:00:00" }, checkup.Warn, "it ended at", "clock"},
		{"state file", func(p *patient) { os.Remove(p.path("state")) }, checkup.Warn, "is not there", "start Tor"},
		// Its folder is Tor's user's, and we may be root.
		{"state file", func(p *patient) {
			os.Remove(p.path("state"))
			if err := syscall.Mkfifo(p.path("state"), 0o600); err != nil {
				p.t.Error(err)
			}
		}, checkup.Warn, "not a regular file", ""},
		{"state file", func(p *patient) { p.cfg.Tors[0].State = "" }, checkup.Skip, "not known", ""},
		{"include file", func(p *patient) { os.Remove(p.path("guardring/default.conf")) }, checkup.Fail, "is missing", "guardring-guest join web"},
		{"include file", func(p *patient) { p.put("torrc", "SocksPort 9050\n") }, checkup.Fail, "does not include", "guardring-guest join web"},
		{"include file", func(p *patient) {
			p.put("torrc", "ReachableORAddresses *:443\n%include "+p.path("guardring/default.conf")+"\n")
		}, checkup.Fail, "torrc:1 sets ReachableORAddresses before", "move the %include line"},
		{"include file", func(p *patient) { os.Remove(p.path("torrc")) }, checkup.Fail, "read Tor's configuration", "join"},
		{"include file", func(p *patient) { p.cfg.Tors[0].Site.Torrc = "" }, checkup.Fail, "is known", "set torrc:"},
		{"restart", func(p *patient) {
			p.put("torrc", "%include "+p.path("guardring/default.conf")+"\n")
			p.answers["GETINFO uptime"] = "900"
		}, checkup.Warn, "in its memory only", "when it suits you (systemctl restart tor)"},
		{"restart", func(p *patient) {
			p.put("torrc", "%include "+p.path("guardring/default.conf")+"\nSandbox 1\n")
			p.answers["GETINFO uptime"] = "900"
		}, checkup.Fail, "under Sandbox 1 it ends", "restart it now (systemctl restart tor)"},
		{"restart", func(p *patient) { delete(p.answers, "GETINFO uptime") }, checkup.Skip, "cannot be told", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPatient(t, card())
			tt.change(p)
			p.expect(tt.name+" of web", tt.state, tt.text, tt.remedy)
		})
	}
	p := newPatient(t, card())
	p.cfg.Tors = nil
	p.expect("tor", checkup.Fail, "no Tor was found", "instances:")
}

// lineName is where the code names a line.
var lineName = regexp.MustCompile(`(?m)(?:lines\.\w+\(|lookAtNodes\(|name :?= |^\t\t\{)"([a-z' ]+)"`)

// TestAdminPageHasEachLine: docs/ADMIN.md says what each line is about.
func TestAdminPageHasEachLine(t *testing.T) {
	page, err := os.ReadFile("../../docs/ADMIN.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range lineName.FindAllStringSubmatch(string(code), -1) {
			names[strings.TrimSuffix(strings.TrimSpace(m[1]), " of")] = true
		}
	}
	if len(names) < 22 {
		t.Errorf("only %d lines are found: %v", len(names), names)
	}
	for name := range names {
		if !strings.Contains(string(page), "\n| "+name+" | ") {
			t.Errorf("docs/ADMIN.md has no row for %q", name)
		}
	}
}
