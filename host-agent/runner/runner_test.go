package runner

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"guardring/host-agent/report"
	"guardring/host-agent/rundir"
	"guardring/host-agent/server"
	"guardring/internal/coordinator"
	"guardring/internal/statussock"
	"guardring/shmproto"
)

func TestDuplicateIsTakenFromTheLater(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a", "b", "c")
	r.coordinateHere()
	a, b, c := r.guest("a"), r.guest("b"), r.guest("c")
	a.publish(sampleA()...)
	r.eventually("a is known", func() bool { return len(r.actingDocument().Members) == 1 })
	c.publish(numbers(100, 119)...)
	b.publish(sampleB()...)
	b.excludes(r, 1)
	if _, err := b.client.Interrupt(shmproto.VectorChanged).Wait(); err != nil {
		t.Fatalf("b was not rung: %v", err)
	}
	if !a.told() || !c.told() {
		t.Errorf("others were told: a %v, c %v", a.order, c.order)
	}
	d := r.actingDocument()
	if len(d.Conflicts) != 1 || d.Conflicts[0].Incumbent != "a/default" || d.Conflicts[0].Newcomer != "b/default" || d.Self.Orders != 1 {
		t.Errorf("document %+v", d)
	}
}

func TestObserveOrdersNothing(t *testing.T) {
	r := newRig(t, coordinator.PolicyObserve, "a", "b")
	r.coordinateHere()
	a, b := r.guest("a"), r.guest("b")
	a.publish(sampleA()...)
	b.publish(sampleB()...)
	r.eventually("the conflict is seen", func() bool { return len(r.actingDocument().Conflicts) == 1 })
	d := r.actingDocument()
	if !a.told() || !b.told() || d.Self.Orders != 0 || d.Self.Doorbells != 0 || d.Conflicts[0].State != report.ConflictObserved {
		t.Errorf("told %v %v, %+v", a.told(), b.told(), d)
	}
}

// TestLostDoorbell: a publication that nobody rang for is found by the rescan.
func TestLostDoorbell(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a")
	r.coordinateHere()
	r.guest("a").show(sampleA()...)
	r.eventually("a is known", func() bool { return len(r.actingDocument().Members) == 1 })
}

// TestGatewaysComeAndGo, while the coordinator runs.
func TestGatewaysComeAndGo(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a")
	r.coordinateHere()
	r.guest("a")
	b := server.Gateway{Name: "b", UID: server.KeepID, GID: server.KeepID}
	if err := r.srv.Apply([]server.Gateway{b}); err != nil {
		t.Fatal(err)
	}
	r.eventually("b is served", func() bool { _, err := os.Stat(r.guestSocket("b")); return err == nil })
	r.guest("b")
	r.eventually("b has come and a has gone", func() bool {
		present := ""
		for _, g := range r.actingDocument().Gateways {
			if g.Present {
				present += g.Name
			}
		}
		return present == "b"
	})
}

// TestServerRestarted without a descriptor store: regions are new, agents come
// again, and orders stand.
func TestServerRestarted(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a", "b")
	r.coordinateHere()
	a, b := r.guest("a"), r.guest("b")
	a.publish(sampleA()...)
	r.eventually("a is known", func() bool { return len(r.actingDocument().Members) == 1 })
	r.end()
	// Without a server the old memory and doorbells work on.
	b.publish(sampleB()...)
	b.excludes(r, 1)
	r.serve("a", "b")
	b = r.guest("b")
	b.publish(sampleB()...)
	b.excludes(r, 1)
	if d := r.actingDocument(); d.Self.Term == 0 {
		t.Errorf("%+v", d.Self)
	}
}

// TestStatusSocketOfTheOtherSeat: after seats were given anew, a coordinator finds
// its number's status socket taken by the other one. It serves all the same.
func TestStatusSocketOfTheOtherSeat(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a")
	l, err := statussock.Listen(rundir.Dir(r.cfg.RunDir).Coordinator(0), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx, func() any { return nil }) }()
	t.Cleanup(func() { cancel(); <-served })
	r.coordinateHere()
}

// TestKilledBetweenEffects: the acting coordinator dies after each effect; the
// standby acts, and exactly the later one is told.
func TestKilledBetweenEffects(t *testing.T) {
	for _, where := range []string{"ledger-durable", "order-written", "ring-written", "doorbell-rung"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, coordinator.PolicyDisjoint, "a", "b")
			r.cfg.Heartbeat = time.Second // as shipped
			first := r.coordinate("")
			was := r.actingDocument()
			a, b := r.guest("a"), r.guest("b")
			a.publish(sampleA()...)
			r.eventually("a is known", func() bool { return len(r.actingDocument().Members) == 1 })
			// The one to be killed restores from first's ledger.
			_ = first.Process.Kill()
			_ = first.Wait()
			victim := r.coordinate(where)
			r.eventually("the victim acts", func() bool { return r.actingDocument().Self.PID == victim.Process.Pid })
			if now := r.actingDocument(); now.Self.Term <= was.Self.Term || len(now.Members) != 1 {
				t.Fatalf("%+v after %+v", now.Self, was.Self)
			}
			standby := r.coordinate("")
			r.eventually("the standby watches", func() bool { return len(r.documents()) == 2 })
			b.publish(sampleB()...)
			if err := victim.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Fatalf("victim: %v\n%s", err, victim.log)
			}
			dead := time.Now()
			now := r.actingDocument()
			if now.Self.PID != standby.Process.Pid {
				t.Errorf("%d acts, want %d", now.Self.PID, standby.Process.Pid)
			}
			t.Logf("taken over within %s", time.Since(dead)) // how soon, e2e/failover judges
			b.excludes(r, 1)
			r.eventually("the order is the standby's", func() bool { return b.told(1) && uint64(b.order.Term) == now.Self.Term })
			if !a.told() {
				t.Errorf("a was told too: %+v", a.order)
			}
		})
	}
}

// TestStoppedAndContinued: the acting coordinator is stopped right after it made
// an order durable, replaced, and continued: its order reaches nobody, it stands
// by, and the successor, which read that order in its ledger, gives it.
func TestStoppedAndContinued(t *testing.T) {
	for _, where := range []string{"ledger-durable", "order-due", "order-written", "ring-written"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, coordinator.PolicyDisjoint, "a", "b")
			r.cfg.Heartbeat = time.Second // as shipped: who is only slow is not replaced
			first := r.coordinate("")
			r.actingDocument()
			a, b := r.guest("a"), r.guest("b")
			a.publish(sampleA()...)
			r.eventually("a is known", func() bool { return len(r.actingDocument().Members) == 1 })
			_ = first.Process.Kill()
			_ = first.Wait()
			old := r.coordinate(where + "+stop")
			r.eventually("the old one acts", func() bool { return r.actingDocument().Self.PID == old.Process.Pid })
			next := r.coordinate("")
			r.eventually("the next one watches", func() bool { return len(r.documents()) == 2 })
			b.publish(sampleB()...)
			r.eventually("the next one acts", func() bool { return r.actingDocument().Self.PID == next.Process.Pid })
			term := r.actingDocument().Self.Term
			r.eventually("the next one's order", func() bool { return b.told(1) && uint64(b.order.Term) == term })
			seq := b.order.Seq
			if err := unix.Kill(old.Process.Pid, unix.SIGCONT); err != nil {
				t.Fatal(err)
			}
			r.eventually("the old one stands by", func() bool {
				for _, d := range r.documents() {
					if d.Self.PID == old.Process.Pid {
						return d.Self.Role == report.RoleStandby
					}
				}
				return false
			})
			if !b.told(1) || uint64(b.order.Term) != term || b.order.Seq != seq || !a.told() {
				t.Errorf("b %+v, want term %d seq %d; a %+v", b.order, term, seq, a.order)
			}
			if d := r.actingDocument(); d.Self.PID != next.Process.Pid {
				t.Errorf("%d acts, want %d", d.Self.PID, next.Process.Pid)
			}
		})
	}
}

// TestFullDisk: with no room in the ledger nothing is ordered and the status
// says why; with room, ordering resumes.
func TestFullDisk(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a", "b")
	if err := os.Mkdir(r.cfg.LedgerDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", r.cfg.LedgerDir, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		t.Skipf("skipping, mount a 64 KiB tmpfs: %v (try: as root)", err)
	}
	t.Cleanup(func() { unix.Unmount(r.cfg.LedgerDir, unix.MNT_DETACH) })
	r.coordinateHere()
	a, b := r.guest("a"), r.guest("b")
	a.publish(sampleA()...)
	r.eventually("a is known", func() bool { return len(r.actingDocument().Members) == 1 })
	hog := filepath.Join(r.cfg.LedgerDir, "hog")
	f, err := os.Create(hog)
	for err == nil {
		_, err = f.Write(bytes.Repeat([]byte{1}, 4096))
	}
	f.Close()
	// The rest of the ledger's last page has to be used up as well.
	for n := 0; r.actingDocument().Self.LedgerError == "" && n < 200; n++ {
		a.publish(numbers(100+n%50, 119+n%50)...)
		r.eventually("a's publication is read", func() bool {
			d := r.actingDocument()
			return d.Self.LedgerError != "" || len(d.Members) == 1 && d.Members[0].Publication.Seq == uint64(a.pub.Seq)
		})
	}
	if d := r.actingDocument(); !strings.Contains(d.Self.LedgerError, "no space") {
		t.Fatalf("%+v", d.Self)
	}
	a.publish(sampleA()...)
	b.publish(sampleB()...)
	before := r.actingDocument().Self.Publications
	r.eventually("publications are read again", func() bool { return r.actingDocument().Self.Publications > before+2 })
	if !a.told() || !b.told() {
		t.Fatalf("ordered without a ledger: %+v %+v", a.order, b.order)
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	r.eventually("one of the two is told", func() bool { return b.told(1) != a.told(1) })
	r.eventually("the error is gone", func() bool { return r.actingDocument().Self.LedgerError == "" })
}

// TestDoorbellStorm: a guest that rings without end is named, and another gateway
// is served meanwhile. What it costs is bounded by its pace, for rings that
// nobody waits for wake nobody (internal/eventfd).
func TestDoorbellStorm(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a", "b")
	p := r.coordinate("")
	r.actingDocument()
	a, b := r.guest("a"), r.guest("b")
	stop, stopped := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(stop); <-stopped })
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = a.client.Ring(0, shmproto.VectorChanged)
				_ = a.client.Ring(1, shmproto.VectorChanged)
				time.Sleep(10 * time.Microsecond)
			}
		}
	}()
	named := func(gateway string) bool {
		gateways := r.actingDocument().Gateways
		i := slices.IndexFunc(gateways, func(g report.Gateway) bool { return g.Name == gateway })
		return i >= 0 && !gateways[i].Paced.IsZero()
	}
	from, begun := cpu(t, p.Process.Pid), time.Now()
	for n := 0; time.Since(begun) < 2*time.Second || !named("a") && time.Since(begun) < patience; n++ {
		b.publish(numbers(n%40, n%40+19)...)
		r.eventually("b is served", func() bool {
			for _, m := range r.actingDocument().Members {
				return m.Publication.Seq == uint64(b.pub.Seq)
			}
			return false
		})
		time.Sleep(100 * time.Millisecond) // the pace of a busy Tor, so that the storm is what costs
	}
	t.Logf("%.1f %% of a core, this test's questions included", 100*float64(cpu(t, p.Process.Pid)-from)/float64(time.Since(begun)))
	if !named("a") || named("b") {
		t.Errorf("named as too fast: a %t, b %t", named("a"), named("b"))
	}
}

// cpu returns the processor time that a process has used.
func cpu(t *testing.T, pid int) time.Duration {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// TestLateWriter: what a stopped predecessor makes durable after its ledger was
// read is replayed before a region is read that was attached later.
func TestLateWriter(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a")
	old := r.coordinate("")
	r.actingDocument()
	r.guest("a").publish(sampleA()...)
	r.eventually("a is known", func() bool { return len(r.actingDocument().Members) == 1 })
	path := r.actingDocument().Self.LedgerFile
	r.coordinate("")
	r.eventually("the next one watches", func() bool { return len(r.documents()) == 2 })
	old.stop(t)
	r.eventually("the next one acts", func() bool { return r.actingDocument().Self.PID != old.Process.Pid })
	// The old one's step that was on its way: b's claim on guard 200.
	line := `[{"v":1,"kind":"member","gateway":"b","instance":"default"},` +
		`{"v":1,"kind":"claim","gateway":"b","instance":"default","key":"relay/C800010000000000000000000000000000000000","stamp":{"n":4,"at":"2026-01-01T00:00:00Z"}}]`
	r.appendLate(path, line)
	keep := func(name string) server.Gateway {
		return server.Gateway{Name: name, UID: server.KeepID, GID: server.KeepID}
	}
	if err := r.srv.Apply([]server.Gateway{keep("a"), keep("b")}); err != nil {
		t.Fatal(err)
	}
	r.eventually("b's claim is inherited", func() bool {
		for _, m := range r.actingDocument().Members {
			if m.Member == "b/default" && len(m.Guards) == 1 && m.Guards[0].Stamp != 0 {
				return true
			}
		}
		return false
	})
	if d := r.actingDocument(); d.Self.LedgerError != "" || len(d.Members) != 2 {
		t.Errorf("%+v", d)
	}
}

// appendLate appends a line to the ledger of a stopped coordinator.
func (r *rig) appendLate(name, line string) {
	r.t.Helper()
	f, err := os.OpenFile(filepath.Join(r.cfg.LedgerDir, name), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%08x %s\n", crc32.Checksum([]byte(line), crc32.MakeTable(crc32.Castagnoli)), line); err != nil {
		r.t.Fatal(err)
	}
}

// TestLateBeforeCompaction: what a stopped predecessor writes is joined with our own words
// before they become a snapshot, in which they would be no newer than it.
func TestLateBeforeCompaction(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a", "b")
	r.cfg.DoorbellBurst, r.cfg.DoorbellRate = 1<<30, 1e9
	r.cfg.LedgerBurst, r.cfg.LedgerRate, r.cfg.JournalSize = 1<<30, 1e9, 1<<30
	old := r.coordinate("")
	path := r.actingDocument().Self.LedgerFile
	a, b := r.guest("a"), r.guest("b")
	a.publish(sampleA()...)
	r.state("a/default", "present")
	next := r.coordinate("")
	r.eventually("the next one watches", func() bool { return len(r.documents()) == 2 })
	_ = old.Process.Kill()
	r.eventually("the next one acts", func() bool { return r.actingDocument().Self.PID == next.Process.Pid })
	a.gone = true
	a.publish()
	r.state("a/default", "left")
	// Nobody can see in its region any more that it has left.
	if err := r.srv.Apply([]server.Gateway{{Name: "b", UID: server.KeepID, GID: server.KeepID}}); err != nil {
		t.Fatal(err)
	}
	r.appendLate(path, `[{"v":1,"kind":"member","gateway":"a","instance":"default"},`+
		`{"v":1,"kind":"claim","gateway":"a","instance":"default","key":"relay/C800010000000000000000000000000000000000","stamp":{"n":9,"at":"2026-01-01T00:00:00Z"}}]`)
	for n, most := 0, int64(0); r.actingDocument().Self.LedgerBytes >= most; n += 20 {
		most = max(most, r.actingDocument().Self.LedgerBytes)
		b.publish(numbers(n, n+19)...)
		r.eventually("b is read", func() bool { return r.member("b/default").Publication.Seq == uint64(b.pub.Seq) })
	}
	third := r.coordinate("")
	r.eventually("a third one watches", func() bool { return len(r.documents()) == 2 })
	_ = next.Process.Kill()
	r.eventually("the third one acts", func() bool { return r.actingDocument().Self.PID == third.Process.Pid })
	if m := r.member("a/default"); m.State != "left" || len(m.Guards) > 0 {
		t.Errorf("a has left, and is %+v", m)
	}
}

// TestFalseAttachment: a guest cannot make its gateway's later publications look
// stale.
func TestFalseAttachment(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a")
	p := r.coordinate("")
	r.actingDocument()
	a := r.guest("a")
	p.stop(t)
	shmproto.SetAttachment(a.client.Memory, 99) // the guest can write everywhere
	a.show(sampleA()...)
	shmproto.SetAttachment(a.client.Memory, 1)
	if err := unix.Kill(p.Process.Pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	a.ring()
	r.eventually("the violation is counted", func() bool { return r.actingDocument().Gateways[0].Violations == 1 })
	a.publish(sampleA()...)
	r.eventually("the good one is read", func() bool {
		d := r.actingDocument()
		return len(d.Members) == 1 && d.Members[0].Publication.Attachment == 1
	})
}
