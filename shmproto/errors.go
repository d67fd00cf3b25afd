package shmproto

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart. Everything a peer wrote wrongly is a
// *ViolationError.
var (
	// ErrMagic: the memory is not a guardring region.
	ErrMagic = errors.New("not a guardring region")
	// ErrVersion: the region is served in versions that this build does not speak.
	ErrVersion = errors.New("unsupported region version")
	// ErrFeature: the region needs a feature that this build does not have.
	ErrFeature = errors.New("unsupported incompatible feature")
	// ErrEmpty: the slot was never written.
	ErrEmpty = errors.New("empty slot")
	// ErrTorn: a record was being replaced during every one of the bounded
	// attempts to read it. Keep the last good one and read again later.
	ErrTorn = errors.New("record torn")
	// ErrFenced: the record was completed by an agent whose lock had been
	// revoked. Keep the last good one.
	ErrFenced = errors.New("record of a revoked lock holder")
	// ErrTooLarge: our own record does not fit its slot.
	ErrTooLarge = errors.New("record too large")
	// ErrLocked: the lock is held by another agent, or by nobody: not by the caller.
	ErrLocked = errors.New("locked")
)

// ViolationError marks a peer that wrote what the protocol forbids. It does not
// prove malice: late stores of a stopped agent can spoil a record too, until the
// agent that holds the lock now publishes again.
type ViolationError struct {
	Offset int    // of the offending byte: in a record's payload, or in the region if Reason speaks of the header, a record or the lock
	Reason string // what is wrong there, without any peer-written text
}

func (e *ViolationError) Error() string { return fmt.Sprintf("offset %#x: %s", e.Offset, e.Reason) }

func violation(off int, reason string) error { return &ViolationError{Offset: off, Reason: reason} }
