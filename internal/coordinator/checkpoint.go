package coordinator

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"guardring/internal/graph"
)

// CheckpointVersion is the form of a Checkpoint that this build writes, and the
// only one that it reads.
const CheckpointVersion = 1

// Checkpoint is the whole state of a Coordinator, the volatile part and the
// configuration included. A journal begins with one, so that what follows can be
// replayed. It is no substitute for the ledger: it is never read to go on with
// real gateways.
//
// It holds fingerprints: whoever shows or keeps it treats it like the ledger.
type Checkpoint struct {
	Version int `json:"version"`
	// Shape names the types that State is made of. Another build that keeps other
	// fields cannot go on exactly, so it refuses.
	Shape string `json:"shape"`
	// Sum is of State: a damaged file is told from a difference.
	Sum   string          `json:"sum"`
	State json.RawMessage `json:"state"`
}

// Errors of Resume.
var (
	ErrOtherBuild = errors.New("the checkpoint was written by another build: replay it with that one")
	ErrDamaged    = errors.New("the checkpoint is damaged")
)

// Checkpoint returns the present state. It is complete by construction: it
// follows every field of every type of the core, so a new field is in it without
// being named here.
func (c *Coordinator) Checkpoint() Checkpoint {
	state := graph.Encode(c)
	return Checkpoint{Version: CheckpointVersion, Shape: graph.Shape((*Coordinator)(nil)), Sum: sum(state), State: state}
}

// Resume returns a core that answers every further event as the one did whose
// Checkpoint it is.
func Resume(p Checkpoint) (*Coordinator, error) {
	if p.Version != CheckpointVersion {
		return nil, fmt.Errorf("version %d, this build reads %d: %w", p.Version, CheckpointVersion, ErrOtherBuild)
	}
	if p.Shape != graph.Shape((*Coordinator)(nil)) {
		return nil, ErrOtherBuild
	}
	if p.Sum != sum(p.State) {
		return nil, ErrDamaged
	}
	var c *Coordinator
	if err := graph.Decode(p.State, &c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return c, nil
}

func sum(state []byte) string {
	s := sha256.Sum256(state)
	return hex.EncodeToString(s[:8])
}
