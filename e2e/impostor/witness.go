package impostor

import "guardring/shmproto"

// Witness reads what the coordinators write into a gateway's region, and writes nothing. It may be used while another goroutine has
// the Impostor.
type Witness struct {
	guest *shmproto.Guest
	ring  [64]shmproto.Journal
}

// Witness returns one that sees the orders in the rings from now on.
func (i *Impostor) Witness() *Witness {
	return &Witness{guest: i.region.Guest(shmproto.MaxWriters-1, 0)} // it never asks for the lock
}

// Lease is what the coordinator in a host seat says of itself; false if that cannot be read now.
func (w *Witness) Lease(seat int) (shmproto.Lease, bool) {
	l, err := w.guest.ReadLease(seat)
	return l, err == nil
}

// Order is the order that stands for the member "default", as an honest agent reads it.
func (w *Witness) Order() (shmproto.Order, error) {
	var o shmproto.Order
	err := w.guest.ReadOrder(0, "default", &o)
	return o, err
}

// Issued is an order that a coordinator has written, as it notes it in its ring after the order itself.
type Issued struct {
	Term shmproto.Term
	Seq  shmproto.Seq
}

// Issued returns what was issued in a host seat since the last call, and how much of the ring was overwritten before it was read.
func (w *Witness) Issued(seat int) (all []Issued, lost uint64) {
	for {
		n, missing := w.guest.ReadJournal(seat, w.ring[:])
		lost += missing
		for _, j := range w.ring[:n] {
			if j.Kind == shmproto.JournalOrdered {
				all = append(all, Issued{shmproto.Term(j.Args[0]), shmproto.Seq(j.Args[1])})
			}
		}
		if n < len(w.ring) {
			return all, lost
		}
	}
}
