package domainxml

import "github.com/rogpeppe/go-internal/diff"

// Diff shows what changes between two documents, as diff -u does; "" if they are
// the same. The names are for its heading.
func Diff(oldName, old, newName, new string) string {
	return string(diff.Diff(oldName, []byte(old), newName, []byte(new)))
}
