// Package rundir says where things lie below the host's run directory, which
// server, coordinators and the status command share.
//
// Trust: names come from the configuration, checked by shmproto.ValidName, or
// from files in a directory that only the operator's processes write to.
package rundir

import (
	"path/filepath"
	"strconv"
	"strings"
)

// Default is the run directory unless the configuration says otherwise.
const Default = "/run/guardring"

// Board stands for the lease board where a gateway's name stands otherwise. No
// gateway can have it: those names begin with a letter or digit.
const Board = ".lease"

const suffix = ".sock"

// Dir is a run directory, an absolute path.
type Dir string

// Lock is the file that the one server of the directory holds locked.
func (d Dir) Lock() string { return filepath.Join(string(d), "server.lock") }

// Server is the server's status socket.
func (d Dir) Server() string { return filepath.Join(string(d), "server"+suffix) }

// ServerCommand is the socket at which the server takes the operator's commands.
func (d Dir) ServerCommand() string { return filepath.Join(d.Host(), "server.command") }

// Coordinator is the status socket of coordinator 0 or 1.
func (d Dir) Coordinator(seat int) string {
	return filepath.Join(string(d), "coordinator."+strconv.Itoa(seat)+suffix)
}

// Command is the socket at which coordinator 0 or 1 takes the operator's commands.
// It has no suffix, so that it is not taken for a gateway's.
func (d Dir) Command(seat int) string {
	return filepath.Join(d.Host(), "coordinator."+strconv.Itoa(seat)+".command")
}

// Journal holds what the coordinators did, for replay.
func (d Dir) Journal() string { return filepath.Join(d.Host(), "journal") }

// History holds what was decided about each gateway.
func (d Dir) History() string { return filepath.Join(d.Host(), "history") }

// Gateways holds the sockets at which QEMUs and guest agents connect.
func (d Dir) Gateways() string { return filepath.Join(string(d), "gateways") }

// GuestSocket is where a gateway's QEMU or agent connects.
func (d Dir) GuestSocket(gateway string) string { return filepath.Join(d.Gateways(), gateway+suffix) }

// Host holds the sockets at which coordinators connect.
func (d Dir) Host() string { return filepath.Join(string(d), "host") }

// HostSocket is where coordinators connect to a gateway's region, or to the
// lease board (Board).
func (d Dir) HostSocket(name string) string { return filepath.Join(d.Host(), name+suffix) }

// SocketName returns the gateway, or Board, whose socket has this file name; ok
// is false for files of another kind.
func SocketName(file string) (name string, ok bool) { return strings.CutSuffix(file, suffix) }
