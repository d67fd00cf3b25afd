package enforce

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"guardring/internal/guardstate"
	"guardring/internal/hint"
)

// namespace gives the test's goroutine a network of its own, with a listener on
// both families.
func namespace(t *testing.T) (v4, v6 netip.AddrPort) {
	t.Helper()
	runtime.LockOSThread() // for ever: the thread must not come back to others
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("skipping, no network namespace: %v (try: make test, as root)", err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("ip: %v: %s (try: apt install iproute2)", err, out)
	}
	if err := New("guardring-test").Check(); err != nil {
		t.Skipf("skipping, %v (%s)", err, hint.Of(err))
	}
	listen := func(addr string) netip.AddrPort {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l.Addr().(*net.TCPAddr).AddrPort()
	}
	return listen("127.0.0.1:0"), listen("[::1]:0")
}

// How long a connection that must come may take, and one that must not.
const patience, short = time.Minute, 300 * time.Millisecond

// dial connects as a user.
func dial(t *testing.T, uid uintptr, to netip.AddrPort, limit time.Duration) (net.Conn, bool) {
	t.Helper()
	// Of this thread only, which is the test's: the socket belongs to that user.
	unix.RawSyscall(unix.SYS_SETFSUID, uid, 0, 0)
	defer unix.RawSyscall(unix.SYS_SETFSUID, 0, 0, 0)
	c, err := net.DialTimeout("tcp", to.String(), limit)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err == nil
}

func reaches(t *testing.T, uid uintptr, to netip.AddrPort, want bool) {
	t.Helper()
	limit := short
	if want {
		limit = patience
	}
	if _, got := dial(t, uid, to, limit); got != want {
		t.Errorf("user %d reaches %v: %t, want %t", uid, to, got, want)
	}
}

const web, apt = 4242, 4243

func TestTable(t *testing.T) {
	v4, v6 := namespace(t)
	table := New("guardring-test")
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	established, ok := dial(t, web, v4, patience)
	if !ok {
		t.Fatal("no connection before")
	}
	do(table.Set("apt", apt, nil))
	do(table.Set("web", web, []guardstate.Reject{{Addrs: []netip.AddrPort{v4, v6}}}))
	reaches(t, web, v4, false)
	reaches(t, web, v6, false)
	reaches(t, apt, v4, true)
	reaches(t, 0, v6, true)
	if _, err := established.Write([]byte("x")); err != nil {
		t.Errorf("an established connection: %v", err)
	}
	state, err := table.State()
	if s := state["web"]; err != nil || s.Err != nil || s.UID != web || s.Addresses != 2 || s.Dropped < 2 {
		t.Errorf("state %+v, %v", state, err)
	}

	// Only the port is barred; with Whole every port is.
	other := netip.AddrPortFrom(v4.Addr(), v4.Port()+1)
	do(table.Set("web", web, []guardstate.Reject{{Addrs: []netip.AddrPort{other}}}))
	reaches(t, web, v4, true)
	do(table.Set("web", web, []guardstate.Reject{{Addrs: []netip.AddrPort{other}, Whole: true}, {Addrs: []netip.AddrPort{v6}, Whole: true}}))
	reaches(t, web, v4, false)
	reaches(t, web, v6, false)
	before := state["web"].Dropped
	if state, err = table.State(); err != nil || state["web"].Dropped <= before {
		t.Errorf("the counter does not go on: %+v, %v, before %d", state, err, before)
	}

	// The next agent takes over what it finds; a member it does not know of goes.
	next := New("guardring-test")
	reaches(t, web, v4, false)
	do(next.Keep([]string{"web"}))
	if state, err := next.State(); err != nil || len(state) != 1 || state["web"].Addresses != 2 || state["web"].Dropped == 0 {
		t.Errorf("taken over: %+v, %v", state, err)
	}
	do(next.Set("apt", apt, []guardstate.Reject{{Addrs: []netip.AddrPort{v6}}}))
	reaches(t, web, v6, false)
	reaches(t, apt, v6, false)

	// Somebody flushes the table, empties a set, takes a rule's verdict.
	if _, err := exec.LookPath("nft"); err != nil {
		t.Fatal("no nft (try: apt install nftables)")
	}
	for _, harm := range []string{
		"flush ruleset", "flush set inet guardring-test web-addr4", "flush chain inet guardring-test output",
		"insert rule inet guardring-test output accept", "delete table inet guardring-test",
		"delete table inet guardring-test; add table inet guardring-test; add set inet guardring-test web-addr4 { type ether_addr; }",
	} {
		if out, err := exec.Command("nft", harm).CombinedOutput(); err != nil {
			t.Fatalf("nft %s: %v: %s", harm, err, out)
		}
		if state, err := next.State(); err != nil || state["web"].Err == nil {
			t.Errorf("after %s: not noticed: %+v, %v", harm, state, err)
		}
		do(next.Check())
		reaches(t, web, v4, false)
		if state, err := next.State(); err != nil || state["web"].Err != nil {
			t.Errorf("after %s: not put right: %+v, %v", harm, state, err)
		}
	}

	do(next.Drop("web"))
	reaches(t, web, v4, true)
	reaches(t, apt, v6, false)
	do(next.Remove())
	reaches(t, apt, v6, true)
	out, err := exec.Command("nft", "list", "tables").CombinedOutput()
	if err != nil || len(out) != 0 {
		t.Errorf("tables left: %q, %v", out, err)
	}
	do(next.Remove())
}

// TestSharedUser: rules for one of two Tors with one user would cut the other one
// off from its own guard.
func TestSharedUser(t *testing.T) {
	v4, _ := namespace(t)
	table := New("guardring-test")
	bar := []guardstate.Reject{{Addrs: []netip.AddrPort{v4}}}
	if err := table.Set("a", web, bar); err != nil {
		t.Fatal(err)
	}
	reaches(t, web, v4, false)
	if err := table.Set("b", web, bar); err == nil || !strings.Contains(err.Error(), "same user") || hint.Of(err) == "" {
		t.Errorf("error %v", err)
	}
	reaches(t, web, v4, true)
	state, err := table.State()
	if err != nil || state["a"].Err == nil || state["b"].Err == nil {
		t.Errorf("%+v, %v", state, err)
	}
	if err := table.Set("r", 0, bar); err == nil {
		t.Error("rules for root's user")
	}
	if err := table.Set("b", apt, bar); err != nil {
		t.Fatal(err)
	}
	if err := table.Set("a", web, bar); err != nil {
		t.Fatal(err)
	}
	reaches(t, web, v4, false)
	reaches(t, apt, v4, false)
}

// TestWithoutTheCapability: the error says what to do.
func TestWithoutTheCapability(t *testing.T) {
	err := explain("list the tables", &net.OpError{Err: unix.EPERM})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(hint.Of(err), "CAP_NET_ADMIN") {
		t.Errorf("%v, hint %q", err, hint.Of(err))
	}
	if err := explain("x", unix.EPROTONOSUPPORT); !strings.Contains(hint.Of(err), "modprobe") {
		t.Errorf("%v, hint %q", err, hint.Of(err))
	}
}
