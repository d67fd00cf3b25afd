package rotation

import "time"

// Machine is the state machine of one member. Not safe for concurrent use.
type Machine struct{ cfg Config }

// New returns a machine that has seen nothing.
func New(cfg Config) (*Machine, error) { return &Machine{cfg: cfg}, nil }

// Step takes an event and returns what must be done now.
func (m *Machine) Step(now time.Time, e Event) Ready { return Ready{} }

// ConfigKeys are the options that QueryConfig asks for, in one GETCONF.
func ConfigKeys() []string {
	return []string{
		"ORPort", "UseBridges", "EntryNodes", "ExcludeNodes", "Sandbox",
		"ReachableORAddresses", "ReachableAddresses", "FascistFirewall", "FirewallPorts",
		"NumEntryGuards", "NumDirectoryGuards", "NumPrimaryGuards",
		"ClientUseIPv4", "ClientUseIPv6", "UseEntryGuards",
	}
}
