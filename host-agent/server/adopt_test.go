package server

import (
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"guardring/host-agent/rundir"
	"guardring/shmproto"
)

func TestIncompleteStoreIsNamedAndReplaced(t *testing.T) {
	m, run := startSystemd(t), runDir(t)
	s := m.start(t, run, "a", "b", "c")
	epochs := status(t, run).Gateways
	s.kill()
	m.drop(storeName("a", "vector/1/0"))
	fd, err := unix.MemfdCreate("stranger", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	m.take("FDSTORE=1\nFDNAME=stranger", []int{fd})
	s = m.start(t, run, "a", "b")
	got := status(t, run).Gateways
	if got[0].TakenOver || got[0].RegionEpoch == epochs[0].RegionEpoch {
		t.Error("an incomplete region was taken over")
	}
	if !got[1].TakenOver || got[1].RegionEpoch != epochs[1].RegionEpoch {
		t.Error("a complete region was not taken over")
	}
	for _, want := range []string{"vector/1/0 is missing", "gateway=a", "name=stranger", "gateway=c"} {
		s.says(t, want)
	}
	eventually(t, "the store has a and b once, and nothing else", func() bool {
		names := m.names()
		return len(names) == 2*len(parts("a"))+len(parts(rundir.Board))+5 && len(slices.Compact(names)) == len(names)
	})
	// What was stored anew is whole.
	s.kill()
	m.start(t, run, "a", "b")
	if again := status(t, run).Gateways[0]; !again.TakenOver || again.RegionEpoch != got[0].RegionEpoch {
		t.Errorf("a after another restart: %+v", again)
	}
}

func TestAdoptRefusesWrongKinds(t *testing.T) {
	swap := func(p, q string) func(*testing.T, map[string][]int) {
		return func(_ *testing.T, f map[string][]int) { f[p], f[q] = f[q], f[p] }
	}
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, found map[string][]int)
		want  string
	}{
		"sizes":    {swap("memory", "book"), "memory: 4096 bytes"},
		"eventfd":  {swap("memory", "vector/0/0"), "memory: no memfd"},
		"memfd":    {swap("book", "vector/0/0"), "book: no memfd"},
		"pipe":     {func(t *testing.T, f map[string][]int) { replace(t, f, "vector/1/1") }, "vector/1/1: adopt"},
		"twice":    {func(t *testing.T, f map[string][]int) { f["book"] = append(f["book"], duplicate(t, f["book"][0])) }, "book is there 2"},
		"missing":  {func(_ *testing.T, f map[string][]int) { _ = unix.Close(f["book"][0]); delete(f, "book") }, "book is missing"},
		"contents": {func(_ *testing.T, f map[string][]int) { _, _ = unix.Pwrite(f["book"][0], make([]byte, 8), 0) }, "book: begins with"},
		"unsealed": {func(t *testing.T, f map[string][]int) { replaceUnsealed(t, f) }, "memory: seals"},
		"none":     {func(_ *testing.T, _ map[string][]int) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := makeRegion("a")
			if err != nil {
				t.Fatal(err)
			}
			defer r.close()
			before := descriptors().Open
			found := make(map[string][]int)
			for _, d := range r.descriptors("a") {
				found[d.Name] = []int{duplicate(t, d.FD)}
			}
			tt.spoil(t, found)
			adopted, err := adoptRegion("a", found)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				adopted.close()
			} else if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if after := descriptors().Open; after != before {
				t.Errorf("%d descriptors, were %d", after, before)
			}
		})
	}
}

func duplicate(t *testing.T, fd int) int {
	t.Helper()
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return own
}

// replace puts a pipe's end in the place of a part.
func replace(t *testing.T, found map[string][]int, part string) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(p[1])
	_ = unix.Close(found[part][0])
	found[part][0] = p[0]
}

func replaceUnsealed(t *testing.T, found map[string][]int) {
	t.Helper()
	fd, err := unix.MemfdCreate("unsealed", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(fd, shmproto.RegionSize); err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(found["memory"][0])
	found["memory"][0] = fd
}

// A guest can write into the header; that must not cost the region, nor keep a
// coordinator from it.
func TestDamagedHeaderIsMended(t *testing.T) {
	m, run := startSystemd(t), runDir(t)
	s := m.start(t, run, "a")
	c := dial(t, guestSocket(run, "a"))
	clear(c.Memory[:4096])
	s.kill()
	s = m.start(t, run, "a")
	select {
	case <-c.Gone():
		t.Error("the client saw the restart, though the store keeps its connection")
	default:
	}
	if g := status(t, run).Gateways[0]; !g.TakenOver || g.Seats[2].PID != os.Getpid() || g.Attachment != 1 {
		t.Errorf("%+v", g)
	}
	s.says(t, "header was damaged")
	if region, err := shmproto.Open(c.Memory); err != nil || region.Header().Gateway != "a" || region.Attachment() != 1 {
		t.Errorf("after the restart: %v", err)
	}
	for _, off := range []int{0x0, 0x8, 0x30, 0x48} {
		c.Memory[off] ^= 1
		h := dial(t, hostSocket(run, "a"))
		if _, err := shmproto.Open(h.Memory); err != nil {
			t.Errorf("a coordinator after byte %#x was changed: %v", off, err)
		}
		_ = h.Close()
	}
}
