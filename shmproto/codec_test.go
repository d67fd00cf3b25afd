package shmproto

import (
	"errors"
	"net/netip"
	"reflect"
	"regexp"
	"testing"

	"guardring/internal/guardstate"
)

// TestGuestsStateNoTime: guests' clocks are theirs to set, and Whonix's are wrong on purpose.
// So nothing that a guest writes has a place for one: no duration or date, under no name
// that would be one.
func TestGuestsStateNoTime(t *testing.T) {
	dated := regexp.MustCompile(`(Time|Date|Clock|Since|Until|[a-z]On|[a-z]At)$`)
	var look func(path string, r reflect.Type)
	seen := map[string]int{}
	look = func(path string, r reflect.Type) {
		seen[r.String()]++
		if r.PkgPath() == "time" {
			t.Errorf("%s is a %s", path, r)
		}
		switch r.Kind() {
		case reflect.Slice, reflect.Array, reflect.Pointer:
			look(path+"[]", r.Elem())
		case reflect.Struct:
			for i := range r.NumField() {
				f := r.Field(i)
				if !f.IsExported() {
					continue
				}
				if dated.MatchString(f.Name) {
					t.Errorf("%s.%s sounds like a time", path, f.Name)
				}
				look(path+"."+f.Name, f.Type)
			}
		}
	}
	look("Publication", reflect.TypeFor[Publication]())
	look("Journal", reflect.TypeFor[Journal]())
	if seen["shmproto.Guard"] == 0 || seen["shmproto.Receipt"] == 0 {
		t.Errorf("looked at %v only", seen)
	}
}

// Every rule of the publication's payload is broken once, on the encoding side.
func TestPublishRefuses(t *testing.T) {
	addr := netip.MustParseAddrPort
	for name, spoil := range map[string]func(*Publication){
		"state":               func(p *Publication) { p.State = MemberLeft + 1 },
		"no name":             func(p *Publication) { p.Member = "" },
		"name":                func(p *Publication) { p.Member = "De fault" },
		"absent with name":    func(p *Publication) { p.State, p.Guards = MemberAbsent, nil },
		"refused with guards": func(p *Publication) { p.State = MemberRefused },
		"selection":           func(p *Publication) { p.Selection = SelectionBridges + 1 },
		"percent":             func(p *Publication) { p.PassPercent = 101 },
		"primaries":           func(p *Publication) { p.NumPrimary = MaxGuards + 1 },
		"member flags":        func(p *Publication) { p.Flags |= 1 << 31 },
		"version":             func(p *Publication) { p.TorVersion = "0.4\n" },
		"receipt status":      func(p *Publication) { p.Receipt.Status = ReceiptFailed + 1 },
		"receipt of nothing":  func(p *Publication) { p.Receipt.Status = ReceiptNone },
		"61 guards":           func(p *Publication) { p.Guards = samplePublication(MaxGuards+1, false).Guards },
		"zero fingerprint":    func(p *Publication) { p.Guards[1].Fingerprint = guardstate.Fingerprint{} },
		"same fingerprint":    func(p *Publication) { p.Guards[1].Fingerprint = p.Guards[0].Fingerprint },
		"guard flags":         func(p *Publication) { p.Guards[1].Flags |= 1 << 31 },
		"no port":             func(p *Publication) { p.Guards[1].Addrs[0] = addr("10.1.1.1:0") },
		"zone":                func(p *Publication) { p.Guards[1].Addrs[1] = addr("[fe80::1%eth0]:1") },
		"mapped":              func(p *Publication) { p.Guards[1].Addrs[1] = addr("[::ffff:1.2.3.4]:1") },
		"unspecified":         func(p *Publication) { p.Guards[1].Addrs[1] = addr("[::]:1") },
		"no address":          func(p *Publication) { p.Guards[1].Addrs[1] = netip.AddrPort{} },
		"same address":        func(p *Publication) { p.Guards[1].Addrs[1] = p.Guards[1].Addrs[0] },
		"IPv4 last":           func(p *Publication) { p.Guards[1].Addrs = append(p.Guards[1].Addrs, addr("10.1.1.1:1")) },
		"five addresses": func(p *Publication) {
			p.Guards[1].Addrs = []netip.AddrPort{addr("1.1.1.1:1"), addr("1.1.1.1:2"), addr("1.1.1.1:3"), addr("1.1.1.1:4"), addr("1.1.1.1:5")}
		},
		"family IDs": func(p *Publication) { p.Guards[1].FamilyIDs = make([][32]byte, 2) },
		"family":     func(p *Publication) { p.Guards[1].Family = make([]guardstate.Fingerprint, 1) },
	} {
		r := newRegion(t)
		g, h := newGuest(t, r, 0), r.Host(0)
		p := samplePublication(3, false)
		spoil(p)
		if err := g.Publish(0, p); err == nil {
			t.Errorf("%s: published", name)
		}
		if err := h.ReadPublication(0, p); !errors.Is(err, ErrEmpty) {
			t.Errorf("%s: a refused publication shows: %v", name, err)
		}
	}
}

func TestWriteOrderRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Order){
		"no name":    func(o *Order) { o.Member = "" },
		"term 0":     func(o *Order) { o.Term = 0 },
		"seq 0":      func(o *Order) { o.Seq = 0 },
		"21":         func(o *Order) { o.Exclusions = fingerprints(0, MaxExclusions+1) },
		"repeated":   func(o *Order) { o.Exclusions[1] = o.Exclusions[0] },
		"descending": func(o *Order) { o.Exclusions[0], o.Exclusions[1] = o.Exclusions[1], o.Exclusions[0] },
		"zero":       func(o *Order) { o.Exclusions[0] = guardstate.Fingerprint{} },
	} {
		r := newRegion(t)
		o := sampleOrder(3)
		spoil(o)
		if err := r.Host(0).WriteOrder(0, o); err == nil {
			t.Errorf("%s: written", name)
		}
		if o.Digest() != [16]byte{} {
			t.Errorf("%s: has a digest", name)
		}
		if err := r.Guest(0, 1).ReadOrder(0, "default", o); !errors.Is(err, ErrEmpty) {
			t.Errorf("%s: a refused order shows: %v", name, err)
		}
	}
}

func TestActingInTermZeroPanics(t *testing.T) {
	h := newRegion(t).Host(0)
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	h.SetLease(Lease{Acting: true})
}

// Fields of a newer build: optional ones are skipped, mandatory ones refused.
func TestUnknownFields(t *testing.T) {
	o := sampleOrder(1)
	payload := o.appendTo(nil)
	var got Order
	skipped, err := got.decode(append(appendField(payload, 9, 2), 1, 2))
	if err != nil || skipped != 1 || got.Digest() != o.Digest() {
		t.Errorf("optional field: skipped %d, %v", skipped, err)
	}
	var v *ViolationError
	if _, err := got.decode(append(appendField(payload, 9|mandatoryTag, 2), 1, 2)); !errors.As(err, &v) || v.Offset != len(payload) {
		t.Errorf("mandatory field: %v, want a violation at %#x", err, len(payload))
	}
}

// On an error the caller's publication stays as it was.
func TestReadErrorKeepsDestination(t *testing.T) {
	r := newRegion(t)
	g, h := newGuest(t, r, 0), r.Host(0)
	want := samplePublication(3, false)
	var p Publication
	if err := g.Publish(0, want); err != nil {
		t.Fatal(err)
	}
	if err := h.ReadPublication(0, &p); err != nil {
		t.Fatal(err)
	}
	c := publicationCell(guestArea(r.mem), 0)
	b := c.mem[c.bufferOff(c.version()):]
	b[recordHeaderSize+4] = '/' // the member's name
	record := c.buffer()
	le.PutUint64(b, checksum(record[recordVersionOff:]))
	var v *ViolationError
	if err := h.ReadPublication(0, &p); !errors.As(err, &v) || v.Offset != 4 {
		t.Fatalf("read a bad name: %v, want a violation at 4", err)
	}
	if p.Member != "default" || len(p.Guards) != 3 || p.Guards[2].Fingerprint != want.Guards[2].Fingerprint {
		t.Errorf("the destination has changed: %+v", p)
	}
}
