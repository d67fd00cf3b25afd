package runner

import (
	"slices"
	"time"

	"guardring/host-agent/consensusfile"
	"guardring/internal/consensus"
	"guardring/internal/coordinator"
)

// verification is the operator's consensus file and who was told of it.
type verification struct {
	file  *consensusfile.File // nil: there is none
	facts []coordinator.Facts // of the last good one, sorted by relay
	fault string
	told  *coordinator.Coordinator // the core that knows facts; a new one knows nothing
}

// verify reads the consensus file if it has changed, and tells the core if it
// does not know what is in it. A file that cannot be used changes nothing.
func (r *runner) verify() {
	v := &r.verification
	if v.file == nil {
		return
	}
	doc, err := v.file.Read()
	switch {
	case err != nil:
		if v.fault != err.Error() {
			r.log.Warn("the consensus file cannot be used, the last good one counts on", "error", err)
		}
		v.fault = err.Error()
	case doc != nil:
		facts := guardFacts(doc)
		v.fault = ""
		r.log.Info("consensus read", "guards", len(facts), "valid_after", doc.ValidAfter)
		if !slices.EqualFunc(facts, v.facts, sameFacts) {
			v.facts, v.told = facts, nil
		}
	}
	if len(v.facts) == 0 || !r.acting() || v.told == r.core {
		return
	}
	core := r.core
	r.step(coordinator.ConsensusRead{At: time.Now(), Guards: v.facts}, "")
	v.told = core // another one now, if the step could not be made durable: it is told next time
}

// guardFacts returns what the document says of its guards, sorted by relay.
func guardFacts(doc *consensus.Document) []coordinator.Facts {
	var all []coordinator.Facts
	for i := range doc.Relays {
		relay := &doc.Relays[i]
		if !relay.Has(consensus.FlagGuard) {
			continue
		}
		f := coordinator.Facts{Relay: relay.Fingerprint}
		for _, addr := range relay.Addrs {
			if k, ok := coordinator.SubnetKey(addr.Addr()); ok && !slices.Contains(f.Subnets, k) {
				f.Subnets = append(f.Subnets, k)
			}
		}
		slices.SortFunc(f.Subnets, coordinator.Key.Compare)
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b coordinator.Facts) int { return a.Relay.Compare(b.Relay) })
	return all
}

func sameFacts(a, b coordinator.Facts) bool {
	return a.Relay == b.Relay && slices.Equal(a.Subnets, b.Subnets)
}
