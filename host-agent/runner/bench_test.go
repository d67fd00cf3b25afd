package runner

import (
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"guardring/internal/coordinator"
	"guardring/internal/eventfd"
	"guardring/shmproto"
)

// BenchmarkOrder measures from a guest's publication (before the first store) to
// the order being visible to another goroutine that was rung for it, through a
// real server's memory and doorbells, with the coordinator in a process of its
// own. Beside it, of the same run: an eventfd ping-pong between two processes'
// worth of goroutines, and one fdatasync on the ledger's file system.
func BenchmarkOrder(b *testing.B) {
	for _, where := range []struct{ name, parent string }{{"tmpfs", "/dev/shm"}, {"disk", "/var/tmp"}} {
		b.Run(where.name, func(b *testing.B) { benchmarkOrder(b, where.parent) })
	}
}

func benchmarkOrder(b *testing.B, parent string) {
	r := newRig(b, coordinator.PolicyDisjoint, "a", "b")
	dir, err := os.MkdirTemp(parent, "gr")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	r.cfg.LedgerDir = dir
	r.cfg.DoorbellBurst, r.cfg.DoorbellRate = 1<<30, 1e9 // the pace is not what is measured
	r.cfg.LedgerBurst, r.cfg.LedgerRate, r.cfg.JournalSize = 1<<30, 1e9, 1<<30
	r.coordinate("")
	r.actingDocument()
	one, two := r.guest("a"), r.guest("b")
	one.publish(append([]int{1, 2, 3}, numbers(20, 36)...)...)
	r.eventually("a is known", func() bool { return len(r.actingDocument().Members) == 1 })
	bell := two.client.Interrupt(shmproto.VectorChanged)
	samples := [][]int{append([]int{1}, numbers(60, 78)...), append([]int{2}, numbers(60, 78)...), append([]int{3}, numbers(60, 78)...)}
	var took []time.Duration
	seq := two.order.Seq
	for n := 0; b.Loop(); n++ {
		// A newcomer each time: a member that leaves gives its exclusions up.
		begin := time.Now()
		two.publish(samples[n%len(samples)]...)
		for {
			if _, err := bell.Wait(); err != nil {
				b.Fatal(err)
			}
			if two.side.ReadOrder(0, "default", &two.order) == nil && two.order.Seq > seq {
				break
			}
		}
		took = append(took, time.Since(begin))
		seq = two.order.Seq
		two.leave(r)
		if two.side.ReadOrder(0, "default", &two.order) == nil {
			seq = max(seq, two.order.Seq)
		}
	}
	b.ReportMetric(0, "ns/op")
	report := func(d []time.Duration, what string) {
		slices.Sort(d)
		b.ReportMetric(float64(d[len(d)/2].Microseconds()), what+"-median-µs")
		b.ReportMetric(float64(d[len(d)*99/100].Microseconds()), what+"-p99-µs")
	}
	report(took, "order")
	report(pingPong(b, 2000), "pingpong")
	report(syncs(b, dir, 300), "fdatasync")
}

// leave takes the member out of its slot and waits until that was read.
func (g *guest) leave(r *rig) {
	g.t.Helper()
	g.gone = true
	g.publish()
	g.gone = false
	r.eventually("the member has left", func() bool {
		for _, m := range r.actingDocument().Members {
			if m.Member == "b/default" {
				return m.State == "left" || m.State == "away"
			}
		}
		return true
	})
	_, _ = g.client.Interrupt(shmproto.VectorChanged).Drain()
}

// pingPong measures round trips between two goroutines by two eventfds.
func pingPong(b *testing.B, n int) (took []time.Duration) {
	there, err1 := eventfd.New()
	back, err2 := eventfd.New()
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	defer back.Close()
	go func() {
		for {
			if _, err := there.Wait(); err != nil {
				return
			}
			_ = back.Ring()
		}
	}()
	defer there.Close()
	for range n {
		begin := time.Now()
		_ = there.Ring()
		if _, err := back.Wait(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
		time.Sleep(200 * time.Microsecond) // both sleep in the poller, as they do in between orders
	}
	return took
}

// syncs measures fdatasync of a grown file.
func syncs(b *testing.B, dir string, n int) (took []time.Duration) {
	f, err := os.CreateTemp(dir, "sync")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	line := make([]byte, 600)
	for range n {
		if _, err := f.Write(line); err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	return took
}
