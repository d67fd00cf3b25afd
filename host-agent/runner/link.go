package runner

import (
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

const (
	dialTime   = 2 * time.Second
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// link is one attached region. The loop owns it, except bell and paced.
type link struct {
	name    string
	client  *ivshmem.Client
	region  *shmproto.Region
	host    *shmproto.Host
	epoch   [16]byte                    // of the region
	seen    [shmproto.MaxMembers]uint64 // publication versions that were dealt with
	known   [shmproto.MaxMembers]bool   // seen is valid
	done    chan struct{}               // closed by close
	bell    chan struct{}               // asks the ringer to ring; one waiting request is enough
	missing int                         // how often in a row its socket was not there
	told    *seat                       // what the core was told of the guest seat; nil: nothing
	over    shmproto.Attachment         // its QEMU has ended, as libvirt says; 0: none
	budget  *rate.Limiter               // of steps that the ledger is written for
	paper   *rate.Limiter               // of bytes in the journal
	relief  *rate.Limiter               // of successors that get some of both, see relieve
	vm      string                      // the VM generation that the core was told of
	owed    bool                        // was left alone because one of the two was used up
	paced   atomic.Pointer[time.Time]   // when it last was faster than its pace, by doorbells or by what it says; nil: never
}

// attach makes a link of a connected client and starts its two goroutines. They
// end when the client is closed.
func attach(name string, c *ivshmem.Client, wake chan<- *link, pace *rate.Limiter, rung func()) (*link, error) {
	region, err := shmproto.Open(c.Memory)
	if err != nil {
		return nil, fmt.Errorf("gateway %s: %w", name, err)
	}
	if got := region.Header().Gateway; got != name {
		return nil, fmt.Errorf("gateway %s: the region says that it is %q", name, got)
	}
	if c.ID >= shmproto.HostSeats {
		return nil, fmt.Errorf("gateway %s: the server gave us seat %d, want a host seat", name, c.ID)
	}
	l := &link{
		name: name, client: c, region: region, host: region.Host(int(c.ID)), epoch: region.Header().RegionEpoch,
		done: make(chan struct{}), bell: make(chan struct{}, 1),
	}
	go l.wait(wake, pace)
	go l.ring(rung)
	return l, nil
}

// wait hands the link to the loop whenever its doorbell was rung, not faster
// than pace allows: what comes meanwhile is one doorbell.
func (l *link) wait(wake chan<- *link, pace *rate.Limiter) {
	bell := l.client.Interrupt(shmproto.VectorChanged)
	for {
		if _, err := bell.Wait(); err != nil {
			return // the loop has closed the client
		}
		if d := pace.Reserve().Delay(); d > 0 {
			l.hurried()
			select {
			case <-time.After(d):
			case <-l.done:
				return
			}
			_, _ = bell.Drain() // what was rung meanwhile is seen by the same look
		}
		select {
		case wake <- l:
		case <-l.done:
			return
		}
	}
}

// hurried notes that the gateway is faster than its pace. It may be called by
// any goroutine.
func (l *link) hurried() {
	now := time.Now()
	l.paced.Store(&now)
}

// relieve lets a new holder of the guest seat begin with a part of what a gateway
// may have us write down, where its predecessor has used up all. So that new
// holders are no way around the pace, it does so only once in a while: false
// otherwise.
func (l *link) relieve() bool {
	if !l.relief.Allow() {
		return false
	}
	for _, pace := range []**rate.Limiter{&l.budget, &l.paper} {
		burst := (*pace).Burst()
		*pace = rate.NewLimiter((*pace).Limit(), burst)
		(*pace).AllowN(time.Now(), burst-burst/reliefPart)
	}
	return true
}

// A new holder begins with this part of the bursts, once in the period.
const (
	reliefPart   = 4
	reliefPeriod = 10 * time.Minute
)

// close gives the seat up. Nobody may use host or region any more.
func (l *link) close() {
	close(l.done)
	close(l.bell)
	_ = l.client.Close()
}

// ring rings the guest for each request. A hostile guest may block it.
func (l *link) ring(rung func()) {
	for range l.bell {
		if l.client.Ring(shmproto.GuestSeat, shmproto.VectorChanged) == nil {
			rung()
		}
		point("doorbell-rung")
	}
}

// ask asks the ringer to ring; a request that waits already serves both.
func (l *link) ask() {
	select {
	case l.bell <- struct{}{}:
	default:
	}
}

// gone reports whether the connection to the server has ended. The memory and
// the doorbells work on.
func (l *link) gone() bool {
	select {
	case <-l.client.Gone():
		return true
	default:
		return false
	}
}
