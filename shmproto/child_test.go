package shmproto

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Tests with a second process run this test binary again. Its work is named in
// childEnv as "role n"; the region is file descriptor 3.
const childEnv = "SHMPROTO_TEST_CHILD"

// emulator runs children where the kernel cannot run this binary by itself:
//
//	GOARCH=arm64 go test -exec qemu-aarch64 . -args -emulator qemu-aarch64
var emulator = flag.String("emulator", "", "program that runs this test's child processes")

// Exit codes of a child.
const (
	exitDone   = 0
	exitFault  = 1 // the test is wrong, or the code is
	exitFenced = 3 // found itself passed over
	exitLocked = 4 // did not get the lock
)

func TestMain(m *testing.M) {
	if work, ok := os.LookupEnv(childEnv); ok {
		os.Exit(runChild(work))
	}
	os.Exit(m.Run())
}

func runChild(work string) int {
	role, arg, _ := strings.Cut(work, " ")
	n, err := strconv.Atoi(arg)
	mem, err2 := mapRegion(os.NewFile(3, "region"))
	if err = errors.Join(err, err2); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFault
	}
	// The signal must hit the thread that stores.
	runtime.LockOSThread()
	self := func(sig syscall.Signal) func() {
		return func() {
			syscall.Syscall(syscall.SYS_TGKILL, uintptr(os.Getpid()), uintptr(syscall.Gettid()), uintptr(sig))
		}
	}
	switch role {
	case "agent-kill":
		atStore(n, self(syscall.SIGKILL))
		return childAgent(mem)
	case "agent-stop":
		atStore(n, self(syscall.SIGSTOP))
		return childAgent(mem)
	case "host-kill":
		r, err := Open(mem)
		if err != nil {
			return exitFault
		}
		atStore(n, self(syscall.SIGKILL))
		return childHost(r)
	case "scribble":
		childScribble(mem, rand.New(rand.NewPCG(uint64(n), 0)))
	case "publish":
		return childPublish(mem, n)
	case "count":
		return childCount(mem, n)
	}
	fmt.Fprintln(os.Stderr, "unknown role", role)
	return exitFault
}

// atStore calls act before the n-th store into shared memory, counted from 1 and
// word by word.
func atStore(n int, act func()) {
	count := 0
	step := func() {
		if count++; count == n {
			act()
		}
	}
	store = func(b []byte, off int, v uint64) {
		step()
		storeShared(b, off, v)
	}
	copyIn = func(b []byte, off int, src []byte) {
		for i := 0; i < len(src); i += 8 {
			step()
			copyShared(b, off+i, src[i:][:8])
		}
	}
}

// mapRegion maps a region's file, shared.
func mapRegion(f *os.File) ([]byte, error) {
	return syscall.Mmap(int(f.Fd()), 0, RegionSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
}

// sharedRegion makes a formatted region in a file, for this process and children, and
// opens it.
func sharedRegion(t *testing.T) (f *os.File, mem []byte, r *Region) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "region"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(RegionSize); err != nil {
		t.Fatal(err)
	}
	if mem, err = mapRegion(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(mem) })
	if err := Format(mem, Header{Gateway: "browsing", Attachment: 7}); err != nil {
		t.Fatal(err)
	}
	if r, err = Open(mem); err != nil {
		t.Fatal(err)
	}
	return f, mem, r
}

// child starts a child on the region in f; it is killed at the end of the test
// if it is still there.
func child(t *testing.T, f *os.File, role string, n int) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	if *emulator != "" {
		cmd = exec.Command(*emulator, os.Args[0])
	}
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", childEnv, role, n))
	cmd.ExtraFiles = []*os.File{f}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return cmd
}

// ended waits for the child's end and says how it came.
func ended(t *testing.T, cmd *exec.Cmd) syscall.WaitStatus {
	t.Helper()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// childAgent is an agent in writer slot 1 that publishes newRecord once.
func childAgent(mem []byte) int {
	r, err := Open(mem)
	if err != nil {
		return exitFault
	}
	g := r.Guest(1, 0x2222)
	if held, _ := g.Lock().TryAcquire(); !held {
		return exitLocked
	}
	err = g.Publish(0, newRecord())
	if err == nil {
		err = g.Append(Journal{Kind: JournalPublished})
	}
	g.Lock().Release()
	switch {
	case errors.Is(err, ErrFenced):
		return exitFenced
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return exitFault
	}
	return exitDone
}

// childHost is a coordinator in seat 0 that writes its second lease and order.
func childHost(r *Region) int {
	h := r.Host(0)
	h.SetLease(Lease{Epoch: Epoch{1, 1}, Term: 2, Acting: true})
	o := sampleOrder(4)
	o.Epoch = Epoch{1, 1}
	if err := h.WriteOrder(0, o); err != nil {
		return exitFault
	}
	h.Append(Journal{Kind: JournalOrdered})
	return exitDone
}

// childScribble is a hostile guest: it writes whatever it likes, for ever, and
// more often where it hurts.
func childScribble(mem []byte, rng *rand.Rand) {
	values := []uint64{0, 1, 2, 0xffff, 0x7fffffff, 0xfffffff8, 0xffffffff, 1 << 63, ^uint64(0)}
	p := samplePublication(3, true)
	r := &Region{mem: mem}
	area := guestArea(mem)
	for {
		v := rng.Uint64()
		if rng.IntN(2) == 0 {
			v = values[rng.IntN(len(values))]
		}
		cellStart := guestPublicationsOff + rng.IntN(MaxMembers)*publicationCellSize
		switch rng.IntN(6) {
		case 0:
			store(area, 8*rng.IntN(guestAreaSize/8), v)
		case 1:
			store(area, guestLockOff+8*rng.IntN(lockSize/8), v)
		case 2:
			store(area, cellStart, v)
		case 3:
			store(area, cellStart+cellBuffersOff+8*rng.IntN(40), v)
		case 4:
			store(area, guestRingOff+8*rng.IntN(ringSize/8), v)
		case 5: // sometimes whole and good, so that readers get beyond the checksum
			g := r.Guest(rng.IntN(MaxWriters), 1)
			g.lock.held = true
			g.Publish(rng.IntN(MaxMembers), p)
		}
	}
}

// childPublish is an honest agent that publishes n records.
func childPublish(mem []byte, n int) int {
	r, err := Open(mem)
	if err != nil {
		return exitFault
	}
	g := r.Guest(1, 1)
	if held, _ := g.Lock().TryAcquire(); !held {
		return exitLocked
	}
	for seq := 1; seq <= n; seq++ {
		if err := g.Publish(0, numbered(seq)); err != nil {
			return exitFault
		}
	}
	return exitDone
}

// counterOff is a word in the reserved part of a region, for tests to count in.
const counterOff = guestAreaOff + guestAreaSize

// childCount adds 1 to a plain word of the region count times, each time under
// the lock of writer slot w, which is n's last digit.
func childCount(mem []byte, n int) int {
	r, err := Open(mem)
	if err != nil {
		return exitFault
	}
	return countUnderLock(r, n%10, n/10)
}

// countUnderLock starts when all writers have come. Between load and store it
// dawdles, so that a lock that does not exclude is found out.
func countUnderLock(r *Region, w, count int) int {
	l := r.Guest(w, Incarnation(w+1)).Lock()
	store(r.mem, counterOff+64*(w+1), 1)
	for all := false; !all; runtime.Gosched() {
		all = true
		for v := range MaxWriters {
			all = all && load(r.mem, counterOff+64*(v+1)) == 1
		}
	}
	for range count {
		for {
			if held, _ := l.TryAcquire(); held {
				break
			}
			runtime.Gosched()
		}
		sum := load(r.mem, counterOff) + 1
		for range 200 {
			load(r.mem, counterOff)
		}
		store(r.mem, counterOff, sum)
		fence()
		l.Release()
	}
	return exitDone
}
