package runner

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"guardring/internal/coordinator"
	"guardring/shmproto"
)

// TestChurn: a guest that changes its guards, joins under ever new names, leaves
// again, looks away and back, as fast as it can and with all doorbells, makes the
// coordinator write and say no more than its pace, and another gateway is served
// meanwhile.
func TestChurn(t *testing.T) {
	const lasts = 5 * time.Second
	r := newRig(t, coordinator.PolicyDisjoint, "a", "b")
	p := r.coordinate("")
	r.actingDocument()
	a, b := r.guest("a"), r.guest("b")
	stop := make(chan struct{})
	var churn sync.WaitGroup
	churn.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			a.name, a.gone = fmt.Sprintf("m%d", n/6%50), n%6 == 5
			// Away and back again, by the word in the header.
			shmproto.SetEnded(a.client.Memory, a.region.Attachment()-shmproto.Attachment(n/3%2))
			if err := a.put(numbers(n%200, n%200+19)...); err != nil {
				t.Error(err)
				return
			}
			_ = a.client.Ring(0, shmproto.VectorChanged)
			_ = a.client.Ring(1, shmproto.VectorChanged)
			time.Sleep(50 * time.Microsecond) // this machine is to go on working
		}
	})
	from, begun := cpu(t, p.Process.Pid), time.Now()
	var slowest time.Duration
	served := 0
	for ; time.Since(begun) < lasts || r.actingDocument().Gateways[0].Paced.IsZero() && time.Since(begun) < patience; served++ {
		at := time.Now()
		b.publish(numbers(1000+served, 1019+served)...)
		r.eventually("b is served", func() bool { return r.member("b/default").Publication.Seq == uint64(b.pub.Seq) })
		slowest = max(slowest, time.Since(at))
		time.Sleep(200 * time.Millisecond)
	}
	share := float64(cpu(t, p.Process.Pid)-from) / float64(time.Since(begun))
	close(stop)
	churn.Wait()
	d := r.actingDocument()
	took := time.Since(begun)
	self := d.Self
	if d.Gateways[0].Paced.IsZero() || !d.Gateways[1].Paced.IsZero() {
		t.Errorf("named as too fast: %+v", d.Gateways)
	}
	_ = p.Process.Kill()
	_ = p.Wait()
	lines := strings.Count(p.log.String(), "\n")
	reads := int(self.Publications) - served
	t.Logf("%d publications of the hostile guest read, %d log lines, ledger of %d bytes, %.1f %% of a core, b served %d times, within %s",
		reads, lines, self.LedgerBytes, 100*share, served, slowest)
	if most := 64 + int(took/time.Second) + 5; reads > most {
		t.Errorf("%d publications read, want at most %d", reads, most)
	}
	if most := 2*noticeBurst + 50; lines > most {
		t.Errorf("%d log lines, want at most %d", lines, most)
	}
	if self.LedgerBytes > 1<<20 {
		t.Errorf("ledger of %d bytes", self.LedgerBytes)
	}
	// What it makes us write down is bounded, and pushes out nobody else's.
	if !has(r.decisions("b"), "joined") {
		t.Error("the other gateway's history is gone")
	}
	if n := fileBytes(t, filepath.Join(r.cfg.RunDir, "host")); n > 2<<20 {
		t.Errorf("%d bytes of journal and history", n)
	}
	r.replayAll()
}

// TestSuccessorOfAFlooder: who gets a seat whose last holder had used up what a
// gateway may have written down is a member at once all the same.
func TestSuccessorOfAFlooder(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a")
	r.cfg.JournalSize = 64 << 10 // what is used up comes back in days
	r.coordinate("")
	r.actingDocument()
	flooder, n := r.guest("a"), 0
	r.eventually("the flooder is not looked at any more", func() bool {
		n++
		flooder.name = fmt.Sprintf("m%d", n)
		flooder.publish(numbers(20*n, 20*n+19)...)
		return !r.actingDocument().Gateways[0].Paced.IsZero()
	})
	_ = flooder.client.Close()
	r.guest("a").publish(sampleA()...)
	r.eventually("the successor is a member", func() bool { return len(r.member("a/default").Guards) > 0 })
	r.replayAll()
}

// fileBytes is the size of all regular files below dir.
func fileBytes(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := d.Info()
		if err == nil {
			n += st.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCompactionFails: a ledger that cannot be compacted goes on, and says so at
// most once a minute, not with every step of a guest.
func TestCompactionFails(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a")
	r.cfg.DoorbellBurst, r.cfg.DoorbellRate = 1<<30, 1e9
	r.cfg.LedgerBurst, r.cfg.LedgerRate, r.cfg.JournalSize = 1<<30, 1e9, 1<<30
	p := r.coordinate("")
	file := r.actingDocument().Self.LedgerFile
	if err := os.MkdirAll(filepath.Join(r.cfg.LedgerDir, file+".tmp", "in-the-way"), 0o700); err != nil {
		t.Fatal(err)
	}
	a := r.guest("a")
	size, begun := func() int64 { return r.actingDocument().Self.LedgerBytes }, time.Now()
	for n := 0; size() < 280<<10; n += 20 {
		a.publish(numbers(n, n+19)...)
		r.eventually("a is read", func() bool { return r.member("a/default").Publication.Seq == uint64(a.pub.Seq) })
	}
	_ = p.Process.Kill()
	_ = p.Wait()
	if n := strings.Count(p.log.String(), "could not be compacted"); n < 1 || n > 1+int(time.Since(begun)/summaryPeriod) {
		t.Errorf("said %d times", n)
	}
}

// TestForeignHeader: a guest writes a header of another version, which the server
// does not mend. A coordinator that comes then says that it cannot watch that
// gateway, watches the others, and attaches it when that ends.
func TestForeignHeader(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a", "b")
	a, b := r.guest("a"), r.guest("b")
	own := bytes.Clone(a.client.Memory[:0x100])
	text, err := os.ReadFile("../../shmproto/testdata/versions/v2-only.hex")
	if err != nil {
		t.Fatal(err)
	}
	_, digits, _ := strings.Cut(string(text), "\n") // the comment
	foreign, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
	if err != nil {
		t.Fatal(err)
	}
	copy(a.client.Memory, foreign)
	r.coordinateHere()
	b.publish(sampleB()...)
	r.state("b/default", "present")
	fault := func() string {
		for _, g := range r.actingDocument().Gateways {
			if g.Name == "a" {
				return g.Fault
			}
		}
		return "unknown"
	}
	r.eventually("a is named", func() bool { return strings.Contains(fault(), "version 2") })
	copy(a.client.Memory, own)
	r.eventually("a is attached", func() bool { return fault() == "" })
}

// TestThousandReconnects: a guest that reconnects a thousand times, and a server
// that is restarted twenty times, leave no goroutine and no descriptor behind in
// the coordinator, and the guest's last word is read.
func TestThousandReconnects(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a")
	r.coordinateHere()
	descriptors := func() int {
		items, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(items)
	}
	first := r.guest("a")
	r.eventually("a is attached", func() bool { return r.actingDocument().Gateways[0].Present })
	first.client.Close()
	goroutines, open := runtime.NumGoroutine(), descriptors()
	flat := func(what string) {
		t.Helper()
		r.eventually("goroutines and descriptors are as few as before, after "+what, func() bool {
			return runtime.NumGoroutine() <= goroutines+4 && descriptors() <= open+4
		})
	}
	for n := range 1000 {
		g, err := attachGuest(r.guestSocket("a"))
		if err != nil {
			t.Fatal(err)
		}
		if err := g.put(numbers(n, n+19)...); err != nil {
			t.Fatal(err)
		}
		_ = g.client.Ring(0, shmproto.VectorChanged)
		_ = g.client.Close()
	}
	flat("reconnects")
	for n := range 20 {
		r.end()
		r.serve("a")
		connections := 1 + n%2 // another number than in the region before
		for range connections {
			g, err := attachGuest(r.guestSocket("a"))
			if err != nil {
				t.Fatal(err)
			}
			_ = g.client.Close()
		}
		r.eventually("a is attached again", func() bool {
			return r.actingDocument().Gateways[0].Attachment == uint64(connections)
		})
	}
	flat("restarts")
	g := r.guest("a")
	g.publish(numbers(5000, 5019)...)
	r.eventually("the last word is read", func() bool {
		m := r.member("a/default")
		return len(m.Guards) > 0 && m.Guards[0].Fingerprint == fp(5000).String()
	})
}
