package coordinator

import (
	"cmp"
	"slices"
	"time"

	"guardring/shmproto"
)

// gateway is what is known of one region. All of it is volatile.
type gateway struct {
	name       string
	present    bool
	attachment shmproto.Attachment // highest seen since the region was attached
	slots      [shmproto.MaxMembers]*member
	stale      int
	generation string // of its VM; "" while not known

	violations  int       // since the start
	window      time.Time // when the present count began
	inWindow    int
	reason      string // of the last violation
	quarantined time.Time
	valid       bool // a valid publication came since the last violation
	calm        int  // ticks since then
}

func (g *gateway) inQuarantine() bool { return !g.quarantined.IsZero() }

// gateway returns the gateway of that name. Names come from the host's
// configuration, so their number is bounded.
func (c *Coordinator) gateway(name string) *gateway {
	g := c.gatewayOf[name]
	if g == nil {
		g = &gateway{name: name, present: true}
		i, _ := slices.BinarySearchFunc(c.gateways, name, func(g *gateway, n string) int { return cmp.Compare(g.name, n) })
		c.gateways = slices.Insert(c.gateways, i, g)
		c.gatewayOf[name] = g
	}
	return g
}

// membersOf returns the known members of a gateway, shown or not, sorted.
func (c *Coordinator) membersOf(gateway string) []*member {
	from, _ := slices.BinarySearchFunc(c.members, Member{Gateway: gateway}, func(m *member, n Member) int { return m.name.Compare(n) })
	to := from
	for to < len(c.members) && c.members[to].name.Gateway == gateway {
		to++
	}
	return c.members[from:to]
}

// Knows reports whether anything is known of a member of the gateway, shown or
// not.
func (c *Coordinator) Knows(gateway string) bool { return len(c.membersOf(gateway)) > 0 }

// gatewaySeen: a gateway is there, or is there no more; then its members are away
// at once, also those that are only known from the ledger. Attachments are
// counted anew in each region, so they are compared only within one.
func (c *Coordinator) gatewaySeen(e GatewaySeen) {
	g := c.gateway(e.Gateway)
	g.present, g.attachment = e.Present, 0
	c.generationSeen(g, e.Generation)
	if !e.Present {
		for _, m := range c.membersOf(g.name) {
			c.becomeAway(m)
		}
	}
}

// violated counts a breach of the protocol. A quarantined gateway keeps its
// claims, or others could be led to its guards, and makes new ones as a newcomer
// like any other; but it gets no orders.
func (c *Coordinator) violated(e Violated) {
	g := c.gateway(e.Gateway)
	g.violations++
	g.reason = e.Reason
	g.valid, g.calm = false, 0
	if g.inWindow == 0 || c.now.Sub(g.window) > c.cfg.ViolationWindow {
		g.window, g.inWindow = c.now, 0
	}
	g.inWindow++
	if g.inWindow >= c.cfg.ViolationLimit && !g.inQuarantine() {
		c.becomeQuarantined(g)
	}
}

func (c *Coordinator) becomeQuarantined(g *gateway) {
	g.quarantined = c.now
	c.quarantined = append(c.quarantined, g)
	c.notify(Notice{Kind: NoticeQuarantined, Member: Member{Gateway: g.name}, Count: g.inWindow, Reason: g.reason})
}

// becomeTrusted ends a quarantine. Orders that were held back are written now.
func (c *Coordinator) becomeTrusted(g *gateway) {
	g.quarantined, g.inWindow = time.Time{}, 0
	c.notify(Notice{Kind: NoticeReleased, Member: Member{Gateway: g.name}})
	for _, m := range g.slots {
		if m != nil {
			c.endHeld(m)
			c.endLeft(m)
			c.writeAnew(m)
			c.touch(m)
		}
	}
}

// calmDown counts a tick for the gateways in quarantine.
func (c *Coordinator) calmDown() {
	c.quarantined = slices.DeleteFunc(c.quarantined, func(g *gateway) bool {
		if g.valid {
			g.calm++
		}
		if g.calm < c.cfg.QuarantineTicks {
			return false
		}
		c.becomeTrusted(g)
		return true
	})
}

// floor is the highest number that an order of a forgotten member of a gateway had: one
// that returns starts above it. Each gateway has its own: by a common one the number of
// a newcomer's first order would tell of others' orders. Gateway "" is in ledgers of
// earlier builds, which had one for all.
type floor struct {
	gateway string
	seq     uint64
}

// floorOf returns above which number an order of a gateway's members must be.
func (c *Coordinator) floorOf(gateway string) (seq uint64) {
	for _, f := range c.floors {
		if f.gateway == gateway || f.gateway == "" {
			seq = max(seq, f.seq)
		}
	}
	return seq
}

// raiseFloor notes the number of a forgotten member's last order.
func (c *Coordinator) raiseFloor(gateway string, seq uint64) {
	if seq == 0 {
		return
	}
	i, found := slices.BinarySearchFunc(c.floors, gateway, func(f floor, n string) int { return cmp.Compare(f.gateway, n) })
	if !found {
		c.floors = slices.Insert(c.floors, i, floor{gateway: gateway})
	}
	c.floors[i].seq = max(c.floors[i].seq, seq)
}
