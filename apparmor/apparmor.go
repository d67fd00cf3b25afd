// Package apparmor holds the profiles that our programs run under, and says what the
// kernel says of a process. The admin's own additions belong into
// /etc/apparmor.d/local/, which an update does not touch.
//
// Trust: a profile is for a program that has been taken over: it may then do what it
// must for its work, and no more. The test has apparmor_parser judge each profile.
package apparmor

import (
	_ "embed"
	"strings"
)

// Dir is where AppArmor looks for profiles.
const Dir = "/etc/apparmor.d"

// Names of profiles, as the kernel and systemd's AppArmorProfile= know them.
const (
	Server      = "guardring-server"
	Coordinator = "guardring-coordinator"
	CLI         = "guardring" // tied to the program's path; the other two are asked for by name
	Agent       = "guardring-guest"
)

// Guest is the profile of guardring-guest run. Its unit asks for it by name; it is
// not tied to the program's path, because prepare, join and leave, which root runs,
// do other things.
//
//go:embed guardring-guest
var Guest string

//go:embed guardring-server
var serverText string

//go:embed guardring-coordinator
var coordinatorText string

//go:embed guardring
var cliText string

//go:embed abstractions/guardring
var abstractionText string

//go:embed tunables/guardring
var tunablesText string

// File is a file of ours below Dir.
type File struct {
	// Name is its path below Dir.
	Name string
	// Profile is the profile that it defines; "" for what profiles include.
	Profile string
	// Text is the whole content.
	Text string
}

// HostFiles are the files of a host, in the order in which they can be put in place:
// what is included stands first.
func HostFiles() []File {
	return []File{
		{Name: "tunables/guardring", Text: tunablesText},
		{Name: "abstractions/guardring", Text: abstractionText},
		{Name: Server, Profile: Server, Text: serverText},
		{Name: Coordinator, Profile: Coordinator, Text: coordinatorText},
		{Name: CLI, Profile: CLI, Text: cliText},
	}
}

// Ours reports whether a file's text is a version of one of ours, by its first line.
func Ours(text string) bool {
	first, _, _ := strings.Cut(text, "\n")
	return strings.HasPrefix(first, "# Profile") && strings.Contains(first, "guardring")
}
