package device

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"guardring/guest-agent/pci"
	"guardring/guest-agent/pci/pcitest"
	"guardring/internal/hint"
	"guardring/shmproto"
)

const address = "0000:00:10.0"

func card() pci.Device {
	return pci.Device{Address: address, Vendor: vendor, ID: deviceID, Revision: 1, Size: [pci.BARs]uint64{0: 256, 1: 4096, 2: shmproto.RegionSize}}
}

// region makes a region as a server formats it.
func region(t *testing.T) []byte {
	t.Helper()
	b := make([]byte, shmproto.RegionSize)
	if err := shmproto.Format(b, shmproto.Header{Gateway: "browsing", RegionEpoch: [16]byte{1}}); err != nil {
		t.Fatal(err)
	}
	return b
}

// machine is a made-up VM with a gateway's device on it, and what we would ask of it.
func machine(t *testing.T, cards ...pci.Device) (*pcitest.Tree, Options) {
	t.Helper()
	k := pcitest.New(t)
	for _, d := range cards {
		k.Add(d)
		fill(t, k, d.Address, region(t), shmproto.GuestSeat)
	}
	return k, Options{
		Kind: Auto, Bus: k.Bus(), GID: -1, Modprobe: k.Modprobe,
		Socket: filepath.Join(k.Root, "none.sock"), StateFile: filepath.Join(k.Root, "var/lib/guardring-guest/device.json"),
	}
}

// fill writes what the device's memory and its register IVPosition hold.
func fill(t *testing.T, k *pcitest.Tree, address string, mem []byte, seat uint32) {
	t.Helper()
	dir := filepath.Join(k.Root, "sys/bus/pci/devices", address)
	registers := make([]byte, registersSize)
	binary.LittleEndian.PutUint32(registers[registerIVPosition:], seat)
	for name, content := range map[string][]byte{"resource0": registers, "resource2": mem} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// expect opens and checks that it fails with these words in error and remedy.
func expect(t *testing.T, o Options, want, remedy string) {
	t.Helper()
	d, c, err := Open(o)
	if err == nil {
		d.Close()
		t.Fatalf("opened: %+v", c)
	}
	if !strings.Contains(err.Error(), want) || !strings.Contains(hint.Of(err), remedy) {
		t.Errorf("error %q, remedy %q; want %q and %q", err, hint.Of(err), want, remedy)
	}
}

func TestRefusedDevices(t *testing.T) {
	for _, tt := range []struct {
		name         string
		change       func(*pci.Device)
		want, remedy string
	}{
		{"revision 0", func(d *pci.Device) { d.Revision = 0 }, "revision 0 is ivshmem 1", "model ivshmem-doorbell"},
		{"another size", func(d *pci.Device) { d.Size[2] = 4 << 20 }, "BAR2) has 4194304 bytes, a gateway's region 1048576", "another program's"},
		{"ivshmem-plain", func(d *pci.Device) { d.Size[1] = 0 }, "no MSI-X", "ivshmem-doorbell"},
		{"short registers", func(d *pci.Device) { d.Size[0] = 16 }, "BAR0) have 16 bytes", "ivshmem-doorbell"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := card()
			tt.change(&d)
			k, o := machine(t)
			k.Add(d)
			expect(t, o, "PCI device "+address+" is not used: ", tt.remedy)
			expect(t, o, tt.want, tt.remedy)
			o.Address = address
			expect(t, o, tt.want, tt.remedy)
			if _, err := Prepare(o, false); err == nil || !strings.Contains(err.Error(), tt.want) || len(k.Writes) > 0 {
				t.Errorf("prepare: %v, after %q", err, k.Writes)
			}
			// Beside a good one it is only passed over.
			good := card()
			good.Address, good.Enabled = "0000:00:11.0", true
			k.Add(good)
			fill(t, k, good.Address, region(t), shmproto.GuestSeat)
			o.Address = ""
			dev, c, err := Open(o)
			if err != nil || c.Address != good.Address {
				t.Fatalf("%+v, %v", c, err)
			}
			dev.Close()
		})
	}
}

// TestMemoryThatIsNotOurs: the device is of the right kind and size, but what it
// holds, or the seat that its server gave, is not a gateway's.
func TestMemoryThatIsNotOurs(t *testing.T) {
	d := card()
	d.Enabled = true
	k, o := machine(t, d)
	fill(t, k, address, make([]byte, shmproto.RegionSize), shmproto.GuestSeat)
	expect(t, o, "it holds no region of guardring", "pci-address:")
	fill(t, k, address, region(t), 0xffffffff)
	expect(t, o, "IVPosition -1", "restart this VM")
	fill(t, k, address, region(t), 7)
	expect(t, o, "seat 7", "server path")
	// The file that is shorter than sysfs says would end us with SIGBUS in real life
	// only if the kernel lied; its permission is the usual trouble.
	if os.Geteuid() != 0 {
		fill(t, k, address, region(t), shmproto.GuestSeat)
		os.Chmod(o.Bus.ResourceFile(address, 2), 0)
		expect(t, o, "permission denied", "guardring-guest prepare as root")
	}
}

func TestAutoChoice(t *testing.T) {
	on, grouped, bound := card(), card(), card()
	on.Enabled = true
	grouped.Group = "4"
	bound.Group, bound.Driver = "4", "vfio-pci"
	for _, tt := range []struct {
		name   string
		card   *pci.Device
		kind   Kind
		want   Kind
		reason string // of the choice, or text of the error
		remedy string // of the error
		opens  bool
	}{
		{"no device", nil, Auto, BySocket, "there is no PCI device 1af4:1110", "", false},
		{"no device, but VFIO is wanted", nil, ByVFIO, ByVFIO, "no PCI device 1af4:1110 (ivshmem) on this machine", "<shmem>", false},
		{"no IOMMU", &on, Auto, ByPolling, "the VM has no IOMMU that Linux uses: doorbells need <iommu model='intel'>", "", true},
		{"no IOMMU, but VFIO is wanted", &on, ByVFIO, ByVFIO, "is in no IOMMU group", "<iommu model='intel'>", false},
		{"polling is wanted", &on, ByPolling, ByPolling, "the configuration says so", "", true},
		{"nobody prepared it", &grouped, Auto, Auto, "not prepared: its driver is none, and its memory is off", "guardring-guest prepare", false},
		{"nobody bound it", &grouped, ByVFIO, ByVFIO, "its driver is none, not vfio-pci", "guardring-guest prepare", false},
		{"bound, polling is wanted", &bound, ByPolling, ByPolling, "its driver is vfio-pci, and its memory is off", "guardring-guest prepare", false},
		{"bound, without the container's node", &bound, Auto, ByVFIO, "dev/vfio/vfio: no such file", "kernel module vfio", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var cards []pci.Device
			if tt.card != nil {
				cards = append(cards, *tt.card)
			}
			_, o := machine(t, cards...)
			o.Kind = tt.kind
			d, c, err := Open(o)
			if d != nil {
				defer d.Close()
			}
			text := c.Reason
			if !tt.opens && err != nil && tt.want != BySocket {
				text = err.Error()
			}
			if (err == nil) != tt.opens || c.Kind != tt.want || !strings.Contains(text, tt.reason) || !strings.Contains(hint.Of(err), tt.remedy) {
				t.Errorf("choice %+v, error %v, remedy %q", c, err, hint.Of(err))
			}
		})
	}
	both := on
	both.Group = "4"
	k, o := machine(t, both)
	for _, want := range []string{"vfio-pci is not loaded", "prepared for polling"} {
		d, c, err := Open(o)
		if err != nil || c.Kind != ByPolling || !strings.Contains(c.Reason, want) {
			t.Fatalf("%+v, %v; want %q", c, err, want)
		}
		d.Close()
		k.AddModule("vfio-pci")
	}
}

// TestTwoRegions: nobody can say which of two regions is this agent's.
func TestTwoRegions(t *testing.T) {
	first, second := card(), card()
	second.Address = "0000:00:11.0"
	first.Enabled, second.Enabled = true, true
	k, o := machine(t, first, second)
	expect(t, o, "both gateways' regions", "pci-address:")
	if _, err := Prepare(o, false); err == nil || !strings.Contains(err.Error(), "0000:00:10.0, 0000:00:11.0") {
		t.Errorf("prepare: %v", err)
	}
	o.Address = second.Address
	d, c, err := Open(o)
	if err != nil || c.Address != second.Address {
		t.Fatalf("%+v, %v", c, err)
	}
	d.Close()
	// The memory tells them apart where only one is ours; prepare leaves the other
	// as it was.
	o.Address = ""
	k.Put("sys/bus/pci/devices/0000:00:10.0/enable", "0\n")
	fill(t, k, first.Address, make([]byte, shmproto.RegionSize), 0)
	p, err := Prepare(o, false)
	if err != nil || p.Choice.Address != second.Address {
		t.Errorf("prepare: %+v, %v", p, err)
	}
	if k.Device(first.Address).Enabled {
		t.Error("another program's device was left switched on")
	}
	if d, c, err = Open(o); err != nil || c.Address != second.Address {
		t.Fatalf("%+v, %v", c, err)
	}
	d.Close()
}
