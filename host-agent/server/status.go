package server

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"guardring/host-agent/rundir"
	"guardring/shmproto"
)

// Status is the document on RUN/server.sock.
type Status struct {
	PID         int             `json:"pid"`
	Started     time.Time       `json:"started"`
	RunDir      string          `json:"run_dir"`
	Store       bool            `json:"store"` // descriptors are in the service manager's store
	Descriptors Descriptors     `json:"descriptors"`
	Goroutines  int             `json:"goroutines"` // flat while nothing leaks
	Gateways    []GatewayStatus `json:"gateways"`   // sorted by name
	LeaseBoard  GatewayStatus   `json:"lease_board"`
}

// Gateway returns the gateway of that name; ok is false if the server has none.
func (s Status) Gateway(name string) (g GatewayStatus, ok bool) {
	i := slices.IndexFunc(s.Gateways, func(g GatewayStatus) bool { return g.Name == name })
	if i < 0 {
		return GatewayStatus{}, false
	}
	return s.Gateways[i], true
}

// Descriptors says how many the server has open and may have.
type Descriptors struct {
	Open  int    `json:"open"`
	Limit uint64 `json:"limit"`
}

// GatewayStatus is one region.
type GatewayStatus struct {
	Name        string              `json:"name"`
	Socket      string              `json:"socket,omitempty"` // the guest seat's
	RegionEpoch string              `json:"region_epoch"`
	Attachment  shmproto.Attachment `json:"attachment"`
	TakenOver   bool                `json:"taken_over"` // from an earlier server, by the store
	Seats       []SeatStatus        `json:"seats"`
	// Connections counts by reason since this server started.
	Connections  uint64            `json:"connections"`
	Refused      map[string]uint64 `json:"refused"`
	Disconnected map[string]uint64 `json:"disconnected"`
	// Troubles are what went wrong at its sockets and in its header in the last
	// minute, and what happened too often. An honest gateway causes none.
	Troubles []Trouble `json:"troubles,omitempty"`
}

// Guest returns the guest seat; its zero value if the document has none.
func (g GatewayStatus) Guest() SeatStatus {
	for _, s := range g.Seats {
		if s.Seat == shmproto.GuestSeat {
			return s
		}
	}
	return SeatStatus{}
}

// Trouble is one kind of event that an honest gateway does not cause, or not so
// often.
type Trouble struct {
	What  string    `json:"what"`
	Times uint64    `json:"times"` // since this server started
	Last  time.Time `json:"last"`
}

// SeatStatus is one seat of a region.
type SeatStatus struct {
	Seat  int    `json:"seat"`
	State string `json:"state"` // see the constants
	// The rest means nothing for a free seat.
	PID   int       `json:"pid,omitempty"`
	UID   uint32    `json:"uid"`
	GID   uint32    `json:"gid"`
	Since time.Time `json:"since,omitzero"` // held, as far as this server knows
}

// The states of a seat.
const (
	SeatFree      = "free"
	SeatConnected = "connected"
	// SeatLost: the connection is closed, but the process lives and has the
	// memory still.
	SeatLost = "lost"
)

// Status returns what the server does at this moment.
func (s *Server) Status() Status {
	st := Status{
		PID:         os.Getpid(),
		RunDir:      s.cfg.RunDir,
		Store:       s.cfg.Store,
		Descriptors: descriptors(),
		Goroutines:  runtime.NumGoroutine(),
		Gateways:    []GatewayStatus{},
	}
	s.mu.Lock()
	st.Started = s.started
	s.mu.Unlock()
	for _, g := range s.regions() {
		if g.name == rundir.Board {
			st.LeaseBoard = g.status()
			continue
		}
		st.Gateways = append(st.Gateways, g.status())
	}
	return st
}

func descriptors() Descriptors {
	var d Descriptors
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		d.Open = len(open)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		d.Limit = limit.Cur
	}
	return d
}

func (g *gateway) status() GatewayStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	st := GatewayStatus{
		Name:         g.name,
		RegionEpoch:  g.region.epochString(),
		TakenOver:    g.region.adopted,
		Refused:      make(map[string]uint64),
		Disconnected: make(map[string]uint64),
	}
	if g.guest != nil {
		st.Socket = g.guest.path
	}
	if g.ctx.Err() == nil {
		st.Attachment, _ = g.region.attachment()
	}
	for kind, n := range g.tally.totals() {
		if reason, ok := strings.CutPrefix(kind, "refused: "); ok {
			st.Refused[reason] = n
		}
		if reason, ok := strings.CutPrefix(kind, eventDisconnected); ok {
			st.Disconnected[reason] = n
		}
		if strings.HasPrefix(kind, eventSeatTaken) {
			st.Connections += n
		}
	}
	st.Troubles = g.tally.troubles(time.Now())
	for _, s := range g.seats {
		st.Seats = append(st.Seats, s.status())
	}
	return st
}

func (s *seat) status() SeatStatus {
	st := SeatStatus{Seat: int(s.id), State: SeatFree}
	h := s.holder
	if h == nil {
		return st
	}
	st.State = SeatConnected
	if h.link == nil {
		st.State = SeatLost
	}
	st.PID, st.UID, st.GID, st.Since = h.process.pid, h.uid, h.gid, h.since
	return st
}
