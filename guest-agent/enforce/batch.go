package enforce

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

const chainName = "output"

// kind is one of a member's four sets.
type kind struct {
	suffix string
	v6     bool
	port   bool
}

var kinds = []kind{{"-port4", false, true}, {"-addr4", false, false}, {"-port6", true, true}, {"-addr6", true, false}}

func (k kind) keyType() nftables.SetDatatype {
	t := nftables.TypeIPAddr
	if k.v6 {
		t = nftables.TypeIP6Addr
	}
	if k.port {
		t = nftables.MustConcatSetType(t, nftables.TypeInetService)
	}
	return t
}

// elements are the member's addresses that belong into the set.
func (k kind) elements(r rules) []nftables.SetElement {
	var out []nftables.SetElement
	for _, a := range r.addrs {
		if !k.port && a.Is6() == k.v6 {
			out = append(out, nftables.SetElement{Key: a.AsSlice()})
		}
	}
	for _, a := range r.ports {
		if k.port && a.Addr().Is6() == k.v6 {
			// Each part of a concatenation fills whole words of four bytes.
			key := binary.BigEndian.AppendUint16(a.Addr().AsSlice(), a.Port())
			out = append(out, nftables.SetElement{Key: append(key, 0, 0)})
		}
	}
	return out
}

// take adds to r what an element of the set means.
func (k kind) take(r *rules, key []byte) error {
	size := 4
	if k.v6 {
		size = 16
	}
	if want := size + map[bool]int{true: 4}[k.port]; len(key) != want {
		return fmt.Errorf("an element of %d bytes where %d are meant", len(key), want)
	}
	a, _ := netip.AddrFromSlice(key[:size])
	if k.port {
		r.ports = append(r.ports, netip.AddrPortFrom(a, binary.BigEndian.Uint16(key[size:])))
	} else {
		r.addrs = append(r.addrs, a)
	}
	return nil
}

// match is the rule: this user, this family, an address of the set: count, drop.
func (k kind) match(member string, uid uint32, set *nftables.Set) []expr.Any {
	family, offset, size := byte(unix.NFPROTO_IPV4), uint32(16), uint32(4)
	port := uint32(unix.NFT_REG32_01)
	if k.v6 {
		family, offset, size, port = unix.NFPROTO_IPV6, 24, 16, unix.NFT_REG_2
	}
	e := []expr.Any{
		&expr.Meta{Key: expr.MetaKeySKUID, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, uid)},
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}, // destination
	}
	if k.port {
		e = append(e, &expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2})
	}
	return append(e,
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
		&expr.Objref{Type: int(nftables.ObjTypeCounter), Name: member},
		&expr.Verdict{Kind: expr.VerdictDrop})
}

// onlyOpening are the rules that let everything pass but the first packet of a
// TCP connection: SYN without ACK, FIN or RST.
func onlyOpening() [][]expr.Any {
	const fin, syn, rst, ack = 1, 2, 4, 16
	return [][]expr.Any{{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Verdict{Kind: expr.VerdictReturn},
	}, {
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{fin | syn | rst | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{syn}},
		&expr.Verdict{Kind: expr.VerdictReturn},
	}}
}

func (t *Table) table() *nftables.Table {
	return &nftables.Table{Name: t.name, Family: nftables.TableFamilyINet}
}

func (t *Table) chain() *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return &nftables.Chain{Table: t.table(), Name: chainName, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter, Policy: &accept}
}

func (t *Table) set(member string, k kind) *nftables.Set {
	return &nftables.Set{Table: t.table(), Name: member + k.suffix, KeyType: k.keyType(), Concatenation: k.port}
}

// comment marks a member's rule; it is how the rules are read back.
func comment(member string, k kind, uid uint32) []byte {
	return userdata.AppendString(nil, userdata.TypeComment, fmt.Sprintf("%s%s uid %d", member, k.suffix, uid))
}

// sync brings the kernel to what is wanted, in one batch. A table that was changed
// so that ours does not fit it any more is made anew.
func (t *Table) sync() error {
	err := t.write(false)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		if again := t.write(true); again != nil {
			return explain("write the rules", errors.Join(err, again))
		}
		return nil
	}
	return explain("write the rules", err)
}

func (t *Table) write(anew bool) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	there, err := t.there(c)
	if err != nil {
		return err
	}
	table := t.table()
	var old []*nftables.Set
	var counters []nftables.Obj
	if there && !anew {
		if old, err = c.GetSets(table); err != nil {
			return err
		}
		if counters, err = c.GetNamedObjects(table); err != nil {
			return err
		}
	}
	if there && anew {
		c.DelTable(table)
	}
	c.AddTable(table)
	chain := c.AddChain(t.chain())
	c.FlushChain(chain)
	for _, s := range old {
		if member, _, ok := memberOf(s.Name); !ok || t.want[member].uid == 0 {
			s.Table = table
			c.DelSet(s)
		}
	}
	for _, o := range counters {
		if n, ok := o.(*nftables.NamedObj); ok && t.want[n.Name].uid == 0 {
			n.Table = table
			c.DeleteObject(n)
		}
	}
	add := func(e []expr.Any, mark []byte) {
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: e, UserData: mark})
	}
	for _, e := range onlyOpening() {
		add(e, nil)
	}
	for _, member := range slices.Sorted(maps.Keys(t.want)) {
		r := t.want[member]
		c.AddObj(&nftables.NamedObj{Table: table, Name: member, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}})
		for _, k := range kinds {
			s := t.set(member, k)
			if err := c.AddSet(s, nil); err != nil {
				return err
			}
			c.FlushSet(s)
			if e := k.elements(r); len(e) > 0 {
				if err := c.SetAddElements(s, e); err != nil {
					return err
				}
			}
			add(k.match(member, r.uid, s), comment(member, k, r.uid))
		}
	}
	return c.Flush()
}

func (t *Table) there(c *nftables.Conn) (bool, error) {
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, explain("list the tables", err)
	}
	return slices.ContainsFunc(tables, func(o *nftables.Table) bool { return o.Name == t.name }), nil
}

// read returns the rules that are in the kernel, and whether there is everything
// around them that makes them work. A member whose rules make no sense is left
// out.
func (t *Table) read() (found map[string]rules, whole bool, err error) {
	found = map[string]rules{}
	c, err := nftables.New()
	if err != nil {
		return nil, false, explain("open netlink", err)
	}
	there, err := t.there(c)
	if err != nil || !there {
		return found, false, err
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, false, explain("list the chains", err)
	}
	i := slices.IndexFunc(chains, func(o *nftables.Chain) bool { return o.Table.Name == t.name && o.Name == chainName })
	if i < 0 {
		return found, false, nil
	}
	hooked := chains[i].Hooknum != nil && *chains[i].Hooknum == *nftables.ChainHookOutput
	list, err := c.GetRules(t.table(), t.chain())
	if err != nil {
		return nil, false, explain("list the rules", err)
	}
	for _, rule := range list {
		text, _ := userdata.GetString(rule.UserData, userdata.TypeComment)
		var name string
		var r rules
		if n, _ := fmt.Sscanf(text, "%s uid %d", &name, &r.uid); n != 2 || r.uid == 0 {
			continue
		}
		if member, suffix, ok := memberOf(name); ok && suffix == kinds[0].suffix {
			for _, k := range kinds {
				elements, err := c.GetSetElements(t.set(member, k))
				if err != nil {
					return nil, false, explain("read a set", err)
				}
				for _, e := range elements {
					if err := k.take(&r, e.Key); err != nil {
						return found, false, nil //nolint:nilerr // not ours any more: it is written anew
					}
				}
			}
			found[member] = r.sorted()
		}
	}
	return found, hooked && len(list) == len(onlyOpening())+len(kinds)*len(found) && t.ours(list), nil
}

// ours reports whether each rule ends as ours do, in number of steps and verdict.
func (t *Table) ours(list []*nftables.Rule) bool {
	for i, rule := range list {
		want := len(kinds[1].match("", 0, &nftables.Set{}))
		verdict := expr.VerdictDrop
		switch {
		case i < len(onlyOpening()):
			want, verdict = len(onlyOpening()[i]), expr.VerdictReturn
		case (i-len(onlyOpening()))%2 == 0:
			want++
		}
		if len(rule.Exprs) != want {
			return false
		}
		if v, ok := rule.Exprs[want-1].(*expr.Verdict); !ok || v.Kind != verdict {
			return false
		}
	}
	return true
}

// counters returns how many packets were dropped, by member.
func (t *Table) counters() (map[string]uint64, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, explain("open netlink", err)
	}
	there, err := t.there(c)
	if err != nil || !there {
		return nil, err
	}
	list, err := c.GetNamedObjects(t.table())
	if err != nil {
		return nil, explain("read the counters", err)
	}
	out := map[string]uint64{}
	for _, o := range list {
		if n, ok := o.(*nftables.NamedObj); ok {
			if counter, ok := n.Obj.(*expr.Counter); ok {
				out[n.Name] = counter.Packets
			}
		}
	}
	return out, nil
}
