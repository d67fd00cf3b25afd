// Command mayhem is a hostile or unlucky gateway. In a test's guest it runs as root and has the ivshmem device to itself through sysfs;
// with -socket it takes a gateway's guest seat on the host as a QEMU does, which is all that a taken-over QEMU can do to the host agents.
//
//	mayhem [-socket PATH] WAY [ARG…]
//
// By device or socket:
//
//	ring SECONDS     ring both host seats as fast as it can
//	spin SECONDS     the same loop without the doorbells: what it costs by itself
//	random SECONDS   fill the whole region with random bytes, again and again, and ring
//	publish GUARD…   publish well-formed records as fast as it can; GUARD is FINGERPRINT@ADDRESS
//	claim GUARD…     claim these guards, ten times a second with another one in use
//	invent GUARD…    say that these guards have other addresses and one family
//	clone GUARD…     show exactly this sample
//	many             show 60 invented guards in each of 8 slots, ever others under ever new names, as fast as it can
//	churn            claim three other guards a hundred times a second
//	replay           put an old state of the whole region back, ten times a second
//
// By socket only:
//
//	block GUARD…     claim these guards, and make whoever rings its doorbell wait: no O_NONBLOCK, a full counter
//	garbage          connect and send random bytes, again and again
//	connections      keep a thousand connections open, and open them again
//	descriptors      connect and pass a hundred descriptors, again and again
//	stall            connect two hundred times and read nothing
//
// A way with SECONDS prints how often it did it; the others go on until they are killed. With -socket it says "begun" when it has begun.
//
// Trust: it is the untrusted side.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("mayhem: ")
	socket := flag.String("socket", "", "the gateway's socket; without it, the device")
	flag.Parse()
	if err := run(*socket, flag.Args()); err != nil {
		log.Fatal(err)
	}
}

func run(socket string, args []string) error {
	if len(args) == 0 {
		return errors.New("want a way and its arguments")
	}
	way, args := args[0], args[1:]
	if do := atSocket[way]; do != nil {
		fmt.Println("begun")
		return do(socket)
	}
	g, err := open(socket)
	if err != nil {
		return err
	}
	if do := onRegion[way]; do != nil {
		if socket != "" {
			fmt.Println("begun")
		}
		return do(g, args)
	}
	count := counted[way]
	if count == nil {
		return fmt.Errorf("unknown way %q", way)
	}
	if len(args) != 1 {
		return errors.New("for how many seconds?")
	}
	seconds, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	if socket != "" {
		fmt.Println("begun")
	}
	fmt.Fprintln(os.Stdout, count(g, time.Now().Add(time.Duration(seconds)*time.Second)))
	return nil
}
