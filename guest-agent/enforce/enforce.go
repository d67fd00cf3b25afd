// Package enforce keeps Tors from connecting to excluded guards with the kernel's
// packet filter (nftables): a second line of defence at the first hop, for a Tor
// whose own options were taken away by somebody else. It is the only importer of
// github.com/google/nftables.
//
// It has one table of its own (inet) and touches no other. Each Tor has a user of
// its own; what that user sends is looked at in the output hook:
//
//	table inet guardring-guest {
//	    counter web { packets 0 bytes 0 }
//	    set web-port4 { type ipv4_addr . inet_service; elements = { 10.0.0.1 . 443 } }
//	    set web-addr4 { type ipv4_addr; }
//	    ...                       the same for IPv6
//	    chain output {
//	        type filter hook output priority filter; policy accept;
//	        meta l4proto != tcp return
//	        tcp flags & (fin | syn | rst | ack) != syn return
//	        meta skuid 107 ip daddr . tcp dport @web-port4 counter name "web" drop
//	        ...
//	    }
//	}
//
// Only the first packet of a connection is dropped, so what is established lives
// on; and no connection tracking is needed, which would see connections older
// than itself as new. Every change is one batch, which the kernel takes whole or
// not at all. The rules outlive the agent: they protect while it is away.
//
// Trust: the table is ours, but root may change or flush it: Check puts it right.
// What is read back is compared, never obeyed beyond a member's own sets.
package enforce

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/google/nftables"

	"guardring/internal/guardstate"
	"guardring/internal/hint"
)

// Table is our table. It is safe for concurrent use.
type Table struct {
	name string

	mu     sync.Mutex
	taken  bool              // want holds what the kernel had
	want   map[string]rules  // by member
	shared map[string]string // members whose rules were refused: they share their user with this one
}

// rules are what one member's user must not reach.
type rules struct {
	uid   uint32
	ports []netip.AddrPort // sorted, no doubles
	addrs []netip.Addr     // at every port
}

func (r rules) equal(o rules) bool {
	return r.uid == o.uid && slices.Equal(r.ports, o.ports) && slices.Equal(r.addrs, o.addrs)
}

func (r rules) sorted() rules {
	slices.SortFunc(r.ports, netip.AddrPort.Compare)
	slices.SortFunc(r.addrs, netip.Addr.Compare)
	r.ports, r.addrs = slices.Compact(r.ports), slices.Compact(r.addrs)
	return r
}

// New returns the table of this name. The kernel is asked by the methods: the first
// that succeeds takes over the rules that are there already. Their errors say
// what to do.
func New(name string) *Table {
	return &Table{name: name, want: map[string]rules{}, shared: map[string]string{}}
}

// takeOver makes the rules that are in the kernel ours, once.
func (t *Table) takeOver() error {
	if t.taken {
		return nil
	}
	found, _, err := t.read()
	if err == nil {
		t.want, t.taken = found, true
	}
	return err
}

// Name is the table's, as nft(8) writes it.
func (t *Table) Name() string { return "inet " + t.name }

// Set has new connections of a member's user to these addresses dropped, and to
// no others any more. Two members with one user cannot be told apart: then
// neither has rules, or the one's would cut the other off from its own guards.
func (t *Table) Set(member string, uid uint32, rejects []guardstate.Reject) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.takeOver(); err != nil {
		return err
	}
	r := rules{uid: uid}
	for _, x := range rejects {
		for _, a := range x.Addrs {
			a = netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
			if x.Whole {
				r.addrs = append(r.addrs, a.Addr())
			} else {
				r.ports = append(r.ports, a)
			}
		}
	}
	if uid == 0 {
		return errors.Join(t.drop(member), hint.Wrap(errors.New("this Tor runs as root: rules for it would hit every program of root"), "give it a user of its own (User in its torrc)"))
	}
	delete(t.shared, member)
	for other, o := range t.want {
		if other != member && o.uid == uid {
			t.shared[member], t.shared[other] = other, member
			return errors.Join(t.drop(other, member), t.fault(member))
		}
	}
	for other, with := range t.shared {
		if with == member {
			delete(t.shared, other) // it says so again if it is still so
		}
	}
	r = r.sorted()
	if old, ok := t.want[member]; ok && old.equal(r) {
		return t.check()
	}
	before := maps.Clone(t.want)
	t.want[member] = r
	if err := t.sync(); err != nil {
		t.want = before
		return err
	}
	return nil
}

// fault says why a member has no rules; nil if nothing is wrong with it.
func (t *Table) fault(member string) error {
	if other, ok := t.shared[member]; ok {
		return hint.Wrap(fmt.Errorf("this Tor and %s run as the same user and cannot be told apart", other), "give each Tor a user of its own, as tor-instance-create does")
	}
	return nil
}

// Drop takes a member's rules away.
func (t *Table) Drop(member string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.shared, member)
	if err := t.takeOver(); err != nil {
		return err
	}
	return t.drop(member)
}

func (t *Table) drop(members ...string) error {
	n := len(t.want)
	for _, m := range members {
		delete(t.want, m)
	}
	if len(t.want) == n {
		return nil
	}
	return t.sync()
}

// Keep takes away the rules of all members but these.
func (t *Table) Keep(members []string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.takeOver(); err != nil {
		return err
	}
	var gone []string
	for m := range t.want {
		if !slices.Contains(members, m) {
			gone = append(gone, m)
		}
	}
	return t.drop(gone...)
}

// Check puts the table right if somebody else has changed or flushed it. Members'
// counters may start anew.
func (t *Table) Check() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.check()
}

func (t *Table) check() error {
	if err := t.takeOver(); err != nil {
		return err
	}
	if len(t.want) == 0 {
		return nil
	}
	found, whole, err := t.read()
	if err != nil {
		return err
	}
	if whole && maps.EqualFunc(found, t.want, rules.equal) {
		return nil
	}
	return t.sync()
}

// Remove deletes the table, if it is there.
func (t *Table) Remove() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.want)
	clear(t.shared)
	c, err := nftables.New()
	if err != nil {
		return explain("open netlink", err)
	}
	there, err := t.there(c)
	if err != nil || !there {
		return err
	}
	c.DelTable(t.table())
	return explain("delete the table", c.Flush())
}

// State is what a member's rules are and have done.
type State struct {
	UID       uint32
	Addresses int    // how many addresses are barred
	Dropped   uint64 // packets: attempts to connect, each several times
	Err       error  // why there are no rules
}

// State returns what is in the kernel now, by member; a member that Set was never
// called for is not in it.
func (t *Table) State() (map[string]State, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.takeOver(); err != nil {
		return nil, err
	}
	out := map[string]State{}
	for m := range t.shared {
		out[m] = State{Err: t.fault(m)}
	}
	if len(t.want) == 0 {
		return out, nil
	}
	found, whole, err := t.read()
	if err != nil {
		return nil, err
	}
	dropped, err := t.counters()
	if err != nil {
		return nil, err
	}
	for m, r := range t.want {
		s := State{UID: r.uid, Addresses: len(r.ports) + len(r.addrs), Dropped: dropped[m]}
		if !whole || !found[m].equal(r) {
			s.Err = hint.Wrap(fmt.Errorf("somebody else has changed the table %s: the rules are not whole", t.Name()), "they are put right within half a minute; let other firewalls leave this table alone")
		}
		out[m] = s
	}
	return out, nil
}

// explain adds what to do about the kernel's refusals.
func explain(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return hint.Wrap(fmt.Errorf("nftables: %s: %w", what, err), "give the agent CAP_NET_ADMIN (AmbientCapabilities=CAP_NET_ADMIN in its unit), or set enforce: none")
	case errors.Is(err, syscall.EPROTONOSUPPORT), errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.EAFNOSUPPORT),
		errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EINVAL):
		return hint.Wrap(fmt.Errorf("nftables: %s: %w", what, err), "the kernel needs nf_tables (try: modprobe nf_tables), or set enforce: none")
	}
	return fmt.Errorf("nftables: %s: %w", what, err)
}

// memberOf takes a set's name apart.
func memberOf(set string) (member, suffix string, ok bool) {
	i := strings.LastIndexByte(set, '-')
	if i < 0 {
		return "", "", false
	}
	return set[:i], set[i:], true
}
