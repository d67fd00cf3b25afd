package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"guardring/host-agent/domains"
	"guardring/internal/coordinator"
)

// Config is what a coordinator needs to know. Run checks everything at once.
type Config struct {
	RunDir    string             // the server's; absolute
	LedgerDir string             // absolute; made if missing
	Policy    coordinator.Policy // observe or disjoint
	// Heartbeat of the lease; 0 is 1 s. Both coordinators must have the same.
	Heartbeat time.Duration
	// Rescan: how often all regions are looked at without a doorbell; 0 is 5 s.
	Rescan time.Duration
	// Retention and Hold go to the core; 0 is its default.
	Retention, Hold time.Duration
	// Levels, Groups, Budgets, DelayMin and DelayMax go to the core (see there).
	Levels             coordinator.Levels
	Groups             []coordinator.Group
	Budgets            coordinator.Budgets
	MaxGatewayClaims   int // goes to the core, too; 0 is its default
	DelayMin, DelayMax time.Duration
	// Consensus is a file that verifies relays' addresses; absolute; "": none.
	Consensus string
	// Watch tells what it sees of gateways' domains until ctx ends (domains.Watch);
	// nil: nobody does.
	Watch func(ctx context.Context, tell func(domains.Seen)) `json:"-"`
	// JournalSize is how large one of the journal's two segments grows, in bytes;
	// 0 is 4 MiB.
	JournalSize int64
	// ShowFingerprints puts guards into the log.
	ShowFingerprints bool
	// StatusMode is the mode of RUN/coordinator.N.sock; 0 is 0600.
	StatusMode fs.FileMode
	// DoorbellBurst doorbells of one gateway are answered at once, then
	// DoorbellRate a second; 0 is 64 and 20. More wait: the region is looked at
	// once for all of them.
	DoorbellBurst int
	DoorbellRate  float64
	// LedgerBurst steps of one gateway that the ledger is written for are done at
	// once, then LedgerRate a second; 0 is 64 and 1. What is over that waits in
	// the gateway's memory.
	LedgerBurst int
	LedgerRate  float64
}

func (c *Config) validate() error {
	setDefault(&c.Heartbeat, time.Second)
	setDefault(&c.Rescan, 5*time.Second)
	setDefault(&c.StatusMode, 0o600)
	setDefault(&c.JournalSize, 4<<20)
	setDefault(&c.DoorbellBurst, 64)
	setDefault(&c.DoorbellRate, 20)
	setDefault(&c.LedgerBurst, 64)
	setDefault(&c.LedgerRate, 1)
	var errs []error
	if !filepath.IsAbs(c.RunDir) {
		errs = append(errs, fmt.Errorf("run directory %q: must be an absolute path", c.RunDir))
	}
	if !filepath.IsAbs(c.LedgerDir) {
		errs = append(errs, fmt.Errorf("ledger directory %q: must be an absolute path", c.LedgerDir))
	}
	if c.Consensus != "" && !filepath.IsAbs(c.Consensus) {
		errs = append(errs, fmt.Errorf("consensus file %q: must be an absolute path", c.Consensus))
	}
	if c.JournalSize < 4<<10 {
		errs = append(errs, fmt.Errorf("journal of %d bytes: want at least 4096", c.JournalSize))
	}
	if c.Heartbeat < 10*time.Millisecond || c.Rescan < 10*time.Millisecond {
		errs = append(errs, fmt.Errorf("heartbeat %s, rescan %s: neither may be below 10ms", c.Heartbeat, c.Rescan))
	}
	if c.DoorbellBurst < 1 || c.DoorbellRate <= 0 {
		errs = append(errs, fmt.Errorf("doorbell burst %d, rate %g: both must be positive", c.DoorbellBurst, c.DoorbellRate))
	}
	if c.LedgerBurst < 1 || c.LedgerRate <= 0 {
		errs = append(errs, fmt.Errorf("ledger burst %d, rate %g: both must be positive", c.LedgerBurst, c.LedgerRate))
	}
	return errors.Join(errs...)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
