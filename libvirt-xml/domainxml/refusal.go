package domainxml

import "fmt"

// Refusal says why a document cannot become, or stop being, a gateway's, and
// what to do about it. Nothing was changed.
type Refusal struct {
	Reason string // what is in the way, and where
	Remedy string // what to do: one sentence without a capital or full stop
}

// Error implements error.
func (r *Refusal) Error() string { return r.Reason }

// Hint returns the remedy, for the commands' way to print errors.
func (r *Refusal) Hint() string { return r.Remedy }

func refuse(remedy, format string, args ...any) error {
	return &Refusal{Reason: fmt.Sprintf(format, args...), Remedy: remedy}
}
