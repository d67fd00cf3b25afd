package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"guardring/e2e/impostor"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// counted are the ways that end by themselves and say how often they did it.
var counted = map[string]func(s *seat, until time.Time) int{
	"ring":   func(s *seat, until time.Time) int { return loop(until, s.ring) },
	"spin":   func(_ *seat, until time.Time) int { return loop(until, spin) },
	"random": scribble,
}

// onRegion are the ways that write into their own region until they are killed.
var onRegion = map[string]func(s *seat, args []string) error{
	"publish": publish,
	"claim":   claim,
	"invent":  invent,
	"clone":   clone,
	"many":    many,
	"churn":   churn,
	"replay":  replay,
	"block":   block,
}

// spin costs what a doorbell costs without ringing one.
func spin(peer ivshmem.PeerID, v ivshmem.Vector) error {
	store(nowhere, doorbell, uint32(peer)<<16|uint32(v))
	return nil
}

var nowhere = make([]byte, 16)

// loop rings the two host seats in turn.
func loop(until time.Time, ring func(ivshmem.PeerID, ivshmem.Vector) error) int {
	n := 0
	for time.Now().Before(until) {
		for range 1000 {
			if err := ring(ivshmem.PeerID(n%shmproto.HostSeats), shmproto.VectorChanged); err != nil {
				log.Fatal(err)
			}
			n++
		}
	}
	return n
}

// scribble overwrites the region, the parts of others included, which no honest guest does.
func scribble(s *seat, until time.Time) int {
	n := 0
	random := rand.NewChaCha8([32]byte{4})
	page := make([]byte, 4096)
	for time.Now().Before(until) {
		for at := 0; at < len(s.memory); at += len(page) {
			random.Read(page)
			copy(s.memory[at:], page)
		}
		if err := s.ringHosts(); err != nil {
			log.Fatal(err)
		}
		n++
	}
	return n
}

// parse reads guards as FINGERPRINT@ADDRESS: primary ones, the first of them in use.
func parse(args []string) (sample []impostor.Guard) {
	for n, arg := range args {
		fp, addr, _ := strings.Cut(arg, "@")
		sample = append(sample, impostor.Guard{Fingerprint: fp, Addr: addr, Primary: true, InUse: n == 0})
	}
	return sample
}

// invented makes guards that nobody has heard of: the first primary ones of a sample.
func invented(count, primary int) (sample []impostor.Guard) {
	for n := range count {
		var fp [20]byte
		for i := range fp {
			fp[i] = byte(rand.Uint32())
		}
		addr := netip.AddrFrom4([4]byte{11, fp[0], fp[1], 1})
		sample = append(sample, impostor.Guard{Fingerprint: strings.ToUpper(hex.EncodeToString(fp[:])), Addr: netip.AddrPortFrom(addr, 9001).String(),
			Primary: n < primary, InUse: n < primary})
	}
	return sample
}

// publish shows the guards again and again, with the first one in use every other time, so that no publication is as the one before.
func publish(s *seat, args []string) error {
	i, err := s.impostor()
	if err != nil {
		return err
	}
	sample := parse(args)
	for n := 0; ; n++ {
		sample[0].InUse = n%2 == 0
		if err := i.Publish(sample...); err != nil {
			return err
		}
		if n == 10 {
			fmt.Println("publishing")
		}
	}
}

// again does it at this pace until it fails.
func again(every time.Duration, do func(n int) error) error {
	for n := 0; ; n++ {
		if err := do(n); err != nil {
			return err
		}
		time.Sleep(every) // this machine is to go on working
	}
}

func claim(s *seat, args []string) error {
	i, err := s.impostor()
	if err != nil {
		return err
	}
	sample := append(parse(args), invented(17, 0)...)
	return again(100*time.Millisecond, func(n int) error {
		for k := range args {
			sample[k].InUse = k == n%len(args)
		}
		return i.Publish(sample...)
	})
}

// invent lies of every guard: another network, one family key in common, and lists that name all the others.
func invent(s *seat, args []string) error {
	i, err := s.impostor()
	if err != nil {
		return err
	}
	const key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	sample := parse(args)
	for k := range sample {
		g := &sample[k]
		g.Primary, g.InUse, g.FamilyIDs = k < 3, k < 3, []string{key}
		g.Addr = fmt.Sprintf("11.200.%d.1:9001", k)
		for other := range sample {
			if other != k {
				g.Family = append(g.Family, sample[other].Fingerprint)
			}
		}
	}
	return again(time.Second, func(int) error { return i.Publish(sample...) })
}

func clone(s *seat, args []string) error {
	i, err := s.impostor()
	if err != nil {
		return err
	}
	sample := parse(args)
	for k := range sample {
		sample[k].Primary = k < 3
	}
	return again(time.Second, func(int) error { return i.Publish(sample...) })
}

func many(s *seat, _ []string) error {
	i, err := s.impostor()
	if err != nil {
		return err
	}
	return again(time.Millisecond, func(n int) error {
		p, err := impostor.Compose(invented(shmproto.MaxGuards, shmproto.MaxGuards)...)
		if err != nil {
			return err
		}
		p.Member = fmt.Sprintf("m%d", n)
		return i.ShowIn(n%shmproto.MaxMembers, p)
	})
}

func churn(s *seat, _ []string) error {
	i, err := s.impostor()
	if err != nil {
		return err
	}
	return again(10*time.Millisecond, func(int) error { return i.Publish(invented(20, 3)...) })
}

// replay shows a state, goes on to another, and puts the whole region back to what it was.
func replay(s *seat, _ []string) error {
	i, err := s.impostor()
	if err != nil {
		return err
	}
	if err := i.Publish(invented(20, 3)...); err != nil {
		return err
	}
	old := append([]byte(nil), s.memory...)
	return again(100*time.Millisecond, func(n int) error {
		if n%2 == 0 {
			return i.Publish(invented(20, 3)...)
		}
		copy(s.memory, old)
		return s.ringHosts()
	})
}

// block makes it worth ringing its doorbell, and makes that wait.
func block(s *seat, args []string) error {
	i, err := s.impostor()
	if err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(s.bell), unix.F_SETFL, 0); err != nil {
		return err
	}
	full := binary.NativeEndian.AppendUint64(nil, math.MaxUint64-1)
	sample := append(parse(args), invented(17, 0)...)
	if err := i.Publish(sample...); err != nil {
		return err
	}
	for {
		// A write of the whole counter waits until somebody has emptied it, and fills it again at once.
		if _, err := unix.Write(s.bell, full); err != nil {
			return err
		}
	}
}
