// Command standin is a gateway without a VM, an agent and a Tor: it takes the guest seat, shows a sample of guards of which the first three are
// primary and the first is in use, and obeys every order at once.
//
//	standin [-uuid UUID] SOCKET FINGERPRINT...
//
// It prints a line for each thing that happens. The UUID is only there to be seen on its command line, as a QEMU's is.
//
// Trust: it is for hosts that a test made. Its relays are inventions.
package main

import (
	"flag"
	"fmt"
	"log"
	"slices"
	"strconv"
	"time"

	"guardring/e2e/impostor"
	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// patience is longer than any test.
const patience = time.Hour

// primaries is how many guards a Tor keeps in use or ready.
const primaries = 3

func main() {
	log.SetFlags(0)
	_ = flag.String("uuid", "", "what a QEMU's command line would say")
	flag.Parse()
	if flag.NArg() <= primaries {
		log.Fatal("standin [-uuid UUID] SOCKET FINGERPRINT...")
	}
	if err := stand(flag.Arg(0), flag.Args()[1:]); err != nil {
		log.Fatalf("standin: %v", err)
	}
}

func stand(socket string, sample []string) error {
	seat, err := impostor.Take(socket)
	if err != nil {
		return err
	}
	defer seat.Close()
	fmt.Println("seat taken")
	var order shmproto.Order
	for {
		if err := show(seat, sample, &order); err != nil {
			return err
		}
		if order, err = seat.AwaitOrder(uint64(order.Seq), patience); err != nil {
			return err
		}
		fmt.Println("order", order.Seq)
	}
}

// show publishes the sample without what the order excludes, and says that the order is carried out.
func show(seat *impostor.Impostor, sample []string, order *shmproto.Order) error {
	var guards []impostor.Guard
	left := primaries
	for _, fp := range sample {
		id, err := guardstate.ParseFingerprint(fp)
		if err != nil {
			return err
		}
		g := impostor.Guard{Fingerprint: fp, Addr: address(fp)}
		if !slices.Contains(order.Exclusions, id) && left > 0 {
			g.Primary, g.InUse = true, left == primaries
			left--
		}
		guards = append(guards, g)
	}
	p, err := impostor.Compose(guards...)
	if err != nil {
		return err
	}
	for n := range p.Guards {
		if slices.Contains(order.Exclusions, p.Guards[n].Fingerprint) {
			p.Guards[n].Flags |= shmproto.GuardExcluded
		}
	}
	if order.Seq > 0 {
		p.Receipt = shmproto.Receipt{Epoch: order.Epoch, Term: order.Term, Seq: order.Seq, Digest: order.Digest(), Status: shmproto.ReceiptApplied}
	}
	return seat.Show(p)
}

// address is the same wherever the relay is named, and most probably another one for another relay.
func address(fp string) string {
	var n byte
	for _, c := range []byte(fp) {
		n = n*31 + c
	}
	return "10." + strconv.Itoa(int(n)) + ".0.1:9001"
}
