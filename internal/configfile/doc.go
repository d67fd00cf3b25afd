// Package configfile reads strict YAML into documented structs and reports
// every fault of a file at once, each with its line, what is wrong and what to
// do about it. It serves the configuration of host and guest.
//
// A struct's fields are named by their yaml tag; fields without one are not
// configurable. The caller fills the struct with defaults before it reads the
// file; what the file does not mention stays as it is. Field types:
//
//	bool, string, all integers, float64
//	time.Duration       "90s", "1h30m", and with days: "60d", "1d12h"
//	TextUnmarshaler     gets the scalar as it is written (0660 stays "0660")
//	slices, map[string]T, structs and pointers of these
//
// Stricter than YAML: unknown and repeated keys, keys without a value, aliases,
// merge keys, tags and several documents are faults, because each of them is a
// way in which a line that was meant to protect somebody silently does nothing.
//
// Trust: the administrator writes the file; it may be wrong, not hostile.
package configfile
