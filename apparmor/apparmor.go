// Package apparmor holds the profiles that our programs run under. The admin's own
// additions belong into /etc/apparmor.d/local/, which an update does not touch.
//
// Trust: a profile is for a program that has been taken over: it may then do what it
// must for its work, and no more. The test has apparmor_parser judge each profile.
package apparmor

import _ "embed"

// Guest is the profile of guardring-guest run. Its unit asks for it by name; it is
// not tied to the program's path, because prepare, join and leave, which root runs,
// do other things.
//
//go:embed guardring-guest
var Guest string
