package shmproto

import (
	"errors"
	"testing"
)

// orderScene is what the two seats show; zero terms show nothing.
type orderScene struct {
	name    string
	orders  [HostSeats]Order // only Epoch.Number, Term, Seq, Member
	leases  [HostSeats]Lease
	damaged [HostSeats]bool // the order cell
	want    Term            // of the order that counts; 0: an error
	wantErr error           // nil with want 0: a violation
}

func TestWhichOrderCounts(t *testing.T) {
	order := func(number uint64, term Term, seq Seq, member string) Order {
		return Order{Epoch: Epoch{Number: number}, Term: term, Seq: seq, Member: member}
	}
	acting := func(number uint64, term Term) Lease {
		return Lease{Epoch: Epoch{Number: number}, Term: term, Acting: true}
	}
	for _, s := range []orderScene{
		{name: "none", wantErr: ErrEmpty},
		{name: "higher term", orders: [2]Order{order(1, 4, 1, "m"), order(1, 3, 9, "m")}, want: 4},
		{name: "higher epoch", orders: [2]Order{order(1, 9, 1, "m"), order(2, 3, 1, "m")}, want: 3},
		{name: "another member's", orders: [2]Order{order(1, 4, 1, "m"), order(1, 9, 1, "other")}, want: 4},
		{name: "only another member's", orders: [2]Order{order(1, 4, 1, "x"), order(1, 9, 1, "y")}, wantErr: ErrEmpty},
		{name: "of the lease's term", orders: [2]Order{order(1, 4, 1, "m")}, leases: [2]Lease{acting(1, 4), acting(1, 3)}, want: 4},
		{name: "above the lease", orders: [2]Order{order(1, 4, 1, "m")}, leases: [2]Lease{acting(1, 3)}, want: 4},
		{name: "fenced by the other seat", orders: [2]Order{order(1, 4, 1, "m")}, leases: [2]Lease{acting(1, 4), acting(1, 5)}, wantErr: ErrEmpty},
		{name: "fenced by an epoch", orders: [2]Order{order(1, 4, 1, "m")}, leases: [2]Lease{acting(2, 1)}, wantErr: ErrEmpty},
		{name: "fenced by a term that acts no more", orders: [2]Order{order(1, 4, 1, "m")}, leases: [2]Lease{{Epoch: Epoch{Number: 1}, Term: 5}}, wantErr: ErrEmpty},
		{name: "damaged", orders: [2]Order{order(1, 4, 1, "m")}, damaged: [2]bool{true}},
		{name: "first damaged", orders: [2]Order{order(1, 4, 1, "m"), order(1, 3, 1, "m")}, damaged: [2]bool{true}, want: 3},
		{name: "second damaged", orders: [2]Order{order(1, 3, 1, "m"), order(1, 4, 1, "m")}, damaged: [2]bool{false, true}, want: 3},
		{name: "damaged and fenced", orders: [2]Order{order(1, 3, 1, "m"), order(1, 4, 1, "m")}, damaged: [2]bool{false, true}, leases: [2]Lease{{}, acting(1, 4)}},
	} {
		t.Run(s.name, func(t *testing.T) {
			r := newRegion(t)
			for seat := range HostSeats {
				h := r.Host(seat)
				if s.orders[seat].Term != 0 {
					if err := h.WriteOrder(0, &s.orders[seat]); err != nil {
						t.Fatal(err)
					}
				}
				if s.leases[seat].Term != 0 {
					h.SetLease(s.leases[seat])
				}
				if s.damaged[seat] {
					c := orderCell(hostArea(r.mem, seat), 0)
					c.mem[c.bufferOff(c.version())+recordHeaderSize] ^= 1
				}
			}
			got := Order{Member: "as before"}
			err := r.Guest(0, 1).ReadOrder(0, "m", &got)
			var v *ViolationError
			switch {
			case s.want != 0:
				if err != nil || got.Term != s.want {
					t.Errorf("order of term %d, %v, want term %d", got.Term, err, s.want)
				}
			case s.wantErr != nil && !errors.Is(err, s.wantErr), s.wantErr == nil && !errors.As(err, &v):
				t.Errorf("%v, want %v (nil: a violation)", err, s.wantErr)
			case got.Member != "as before":
				t.Errorf("an error has changed the caller's order to %+v", got)
			}
		})
	}
}

// The new holder of a seat writes what its predecessor never wrote, and readers
// notice its first record by the version.
func TestSeatHandedOn(t *testing.T) {
	r := newRegion(t)
	g := r.Guest(0, 1)
	var got Order
	for term := Term(1); term <= 9; term++ {
		h := r.Host(0)
		o := sampleOrder(int(term))
		o.Term = term
		before := orderCell(hostArea(r.mem, 0), 2).version()
		if err := h.WriteOrder(2, o); err != nil {
			t.Fatal(err)
		}
		if orderCell(hostArea(r.mem, 0), 2).version() == before {
			t.Fatal("the version has not changed")
		}
		if err := g.ReadOrder(2, "default", &got); err != nil || got.Term != term || len(got.Exclusions) != int(term) {
			t.Fatalf("order %+v, %v, want term %d", got, err, term)
		}
	}
}

// A lease that is being replaced whenever it is read might fence the order: so
// the order does not count. docs/model/lease.pml found this.
func TestNoOrderWithoutBothLeases(t *testing.T) {
	r := newRegion(t)
	g := newGuest(t, r, 0)
	if err := r.Host(0).WriteOrder(0, sampleOrder(2)); err != nil {
		t.Fatal(err)
	}
	var o Order
	if err := g.ReadOrder(0, "default", &o); err != nil {
		t.Fatalf("without any lease: %v", err)
	}
	// The other seat's lease has new versions all the time, and never a whole record.
	c := leaseCell(hostArea(r.mem, 1))
	c.fill(0, []byte{1, 2, 3, 4, 5, 6, 7, 8})
	c.fill(1, []byte{1, 2, 3, 4, 5, 6, 7, 8})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for v := uint64(10); ; v++ {
			store(c.mem, cellVersionOff, v)
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	whileOthersWrite(t, func() bool {
		o = Order{}
		err := g.ReadOrder(0, "default", &o)
		if err != nil && !errors.Is(err, ErrTorn) {
			t.Fatal(err)
		}
		return err != nil // else the versions were twice the same: the seat is damaged, and does not count
	})
	if o.Term != 0 {
		t.Errorf("it was copied out all the same: %+v", o)
	}
}
