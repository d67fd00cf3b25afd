//go:build e2e

package server

// Tests against real QEMU, without a guest: the test plays the guest's driver
// through QEMU's qtest socket. They need qemu-system-x86_64 and nothing else.

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"guardring/e2e/qtest"
	"guardring/shmproto"
	"guardring/shmproto/ivshmem"
)

// vm is a QEMU whose CPUs never run.
type vm struct {
	cmd    *exec.Cmd
	device *qtest.Device
	stderr bytes.Buffer
	exited chan struct{}
}

// launch starts QEMU on the socket. It returns nil if QEMU ended instead of
// starting; its words are in the vm.
func launch(t *testing.T, socket string) (v *vm, started bool) {
	t.Helper()
	path := filepath.Join(tempDir(t), "qtest")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	v = &vm{exited: make(chan struct{})}
	v.cmd = exec.Command("qemu-system-x86_64",
		"-machine", "q35,accel=tcg", "-S", "-nodefaults", "-display", "none", "-m", "32",
		"-qtest", "unix:"+path,
		"-chardev", "socket,path="+socket+",id=c",
		"-device", fmt.Sprintf("ivshmem-doorbell,chardev=c,vectors=%d,addr=%#x", shmproto.Vectors, qtest.Slot))
	v.cmd.Stderr = &v.stderr
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := v.cmd.Start(); err != nil {
		t.Fatalf("start QEMU: %v (try: apt-get install qemu-system-x86)", err)
	}
	go func() {
		_ = v.cmd.Wait()
		close(v.exited)
		_ = l.Close() // ends Accept
	}()
	t.Cleanup(v.kill)
	_ = l.SetDeadline(time.Now().Add(60 * time.Second))
	conn, err := l.Accept()
	if err != nil {
		<-v.exited
		return v, false
	}
	t.Cleanup(func() { _ = conn.Close() })
	// QEMU opens the qtest socket before its devices: only an answer shows that
	// the device was made.
	if v.device, err = qtest.Open(conn, shmproto.Vectors); err != nil {
		select {
		case <-v.exited:
			return v, false
		case <-time.After(60 * time.Second):
			t.Fatalf("QEMU lives, and its device does not: %v; QEMU: %s", err, &v.stderr)
		}
	}
	return v, true
}

func startVM(t *testing.T, socket string) *vm {
	t.Helper()
	v, ok := launch(t, socket)
	if !ok {
		t.Fatalf("QEMU ended: %s", &v.stderr)
	}
	return v
}

func (v *vm) kill() {
	_ = v.cmd.Process.Kill()
	<-v.exited
}

// is has a question to the device answered.
func is[T any](t *testing.T, ask func() (T, error)) T {
	t.Helper()
	answer, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func (v *vm) load(t *testing.T, offset int) uint32 {
	t.Helper()
	return is(t, func() (uint32, error) { return v.device.Load(offset) })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// exercise rings both ways on every vector and passes a word of memory both ways.
func exercise(t *testing.T, v *vm, hosts ...*ivshmem.Client) {
	t.Helper()
	if id := is(t, v.device.Position); id != int32(shmproto.GuestSeat) {
		t.Fatalf("IVPosition %d, want %d", id, shmproto.GuestSeat)
	}
	for i, h := range hosts {
		for vector := range shmproto.Vectors {
			e := h.Interrupt(ivshmem.Vector(vector))
			_, _ = e.Drain()
			must(t, v.device.Ring(int(h.ID), vector))
			if err := e.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := e.Wait(); err != nil {
				t.Fatalf("QEMU rang seat %d, vector %d: %v", h.ID, vector, err)
			}
			if err := h.Ring(shmproto.GuestSeat, ivshmem.Vector(vector)); err != nil {
				t.Fatal(err)
			}
			must(t, v.device.AwaitPending(vector, 20*time.Second))
			must(t, v.device.Acknowledge())
		}
		off := shmproto.RegionSize - 64*(i+1)
		must(t, v.device.Store(off, uint32(0xcafe0000+i)))
		if got := h.Memory[off : off+4]; got[0] != byte(i) || got[3] != 0xca {
			t.Fatalf("the host sees % x", got)
		}
		h.Memory[off+4]++
		if got := v.load(t, off+4); byte(got) != h.Memory[off+4] {
			t.Fatalf("QEMU sees %#x", got)
		}
	}
}

func TestQEMU(t *testing.T) {
	r := startServer(t, testConfig(runDir(t), "a", "b"))
	v := startVM(t, guestSocket(r.run, "a"))
	other := startVM(t, guestSocket(r.run, "b"))
	hosts := []*ivshmem.Client{dial(t, hostSocket(r.run, "a")), dial(t, hostSocket(r.run, "a"))}
	exercise(t, v, hosts...)
	if g := r.gateway(t, "a"); g.Seats[2].PID != v.cmd.Process.Pid || g.Attachment != 1 {
		t.Errorf("status %+v", g)
	}
	magic := other.load(t, 0)
	if own := v.load(t, 0); magic != own || magic == 0 {
		t.Errorf("headers begin with %#x and %#x", own, magic)
	}
	if is(t, other.device.Pending) != 0 || other.load(t, shmproto.RegionSize-64) != 0 {
		t.Error("the other gateway was rung or written")
	}
}

func TestQEMUFiveInOneSeat(t *testing.T) {
	r := startServer(t, testConfig(runDir(t), "a"))
	hosts := []*ivshmem.Client{dial(t, hostSocket(r.run, "a")), dial(t, hostSocket(r.run, "a"))}
	for i := range 5 {
		v := startVM(t, guestSocket(r.run, "a"))
		exercise(t, v, hosts...)
		if g := r.gateway(t, "a"); int(g.Attachment) != i+1 {
			t.Errorf("QEMU %d: attachment %d", i+1, g.Attachment)
		}
		wantWord(t, hosts[0], shmproto.Attachment(i+1), true)
		v.kill()
		wantWord(t, hosts[0], shmproto.Attachment(i+1), false)
	}
}

func TestQEMUSecondInTakenSeat(t *testing.T) {
	r := startServer(t, testConfig(runDir(t), "a"))
	host := dial(t, hostSocket(r.run, "a"))
	v := startVM(t, guestSocket(r.run, "a"))
	second, started := launch(t, guestSocket(r.run, "a"))
	if started {
		t.Fatal("a second QEMU got the seat")
	}
	if second.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(second.stderr.String(), "server sent version -16, expecting 0") {
		t.Errorf("the second QEMU: %v, %s", second.cmd.ProcessState, &second.stderr)
	}
	exercise(t, v, host)
	if log := r.log.String(); !strings.Contains(log, "refused: seat taken") || !strings.Contains(log, fmt.Sprintf("holders=[%d]", v.cmd.Process.Pid)) {
		t.Errorf("the log does not name the holder:\n%s", log)
	}
	v.kill()
	exercise(t, startVM(t, guestSocket(r.run, "a")), host)
}

// The server closes the connection of a running QEMU: by taking the gateway
// out of its list, and by its end.
func TestQEMUConnectionLost(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, r *runner){
		"gateway removed": func(t *testing.T, r *runner) {
			if err := r.Apply(nil); err != nil {
				t.Fatal(err)
			}
		},
		"server ended": func(_ *testing.T, r *runner) { r.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			r := startServer(t, testConfig(runDir(t), "a"))
			v := startVM(t, guestSocket(r.run, "a"))
			host := dial(t, hostSocket(r.run, "a"))
			exercise(t, v, host)
			lose(t, r)
			<-host.Gone()
			exercise(t, v, host)
		})
	}
}

// A server is killed and replaced; with the store, the same QEMU and host go on,
// and a host of the new server reaches the same QEMU.
func TestQEMUServerRestarted(t *testing.T) {
	m, run := startSystemd(t), runDir(t)
	s := m.start(t, run, "a")
	v := startVM(t, guestSocket(run, "a"))
	before := status(t, run).Gateways[0]
	for range 3 {
		host := dial(t, hostSocket(run, "a"))
		exercise(t, v, host)
		s.kill()
		exercise(t, v, host)
		s = m.start(t, run, "a")
		exercise(t, v, host)
		after := status(t, run).Gateways[0]
		if after.RegionEpoch != before.RegionEpoch || after.Seats[2].PID != v.cmd.Process.Pid || after.Seats[2].State != SeatConnected {
			t.Fatalf("after the restart: %+v", after)
		}
		if second, started := launch(t, guestSocket(run, "a")); started {
			t.Fatalf("the new server gave QEMU's seat to process %d", second.cmd.Process.Pid)
		}
		_ = host.Close()
		newcomer := dial(t, hostSocket(run, "a"))
		exercise(t, v, newcomer)
		_ = newcomer.Close()
	}
	v.kill()
	host := dial(t, hostSocket(run, "a"))
	exercise(t, startVM(t, guestSocket(run, "a")), host)
}

// A QEMU that starts while there is no server waits, and then starts.
func TestQEMUStartsWhileServerRestarts(t *testing.T) {
	m, run := startSystemd(t), runDir(t)
	m.start(t, run, "a").kill()
	done := make(chan *vm)
	go func() {
		defer close(done)
		if v, ok := launch(t, guestSocket(run, "a")); ok {
			done <- v
		}
	}()
	select {
	case <-done:
		t.Fatal("QEMU did not wait")
	case <-time.After(300 * time.Millisecond): // it is at its socket by now, or will come to the next server: both are right
	}
	m.start(t, run, "a")
	v, ok := <-done
	if !ok {
		t.Fatal("QEMU ended")
	}
	exercise(t, v, dial(t, hostSocket(run, "a")))
}

// A server that is killed while it greets QEMU: the next one finishes it, and QEMU starts.
func TestQEMUServerKilledInAHandshake(t *testing.T) {
	for _, at := range []string{"handshake-0", "handshake-1", "handshake-4", "handshake-9"} {
		t.Run(at, func(t *testing.T) {
			m, run := startSystemd(t), runDir(t)
			t.Setenv("GUARDRING_TEST_KILL_AT", at)
			first := m.start(t, run, "a")
			t.Setenv("GUARDRING_TEST_KILL_AT", "")
			done := make(chan *vm)
			go func() {
				defer close(done)
				if v, ok := launch(t, guestSocket(run, "a")); ok {
					done <- v
				}
			}()
			if err := first.cmd.Wait(); err == nil {
				t.Fatal("the server was not killed")
			}
			m.start(t, run, "a")
			v, ok := <-done
			if !ok {
				t.Fatal("QEMU ended")
			}
			exercise(t, v, dial(t, hostSocket(run, "a")))
		})
	}
}

// Without a store a killed server takes its regions along; QEMU goes on, and the
// next server makes a region for the next QEMU.
func TestQEMUServerKilledWithoutStore(t *testing.T) {
	m, run := startSystemd(t), runDir(t)
	s := m.start(t, run, "a")
	v := startVM(t, guestSocket(run, "a"))
	host := dial(t, hostSocket(run, "a"))
	before := status(t, run).Gateways[0]
	s.kill()
	exercise(t, v, host)
	m.drop("gateway/")
	m.start(t, run, "a")
	exercise(t, v, host)
	after := status(t, run).Gateways[0]
	if after.TakenOver || after.RegionEpoch == before.RegionEpoch || after.Attachment != 0 {
		t.Errorf("status %+v", after)
	}
	exercise(t, startVM(t, guestSocket(run, "a")), dial(t, hostSocket(run, "a")))
}
