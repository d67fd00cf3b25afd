package pci

import (
	"errors"
	"fmt"
	"os"
)

// write writes one attribute with one system call: that is what sysfs takes for
// one value.
func (b Bus) write(path, text string) error {
	if b.Write != nil {
		return b.Write(path, text)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// SetOverride names the only driver that may bind the device; "" lifts it. It
// takes effect with the next Probe.
func (b Bus) SetOverride(address, driver string) error {
	if err := b.write(b.Dir(address)+"/driver_override", driver+"\n"); err != nil {
		return fmt.Errorf("PCI device %s: set its driver_override: %w", address, err)
	}
	return nil
}

// Unbind takes the device from its driver.
func (b Bus) Unbind(address string) error {
	if err := b.write(b.Dir(address)+"/driver/unbind", address); err != nil {
		return fmt.Errorf("PCI device %s: take it from its driver: %w", address, err)
	}
	return nil
}

// Probe lets the kernel look for the device's driver. That none takes it is no
// error: read the device again.
func (b Bus) Probe(address string) error {
	if err := b.write(b.Path("sys/bus/pci/drivers_probe"), address); err != nil {
		return fmt.Errorf("PCI device %s: look for its driver: %w", address, err)
	}
	return nil
}

// Bind gives the device to a driver.
func (b Bus) Bind(address, driver string) error {
	if err := b.write(b.Path("sys/bus/pci/drivers", driver, "bind"), address); err != nil {
		return fmt.Errorf("PCI device %s: give it to driver %s: %w", address, driver, err)
	}
	return nil
}

// Enable makes the device's memory answer, or not. Each Enable adds to a count in
// the kernel, and each disabling takes one off: look at Device.Enabled first. The
// kernel refuses it (EBUSY) while a driver has the device.
func (b Bus) Enable(address string, on bool) error {
	text := "0"
	if on {
		text = "1"
	}
	if err := b.write(b.Dir(address)+"/enable", text); err != nil {
		return fmt.Errorf("PCI device %s: switch its memory on: %w", address, err)
	}
	return nil
}

// ResourceFile is the file in which BAR n can be mapped.
func (b Bus) ResourceFile(address string, n int) string {
	return fmt.Sprintf("%s/resource%d", b.Dir(address), n)
}
