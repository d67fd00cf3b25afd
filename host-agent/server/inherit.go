package server

import (
	"log/slog"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"guardring/host-agent/rundir"
)

// Names in the store: gateway/NAME/PART, where PART is "memory", "book",
// "vector/PEER/VECTOR", "socket/guest", "socket/host", "seat/PEER/process/SERIAL" or
// "seat/PEER/connection/SERIAL". Serials are random, so that taking a holder's
// names out of the store cannot race with storing the next one's.
const storePrefix = "gateway/"

// The listening sockets: stored, so that a VM that starts while the server
// restarts waits in the queue.
const (
	partGuestSocket = "socket/guest"
	partHostSocket  = "socket/host"
)

func storeName(gateway, part string) string { return storePrefix + gateway + "/" + part }

// inherited sorts what came out of the store: gateway, part, descriptors.
type inherited map[string]map[string][]int

// sortInherited goes by names, because the order of stored descriptors means
// nothing. What bears no name of ours is discarded.
func sortInherited(descriptors []Descriptor, s *store, log *slog.Logger) inherited {
	found := make(inherited)
	for _, d := range descriptors {
		rest, ok := strings.CutPrefix(d.Name, storePrefix)
		gateway, part, ok2 := strings.Cut(rest, "/")
		if !ok || !ok2 {
			log.Warn("stored descriptor is not ours, discarded", "name", d.Name)
			_ = unix.Close(d.FD)
			_ = s.remove(d.Name)
			continue
		}
		if found[gateway] == nil {
			found[gateway] = make(map[string][]int)
		}
		found[gateway][part] = append(found[gateway][part], d.FD)
	}
	return found
}

// take returns what was stored for a gateway, and forgets it; nil if nothing.
func (f inherited) take(gateway string) map[string][]int {
	parts := f[gateway]
	delete(f, gateway)
	return parts
}

// discardRest drops what was stored for gateways that are not configured.
func (f inherited) discardRest(run string, s *store, log *slog.Logger) {
	for _, gateway := range slices.Sorted(maps.Keys(f)) {
		log.Info("stored gateway is not configured any more, discarded", "gateway", gateway)
		parts := f.take(gateway)
		discard(s, gateway, slices.Sorted(maps.Keys(parts)))
		for part, path := range map[string]string{partGuestSocket: rundir.Dir(run).GuestSocket(gateway), partHostSocket: rundir.Dir(run).HostSocket(gateway)} {
			for _, fd := range parts[part] {
				refusePending(fd)
				_ = removeSocket(path)
			}
		}
		closeAll(parts)
	}
}

// split takes the parts with a prefix out of found.
func split(found map[string][]int, prefix string) map[string][]int {
	out := make(map[string][]int)
	for part, fds := range found {
		if strings.HasPrefix(part, prefix) {
			out[part] = fds
			delete(found, part)
		}
	}
	return out
}

func closeAll(found map[string][]int) {
	for _, fds := range found {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
}

func discard(s *store, gateway string, parts []string) {
	for _, part := range parts {
		_ = s.remove(storeName(gateway, part))
	}
}
