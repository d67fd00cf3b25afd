package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"guardring/guest-agent/device"
	"guardring/guest-agent/include"
	"guardring/guest-agent/rotation"
	"guardring/guest-agent/torctl"
	"guardring/internal/guardstate"
	"guardring/shmproto"
)

// fakeDevice is a region in this process. The test is the host.
type fakeDevice struct {
	mem    []byte
	toHost chan struct{} // rung by the agent
	bell   chan struct{} // rung by the host
	gone   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newFakeDevice(t *testing.T, gateway string) *fakeDevice {
	t.Helper()
	d := &fakeDevice{
		mem: make([]byte, shmproto.RegionSize), toHost: make(chan struct{}, 1), bell: make(chan struct{}, 1),
		gone: make(chan struct{}), closed: make(chan struct{}),
	}
	if err := shmproto.Format(d.mem, shmproto.Header{Gateway: gateway, RegionEpoch: [16]byte{1}}); err != nil {
		t.Fatal(err)
	}
	shmproto.SetAttachment(d.mem, 1)
	return d
}

func (d *fakeDevice) Memory() []byte { return d.mem }
func (d *fakeDevice) Ring() error {
	select {
	case d.toHost <- struct{}{}:
	default:
	}
	return nil
}
func (d *fakeDevice) Wait() error {
	select {
	case <-d.bell:
		return nil
	case <-d.closed:
		return os.ErrClosed
	}
}
func (d *fakeDevice) Gone() <-chan struct{} { return d.gone }
func (d *fakeDevice) Close() error          { d.once.Do(func() { close(d.closed) }); return nil }

func (d *fakeDevice) host(t *testing.T, seat int) *shmproto.Host {
	t.Helper()
	r, err := shmproto.Open(d.mem)
	if err != nil {
		t.Fatal(err)
	}
	return r.Host(seat)
}

func (d *fakeDevice) order(t *testing.T, slot int, o shmproto.Order) {
	t.Helper()
	if err := d.host(t, 0).WriteOrder(slot, &o); err != nil {
		t.Fatal(err)
	}
	select {
	case d.bell <- struct{}{}:
	default:
	}
}

// until waits for a publication that is as wanted.
func (d *fakeDevice) until(t *testing.T, slot int, what string, wanted func(p *shmproto.Publication) bool) shmproto.Publication {
	t.Helper()
	h := d.host(t, 1)
	deadline := time.After(20 * time.Second)
	var p shmproto.Publication
	for {
		err := h.ReadPublication(slot, &p)
		if err == nil && wanted(&p) {
			return p
		}
		select {
		case <-d.toHost:
		case <-deadline:
			t.Fatalf("%s: not published; last %+v, %v", what, p, err)
		}
	}
}

func present(p *shmproto.Publication) bool {
	return p.State == shmproto.MemberPresent && len(p.Guards) == fakeGuards && p.Guards[0].Flags&shmproto.GuardInUse != 0
}

func applied(p *shmproto.Publication) bool { return p.Receipt.Status == shmproto.ReceiptApplied }

// site prepares a torrc as join does.
func site(t *testing.T) include.Site {
	t.Helper()
	dir := t.TempDir()
	s := include.Site{Torrc: filepath.Join(dir, "torrc"), Include: filepath.Join(dir, "guardring", "x.conf"), UID: -1, GID: -1}
	if err := os.WriteFile(s.Torrc, []byte("SocksPort 9050\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := include.Join(s, rotation.EmptyInclude()); err != nil {
		t.Fatal(err)
	}
	return s
}

func torOf(t *testing.T, name string, f *fakeTor) Tor {
	return Tor{Name: name, Control: torctl.Config{Address: f.path, Timeout: time.Second}, Site: site(t)}
}

// run starts an agent. Goroutines that outlive it fail the test.
func run(t *testing.T, cfg Config) (*Agent, <-chan error) {
	t.Helper()
	before := runtime.NumGoroutine()
	cfg.Incarnation = 7
	cfg.Rotation.PublishGap = time.Millisecond
	if cfg.BackoffMin == 0 {
		cfg.BackoffMin, cfg.BackoffMax = time.Millisecond, 10*time.Millisecond
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	finished := make(chan struct{})
	go func() { defer close(finished); ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-finished:
		case <-time.After(10 * time.Second):
			t.Error("the agent does not end")
			return
		}
		for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+2*len(cfg.Tors); runtime.Gosched() {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<16)
				t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
				return
			}
		}
	})
	return a, ended
}

func oneDevice(d Device) func() (Device, device.Choice, error) {
	return func() (Device, device.Choice, error) {
		return d, device.Choice{Kind: device.ByPolling, Address: "0000:00:10.0", Reason: "a test"}, nil
	}
}

func orderOf(seq uint64, guards ...int) shmproto.Order {
	o := shmproto.Order{Epoch: shmproto.Epoch{Number: 1, Random: 1}, Term: 1, Seq: shmproto.Seq(seq), Member: "default"}
	for _, n := range guards {
		o.Exclusions = append(o.Exclusions, fp(n))
	}
	return o
}

func TestOrderIsAppliedInOrder(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	cfg := Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d)}
	path := cfg.Tors[0].Site.Include
	var beforeSet string
	tor.set(func() {
		tor.onSet = func() {
			if b, err := os.ReadFile(path); err == nil && beforeSet == "" {
				beforeSet = string(b)
			}
		}
	})
	a, _ := run(t, cfg)
	d.until(t, 0, "guards", present)
	o := orderOf(5, 0)
	d.order(t, 0, o)
	p := d.until(t, 0, "receipt", applied)
	if p.Receipt.Digest != o.Digest() || p.Receipt.Seq != 5 {
		t.Errorf("receipt %+v", p.Receipt)
	}
	if strings.Contains(beforeSet, "reject 127") {
		t.Error("the include file was written before SETCONF was answered")
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), "reject 127.10.0.1") {
		t.Errorf("include file: %q, %v", text, err)
	}
	if got := tor.asked("SETCONF", "CLOSECIRCUIT"); len(got) != 3 || !strings.HasPrefix(got[0], "SETCONF ReachableORAddresses=") ||
		!strings.HasPrefix(got[1], "CLOSECIRCUIT 1") || !strings.HasPrefix(got[2], "CLOSECIRCUIT 2") {
		t.Errorf("requests: %q", got)
	}
	if got := tor.asked("SIGNAL", "SAVECONF", "+"); got != nil {
		t.Errorf("forbidden requests: %q", got)
	}
	doc := a.Status().(Document)
	m := doc.Members[0]
	if m.Order == nil || m.Order.Seq != 5 || m.Receipt == nil || m.Receipt.Status != "applied" || !m.Guards[0].Excluded {
		t.Errorf("status: %+v", m)
	}
	t.Logf("order seen to SETCONF %.2f ms, own %.2f ms; last event to receipt %.2f ms", m.Timing.Setconf, m.Timing.OwnShare, m.Timing.ToReceipt)
	if m.Timing.OwnShare <= 0 || m.Timing.OwnShare > m.Timing.Setconf {
		t.Errorf("own share: %+v", m.Timing)
	}
	if m.Timing.Closed != 2 || m.Timing.Setconf <= 0 || m.Timing.LastGone <= 0 {
		t.Errorf("timing: %+v", m.Timing)
	}
	// The same order again, and an older one, change nothing.
	n := len(tor.asked("SETCONF"))
	d.order(t, 0, o)
	older := orderOf(4)
	d.order(t, 0, older)
	a.Status()
	if len(tor.asked("SETCONF")) != n {
		t.Error("an old order was obeyed")
	}
	// An empty order lifts everything.
	d.order(t, 0, orderOf(6))
	d.until(t, 0, "lifted", func(p *shmproto.Publication) bool { return applied(p) && p.Receipt.Seq == 6 })
	if text, _ := os.ReadFile(path); strings.Contains(string(text), "reject 127") {
		t.Errorf("include file after lifting: %q", text)
	}
}

// TestAnOrderFromBeforeTheStartIsSeenAtOnce: nobody rings for it again.
func TestAnOrderFromBeforeTheStartIsSeenAtOnce(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	d.order(t, 0, orderOf(1, 0))
	<-d.bell // the doorbell was taken by an agent that is gone
	run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d), SlowTick: time.Hour})
	d.until(t, 0, "receipt", applied)
}

func TestRefusalIsAReceipt(t *testing.T) {
	tor := newFakeTor(t)
	tor.set(func() { tor.refuse = true })
	d := newFakeDevice(t, "browsing")
	cfg := Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d)}
	a, _ := run(t, cfg)
	d.until(t, 0, "guards", present)
	d.order(t, 0, orderOf(1, 0))
	p := d.until(t, 0, "receipt", func(p *shmproto.Publication) bool { return p.Receipt.Status == shmproto.ReceiptFailed })
	if p.Receipt.Reason != shmproto.ReasonSetconf {
		t.Errorf("%+v", p.Receipt)
	}
	if got := tor.asked("CLOSECIRCUIT"); got != nil {
		t.Errorf("circuits were closed: %q", got)
	}
	if text, _ := os.ReadFile(cfg.Tors[0].Site.Include); strings.Contains(string(text), "reject 127") {
		t.Error("the include file was written")
	}
	if faults := a.Status().(Document).Faults; len(faults) == 0 {
		t.Error("the status names no problem")
	}
}

func TestTorGoesAndComesBack(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d)})
	d.until(t, 0, "guards", present)
	tor.stop()
	away := func(p *shmproto.Publication) bool { return p.Flags&shmproto.MemberUnreachable != 0 }
	p := d.until(t, 0, "absence", away)
	if len(p.Guards) != fakeGuards {
		t.Error("the last good guards were forgotten")
	}
	tor.start()
	d.until(t, 0, "return", func(p *shmproto.Publication) bool { return !away(p) && present(p) })
}

func TestAHangingTorHoldsUpNobodyElse(t *testing.T) {
	bad, good := newFakeTor(t), newFakeTor(t)
	bad.set(func() { bad.hang = true })
	d := newFakeDevice(t, "browsing")
	a, _ := run(t, Config{Tors: []Tor{torOf(t, "bad", bad), torOf(t, "good", good)}, Dial: oneDevice(d)})
	slot := func() int {
		for _, m := range a.Status().(Document).Members {
			if m.Name == "good" && m.Slot >= 0 {
				return m.Slot
			}
		}
		return -1
	}
	for deadline := time.Now().Add(10 * time.Second); slot() < 0; {
		if time.Now().After(deadline) {
			t.Fatal("no slot")
		}
	}
	p := d.until(t, slot(), "the good one", present)
	if p.Member != "good" {
		t.Errorf("member %q", p.Member)
	}
}

func TestAStalledLockHolderIsPassedOver(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	r, err := shmproto.Open(d.mem)
	if err != nil {
		t.Fatal(err)
	}
	stalled := r.Guest(3, 99)
	if held, _ := stalled.Lock().TryAcquire(); !held {
		t.Fatal("the lock is not free")
	}
	run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d), LockPatience: 50 * time.Millisecond})
	d.until(t, 0, "guards", present)
	if !stalled.Lock().Revoked() {
		t.Error("the stalled holder was not revoked")
	}
}

func TestAnOverwrittenPublicationIsShownAgain(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d), SlowTick: 50 * time.Millisecond})
	d.until(t, 0, "guards", present)
	r, err := shmproto.Open(d.mem)
	if err != nil {
		t.Fatal(err)
	}
	other := r.Guest(3, 99)
	for held := false; !held; held, _ = other.Lock().TryAcquire() {
	}
	if err := other.Publish(0, &shmproto.Publication{Seq: 1, Member: "default", State: shmproto.MemberPresent}); err != nil {
		t.Fatal(err)
	}
	other.Lock().Release()
	d.until(t, 0, "our own again", func(p *shmproto.Publication) bool { return p.Incarnation == 7 && present(p) })
}

// TestNewRegion: while the server is away the old memory is used; when it comes
// back with another region, everything is shown there.
func TestNewRegion(t *testing.T) {
	tor := newFakeTor(t)
	first, second := newFakeDevice(t, "browsing"), newFakeDevice(t, "browsing")
	var mu sync.Mutex
	devices := []Device{first}
	fails := 0
	dial := func() (Device, device.Choice, error) {
		mu.Lock()
		defer mu.Unlock()
		if len(devices) == 0 {
			fails++
			return nil, device.Choice{}, errors.New("no server")
		}
		d := devices[0]
		devices = devices[1:]
		return d, device.Choice{}, nil
	}
	a, _ := run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: dial})
	first.until(t, 0, "guards", present)
	close(first.gone)
	first.order(t, 0, orderOf(1, 0))
	first.until(t, 0, "order in the old memory", applied)
	for deadline := time.Now().Add(10 * time.Second); ; {
		doc := a.Status().(Document)
		if doc.Region.Attached && !doc.Region.Connected && len(doc.Faults) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("status: %+v", doc.Region)
		}
	}
	mu.Lock()
	devices = []Device{second}
	mu.Unlock()
	second.until(t, 0, "the new region", applied)
	select {
	case <-first.closed:
	case <-time.After(10 * time.Second):
		t.Error("the old device was not closed")
	}
}

func TestADamagedRegionIsNamed(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	clear(d.mem[:64])
	a, _ := run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d)})
	for deadline := time.Now().Add(10 * time.Second); ; {
		doc := a.Status().(Document)
		if strings.Contains(doc.Region.Error, shmproto.ErrMagic.Error()) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("status: %+v", doc.Region)
		}
	}
}

func TestHostAbsenceIsSaidAndReturnToo(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	const tick = 100 * time.Millisecond
	a, _ := run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d), SlowTick: tick})
	d.until(t, 0, "guards", present)
	h := d.host(t, 0)
	beating := make(chan struct{})
	var wg sync.WaitGroup
	beat := func() {
		wg.Go(func() {
			for n := uint64(1); ; n++ {
				h.SetLease(shmproto.Lease{Epoch: shmproto.Epoch{Number: 1}, Term: 3, Heartbeat: n, Acting: true})
				select {
				case <-beating:
					return
				case <-time.After(tick / 10):
				}
			}
		})
	}
	await := func(acting bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; {
			doc := a.Status().(Document)
			if doc.Host.Acting == acting && (!acting || doc.Host.Term == 3) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("host: %+v", doc.Host)
			}
		}
	}
	await(false)
	beat() // the region was there before the host agent
	await(true)
	if faults := a.Status().(Document).Faults; len(faults) != 0 {
		t.Errorf("problems with everything well: %+v", faults)
	}
	close(beating)
	wg.Wait()
	stopped := time.Now()
	await(false)
	if took := time.Since(stopped); took > 2*tick+tick/2+time.Second {
		t.Errorf("absence was noticed after %s", took)
	}
}

func TestLeave(t *testing.T) {
	for _, tt := range []struct {
		name   string
		torUp  bool
		region bool
	}{{"with everything", true, true}, {"tor away", false, true}, {"no server", true, false}} {
		t.Run(tt.name, func(t *testing.T) {
			tor := newFakeTor(t)
			d := newFakeDevice(t, "browsing")
			leave := make(chan string)
			cfg := Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d), Leave: leave}
			if !tt.region {
				cfg.Dial = func() (Device, device.Choice, error) { return nil, device.Choice{}, errors.New("no server") }
			}
			_, ended := run(t, cfg)
			if tt.region {
				d.until(t, 0, "guards", present)
				d.order(t, 0, orderOf(1, 0))
				d.until(t, 0, "receipt", applied)
			}
			if !tt.torUp {
				tor.stop()
				d.until(t, 0, "absence", func(p *shmproto.Publication) bool { return p.Flags&shmproto.MemberUnreachable != 0 })
			}
			close(leave)
			select {
			case err := <-ended:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("the agent has not left")
			}
			if tt.region {
				d.until(t, 0, "left", func(p *shmproto.Publication) bool { return p.State == shmproto.MemberLeft })
			}
			if text, _ := os.ReadFile(cfg.Tors[0].Site.Include); strings.Contains(string(text), "reject 127") {
				t.Errorf("include file: %q", text)
			}
			tor.set(func() {
				if tt.torUp && len(tor.or) > 0 {
					t.Errorf("Tor still has %q", tor.or)
				}
			})
		})
	}
}

// TestPurposeChangesAreSeen: Tor says with CIRC_MINOR that a circuit has become
// something else; the circuits are asked for again, as they are after events
// that make no sense.
func TestPurposeChangesAreSeen(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d)})
	inUse := func(n int) func(*shmproto.Publication) bool {
		return func(p *shmproto.Publication) bool {
			return present(p) && p.Guards[n].Flags&shmproto.GuardInUse != 0
		}
	}
	d.until(t, 0, "guards", present)
	for n, event := range map[int]string{
		4: "CIRC_MINOR 3 PURPOSE_CHANGED $" + fp(1).String() + "~g BUILD_FLAGS=NEED_CAPACITY PURPOSE=PATH_BIAS_TESTING OLD_PURPOSE=GENERAL",
		5: "CIRC nonsense",
	} {
		// The circuit appears without an event of its own: only asking shows it.
		tor.set(func() { tor.circuits[fmt.Sprint(40+n)] = fp(n).String() })
		tor.tell(event)
		d.until(t, 0, event, inUse(n))
	}
}

// TestIdleAgentWakesRarely: with nothing happening there is one timer.
func TestIdleAgentWakesRarely(t *testing.T) {
	tor := newFakeTor(t)
	d := newFakeDevice(t, "browsing")
	const tick = 200 * time.Millisecond // 30 s, 150 times faster
	cfg := Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: oneDevice(d), SlowTick: tick}
	cfg.Rotation.PollEvery = 2 * tick
	a, _ := run(t, cfg)
	d.until(t, 0, "guards", present)
	before := a.Status().(Document).Wakeups
	<-time.After(4 * tick) // two minutes
	if n := a.Status().(Document).Wakeups - before; n > 8 {
		t.Errorf("%d wake-ups of the timer in what stands for two minutes", n)
	}
}

func TestQuote(t *testing.T) {
	got := setConf([]rotation.Setting{{Key: "A", Value: `x "y" \z 50%`}, {Key: "A", Value: ""}})
	if want := `SETCONF A="x \"y\" \\z 50%" A=""`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestTranslate(t *testing.T) {
	id := "$" + fp(1).String() + "~g"
	for _, tt := range []struct {
		e    torctl.Event
		want string // part of the event's String; "": none; "error"
	}{
		{torctl.Event{Name: "CIRC", Text: "5 BUILT " + id + " BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL"}, "circuit 5 BUILT"},
		{torctl.Event{Name: "CIRC", Text: "?"}, "error"},
		{torctl.Event{Name: "STREAM", Text: "9 SUCCEEDED 5 example.com:443"}, "stream 9 SUCCEEDED circuit=5"},
		{torctl.Event{Name: "GUARD", Text: "ENTRY " + id + " UP"}, "guard " + fp(1).Short() + " UP"},
		{torctl.Event{Name: "GUARD", Text: "ENTRY"}, "error"},
		{torctl.Event{Name: "NEWCONSENSUS"}, "consensus-arrived"},
		{torctl.Event{Name: "CONF_CHANGED", Lines: []torctl.Line{{Text: "ORPort=1"}, {Text: "EntryNodes"}, {Text: "OK"}}}, "conf-changed ORPort,EntryNodes"},
		{torctl.Event{Name: "BW", Text: "1 2"}, ""},
	} {
		e, err := translate(tt.e)
		got := ""
		if err != nil {
			got = "error"
		} else if e != nil {
			got = e.String()
		}
		if got != tt.want && !(tt.want != "" && tt.want != "error" && strings.Contains(got, tt.want)) {
			t.Errorf("%+v: %q, want %q", tt.e, got, tt.want)
		}
	}
	if _, err := guardstate.ParseFingerprint(id); err != nil {
		t.Error(err)
	}
}

// TestAHostThatComesALittleLaterIsNotMissed: the agent took its seat before the
// host agent showed its lease. The first look after that is a sign of life.
func TestAHostThatComesALittleLaterIsNotMissed(t *testing.T) {
	const tick = 30 * time.Second
	d := newFakeDevice(t, "browsing")
	r, err := shmproto.Open(d.mem)
	if err != nil {
		t.Fatal(err)
	}
	l := &loop{cfg: Config{SlowTick: tick}}
	l.cfg.fill()
	l.shore.guest = r.Guest(0, 7)
	lease := shmproto.Lease{Epoch: shmproto.Epoch{Number: 1}, Term: 3, Heartbeat: 1, Acting: true}
	start := time.Now()
	look := func(at time.Duration) bool { l.host.look(l, start.Add(at)); return l.host.told }
	if look(0) {
		t.Error("absent at the first look")
	}
	d.host(t, 0).SetLease(lease)
	if look(tick) {
		t.Error("a lease that appeared is no sign of life")
	}
	lease.Heartbeat++
	d.host(t, 0).SetLease(lease)
	if look(2 * tick) {
		t.Error("a new heartbeat is no sign of life")
	}
	if !look(3 * tick) {
		t.Error("the absence of a heartbeat was not noticed within a minute")
	}
	// A dead host's lease, found at the first look, is no sign of life.
	l.host = hostWatch{}
	look(4 * tick)
	if !look(5 * tick) {
		t.Error("a dead host's lease was taken for a living one's")
	}
}

// deafDevice blocks whoever rings it, as a peer can that misuses the shared eventfd.
type deafDevice struct {
	*fakeDevice
	rung, over chan struct{}
	once       sync.Once
}

func (d *deafDevice) Ring() error {
	d.once.Do(func() { close(d.rung) })
	<-d.over
	return nil
}

// TestBlockedRingHoldsNobody: a doorbell that blocks does not keep the agent from going
// over to the region's new server.
func TestBlockedRingHoldsNobody(t *testing.T) {
	tor := newFakeTor(t)
	deaf := &deafDevice{fakeDevice: newFakeDevice(t, "browsing"), rung: make(chan struct{}), over: make(chan struct{})}
	next := newFakeDevice(t, "browsing")
	devices := make(chan Device, 2)
	devices <- deaf
	devices <- next
	run(t, Config{Tors: []Tor{torOf(t, "default", tor)}, Dial: func() (Device, device.Choice, error) { return <-devices, device.Choice{}, nil }})
	t.Cleanup(func() { close(deaf.over) })
	<-deaf.rung
	close(deaf.gone)
	next.until(t, 0, "guards in the new region", present)
}
