// Package units holds what the host's service manager is told of us: the units of
// server and coordinator, their users and their directories. The guest's unit lies
// with the image that brings it into a gateway (agentiso).
//
// Trust: a unit's sandbox is for a program that has been taken over. The tests have
// systemd itself judge each one.
package units

import "embed"

// Files are the units by their file names, and sysusers.conf and tmpfiles.conf in the
// forms of sysusers.d(5) and tmpfiles.d(5).
//
//go:embed *.service *.conf
var Files embed.FS
