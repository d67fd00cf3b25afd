package torctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"guardring/internal/hint"
)

// short is for what never comes, long bounds what would else hang for ever.
const short, long = 200 * time.Millisecond, time.Minute

func dial(t *testing.T, p *port, cfg Config) *Conn {
	t.Helper()
	cfg.Address = p.path
	c, err := Dial(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestRequests(t *testing.T) {
	noLeaks(t)
	p := listen(t, script{answer: func(r string) (string, bool) {
		switch r {
		case "GETINFO version dormant":
			return "250-version=0.4.9.11\r\n250-dormant=0\r\n250 OK\r\n", false
		case "GETINFO entry-guards":
			return "250+entry-guards=\r\n$AA~a up\r\n..dot\r\n$BB~b unusable\r\n.\r\n250 OK\r\n", false
		case "GETCONF ReachableAddresses":
			return "250-ReachableAddresses=accept *:443\r\n250 ReachableAddresses=reject *:*\r\n", false
		case "GETCONF ORPort":
			return "250 ORPort\r\n", false
		}
		return "513 Unacceptable option value: %s is %d\r\n", false
	}})
	c := dial(t, p, Config{})
	ctx := context.Background()
	for _, tt := range []struct {
		request, key string
		want         string
	}{
		{"GETINFO version dormant", "version", "[0.4.9.11]"},
		{"GETINFO entry-guards", "entry-guards", "[$AA~a up\n.dot\n$BB~b unusable]"},
		{"GETCONF ReachableAddresses", "reachableaddresses", "[accept *:443 reject *:*]"},
		{"GETCONF ORPort", "ORPort", "[]"},
	} {
		r, err := c.Do(ctx, tt.request)
		if err != nil {
			t.Fatalf("%s: %v", tt.request, err)
		}
		if got := fmt.Sprint(r.Values(tt.key)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.request, got, tt.want)
		}
	}
	_, err := c.Do(ctx, "SETCONF Foo=50%")
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Code != 513 || refusal.Text != "Unacceptable option value: %s is %d" {
		t.Errorf("refusal: %v", err)
	}
	if got := p.seen()[len(p.seen())-1]; got != "SETCONF Foo=50%" {
		t.Errorf("sent %q", got)
	}
	for _, bad := range []string{"SETCONF a=1\r\nSIGNAL HALT", "+SETCONF a", "GETINFO a\x00"} {
		if _, err := c.Do(ctx, bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if _, err := c.Do(ctx, "GETINFO version dormant"); err != nil {
		t.Errorf("after refused requests: %v", err)
	}
}

func TestDoLinesDropsWhatNobodyWants(t *testing.T) {
	noLeaks(t)
	var body strings.Builder
	for range 200_000 { // more than maxKept
		body.WriteString("r nobody wants this line of a long consensus\r\n")
	}
	body.WriteString("params guard-n-primary-guards=3\r\n")
	p := listen(t, script{answer: func(string) (string, bool) {
		return "650 GUARD ENTRY $AA UP\r\n650+CONF\r\nr kept, it is an event's\r\n.\r\n650 OK\r\n250+x=\r\n" + body.String() + ".\r\n250 OK\r\n", false
	}})
	c := dial(t, p, Config{Timeout: long})
	r, err := c.DoLines(context.Background(), "GETINFO x", func(l []byte) bool { return strings.HasPrefix(string(l), "params ") })
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Values("x"); len(got) != 1 || got[0] != "params guard-n-primary-guards=3" {
		t.Errorf("%q", got)
	}
	events := c.Take()
	if len(events) != 2 || events[1].Lines[0].Data != "r kept, it is an event's" {
		t.Errorf("events: %+v", events)
	}
	if _, err := c.Do(context.Background(), "GETINFO x"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("unfiltered: %v", err)
	}
}

// repeated is a text again and again.
type repeated string

func (r repeated) Read(p []byte) (int, error) { return copy(p, r), nil }

// TestWhatIsDroppedIsBoundedToo: a reply that goes on and on holds nobody although
// nothing of it is kept.
func TestWhatIsDroppedIsBoundedToo(t *testing.T) {
	f := newFrames(io.MultiReader(strings.NewReader("250+ns/all=\r\n"), io.LimitReader(repeated(strings.Repeat("y", 4000)+"\n"), 2*maxReply)))
	nothing := func([]byte) bool { return false }
	f.keep.Store(&nothing)
	n, err := io.Copy(io.Discard, f)
	if !errors.Is(err, ErrTooLarge) || n > 100 || f.total > maxReply+maxLine {
		t.Errorf("%d bytes handed out, %d read: %v", n, f.total, err)
	}
}

// TestBadPorts: every way of not answering is an error within the deadline, and
// leaves no goroutine behind.
func TestBadPorts(t *testing.T) {
	noLeaks(t)
	hang := func(r *bufio.Reader) { r.ReadString(0) } // until the other side closes
	sending := func(text string) func(net.Conn, *bufio.Reader) {
		return func(c net.Conn, r *bufio.Reader) { fmt.Fprint(c, text); hang(r) }
	}
	for name, raw := range map[string]func(net.Conn, *bufio.Reader){
		"closes at once": func(net.Conn, *bufio.Reader) {},
		"hangs":          func(_ net.Conn, r *bufio.Reader) { hang(r) },
		"half an answer": sending("250-PROTOCOLINFO 1\r\n250-AU"),
		"closes mid-reply": func(c net.Conn, r *bufio.Reader) {
			r.ReadString('\n')
			fmt.Fprint(c, "250-PROTOCOLINFO 1\r\n250-AUTH METH")
		},
		"nonsense":           sending("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"binary":             sending("\x00\xff\xfe\r\n\x80\r\n"),
		"wrong version":      sending("250-PROTOCOLINFO 7\r\n250 OK\r\n"),
		"no methods":         sending("250-PROTOCOLINFO 1\r\n250 OK\r\n"),
		"status changes":     sending("250-PROTOCOLINFO 1\r\n251 OK\r\n"),
		"endless line":       endless("x"),
		"endless reply":      endless("250-x\r\n"),
		"data without end":   sending("250+x=\r\nline\r\n"),
		"endless data":       endless("250+x=\r\ny\r\n"),
		"AUTHCHALLENGE lies": sending("250-PROTOCOLINFO 1\r\n250-AUTH METHODS=SAFECOOKIE COOKIEFILE=\"/dev/zero\"\r\n250 OK\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			p := listen(t, script{raw: raw})
			start := time.Now()
			_, err := Dial(context.Background(), Config{Address: p.path, Timeout: short})
			if err == nil {
				t.Fatal("connected")
			}
			t.Log(err)
			if took := time.Since(start); took > DefaultTimeout-short { // what was asked for counts
				t.Errorf("took %s", took)
			}
		})
	}
}

// endless sends text for ever.
func endless(text string) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		block := strings.Repeat(text, 4096)
		for {
			if _, err := c.Write([]byte(block)); err != nil {
				return
			}
		}
	}
}

// TestBadAnswers: the same after a good handshake.
func TestBadAnswers(t *testing.T) {
	noLeaks(t)
	for name, tt := range map[string]struct {
		reply  string
		closes bool
		want   error
	}{
		"hangs":             {"", false, os.ErrDeadlineExceeded},
		"half":              {"250-version=0", false, os.ErrDeadlineExceeded},
		"closes":            {"", true, nil},
		"closes mid-reply":  {"250-version=0.4\r\n", true, nil},
		"nonsense":          {"what?\r\n", false, nil},
		"two answers":       {"250 OK\r\n250 OK\r\n", false, nil},
		"endless line":      {strings.Repeat("x", 2*maxLine), false, ErrTooLarge},
		"too large a reply": {strings.Repeat("250-x="+strings.Repeat("y", 1000)+"\r\n", maxKept/1000), false, ErrTooLarge},
		"data, no end":      {"250+a=\r\nb\r\n", false, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			p := listen(t, script{answer: func(string) (string, bool) { return tt.reply, tt.closes }})
			c := dial(t, p, Config{Timeout: long})
			if errors.Is(tt.want, os.ErrDeadlineExceeded) {
				c.timeout = short // not for the handshake
			}
			_, err := c.Do(context.Background(), "GETINFO version")
			if err == nil { // "two answers": the surplus one ends the connection
				select {
				case <-c.Failed():
				case <-time.After(long):
					t.Fatal("the surplus answer was kept")
				}
				err = c.Err()
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			t.Log(err)
			<-c.Failed()
			if _, err := c.Do(context.Background(), "GETINFO version"); err == nil {
				t.Error("a broken connection was used again")
			}
		})
	}
}

func TestCancelClosesOnlyWhileWaiting(t *testing.T) {
	noLeaks(t)
	asked := make(chan struct{})
	p := listen(t, script{answer: func(r string) (string, bool) {
		if r == "GETINFO slow" {
			close(asked)
			return "", false
		}
		return "250 OK\r\n", false
	}})
	c := dial(t, p, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := c.Do(ctx, "TAKEOWNERSHIP"); err != nil {
		t.Fatal(err)
	}
	first := make(chan error, 1)
	go func() { _, err := c.Do(ctx, "GETINFO slow"); first <- err }()
	<-asked
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	<-c.Failed()
}

func TestEventsNeverBlockAndNeverVanish(t *testing.T) {
	noLeaks(t)
	p := listen(t, script{answer: func(r string) (string, bool) {
		if strings.HasPrefix(r, "SETEVENTS") {
			return "250 OK\r\n650 CIRC 4 BUILT $AA~a,$BB~b BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL\r\n" +
				"650-CONF_CHANGED\r\n650-ReachableORAddresses=accept *:*\r\n650 OK\r\n", false
		}
		return strings.Repeat("650 GUARD ENTRY $AA UP\r\n", maxQueued+10) + "250 OK\r\n", false
	}})
	c := dial(t, p, Config{})
	if err := c.Subscribe(context.Background(), "CIRC", "CONF_CHANGED"); err != nil {
		t.Fatal(err)
	}
	var events []Event
	for len(events) < 2 {
		<-c.Ready()
		events = append(events, c.Take()...)
	}
	if events[0].Name != "CIRC" || !strings.HasPrefix(events[0].Text, "4 BUILT $AA~a,$BB~b") {
		t.Errorf("%+v", events[0])
	}
	if events[1].Name != "CONF_CHANGED" || events[1].Lines[0].Text != "ReachableORAddresses=accept *:*" {
		t.Errorf("%+v", events[1])
	}
	// Nobody takes events now, and the request is answered all the same.
	if _, err := c.Do(context.Background(), "GETINFO flood"); err != nil {
		t.Fatal(err)
	}
	got := c.Take()
	if len(got) == 0 || got[0].Name != Resync {
		t.Fatalf("%d events, the first %+v", len(got), got[:1])
	}
	if len(got) > maxQueued {
		t.Errorf("%d events were queued", len(got))
	}
}

func TestAuthentication(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	cookie := []byte(strings.Repeat("c", cookieLen))
	file := filepath.Join(dir, "control.authcookie")
	stale := filepath.Join(dir, "stale")
	shortFile := filepath.Join(dir, "short")
	for path, content := range map[string][]byte{file: cookie, stale: []byte(strings.Repeat("s", cookieLen)), shortFile: []byte("short")} {
		if err := os.WriteFile(path, content, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		s    script
		cfg  Config
		want string // part of the error; empty: success
		hint string
	}{
		{name: "null"},
		{name: "safe cookie", s: script{auth: "COOKIE,SAFECOOKIE", cookie: cookie, file: file}},
		{name: "plain cookie", s: script{auth: "COOKIE", cookie: cookie, file: "/nonexistent"}, cfg: Config{CookiePath: file}},
		{name: "plain cookie of a file that the port chose", s: script{auth: "COOKIE", cookie: cookie, file: file}, want: "wants the cookie itself", hint: "cookie:"},
		{name: "other cookie path", s: script{auth: "COOKIE,SAFECOOKIE", cookie: cookie, file: "/nonexistent"}, cfg: Config{CookiePath: file}},
		{name: "wrong cookie", s: script{auth: "COOKIE,SAFECOOKIE", cookie: cookie, file: stale}, want: "not the one that this control port uses", hint: "another Tor"},
		{name: "no cookie", s: script{auth: "COOKIE,SAFECOOKIE", cookie: cookie, file: dir + "/none"}, want: "does not exist", hint: "CookieAuthFile"},
		{name: "odd cookie", s: script{auth: "COOKIE,SAFECOOKIE", cookie: cookie, file: shortFile}, want: "not a file of 32 bytes"},
		{name: "cookie is a device", s: script{auth: "COOKIE,SAFECOOKIE", cookie: cookie, file: "/dev/zero"}, want: "not a regular file"},
		{name: "password", s: script{auth: "HASHEDPASSWORD", password: "a b\"%s"}, cfg: Config{Password: "a b\"%s"}},
		{name: "password after unreadable cookie", s: script{auth: "COOKIE,SAFECOOKIE,HASHEDPASSWORD", password: "pw", file: dir + "/none"}, cfg: Config{Password: "pw"}},
		{name: "wrong password", s: script{auth: "HASHEDPASSWORD", password: "pw"}, cfg: Config{Password: "no"}, want: "tor refused the password", hint: "password"},
		{name: "missing password", s: script{auth: "HASHEDPASSWORD", password: "pw"}, want: "none is configured", hint: "CookieAuthentication 1"},
		{name: "unknown method", s: script{auth: "MAGIC"}, want: "no known way"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := listen(t, tt.s)
			cfg := tt.cfg
			cfg.Address = p.path
			c, err := Dial(context.Background(), cfg)
			if err == nil {
				c.Close()
			}
			checkError(t, err, tt.want, tt.hint)
		})
	}
}

func checkError(t *testing.T, err error, want, remedy string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("got %v, want %q", err, want)
	}
	if !strings.Contains(hint.Of(err), remedy) {
		t.Errorf("no hint with %q in %#v", remedy, err)
	}
}

func TestDialErrors(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	for _, tt := range []struct{ name, address, want, hint string }{
		{"missing", dir + "/none", "does not exist", "start Tor"},
		{"long", "/" + strings.Repeat("x", 200), "", ""},
		{"refused", "127.0.0.1:1", "nobody listens", "ControlPort"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Dial(context.Background(), Config{Address: tt.address, Timeout: long})
			if err == nil {
				t.Fatal("connected")
			}
			if tt.want != "" {
				checkError(t, err, tt.want, tt.hint)
			}
		})
	}
}

// TestNoNetwork: a control port over TCP needs what neither unit nor profile gives.
func TestNoNetwork(t *testing.T) {
	for _, err := range []error{syscall.EAFNOSUPPORT, syscall.EPERM, syscall.EACCES, syscall.ECONNREFUSED} {
		checkError(t, dialError("tcp", "127.0.0.1:9051", &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", err)}), "127.0.0.1:9051", "systemctl cat guardring-guest")
	}
}

// TestPermissionNamesTheGroup: whoever lacks the group learns its name. Root may
// read everything, so the message is made from the error itself.
func TestPermissionNamesTheGroup(t *testing.T) {
	err := dialError("unix", "/nonexistent/control", os.ErrPermission)
	checkError(t, err, "permission denied", "group debian-tor")
	path := filepath.Join(t.TempDir(), "cookie")
	if err := os.WriteFile(path, make([]byte, cookieLen), 0); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(path, 0, 2); err != nil { // group bin on Debian
			t.Fatal(err)
		}
		if got := joinGroup(path); !strings.Contains(got, "bin") && !strings.Contains(got, "group 2") {
			t.Errorf("hint: %s", got)
		}
		return
	}
	_, err = readCookie(path, anyOwner)
	checkError(t, err, path+": permission denied", "add the agent's user to group")
}

// TestCookieOfAnother: who listens at one Tor's control socket cannot have us prove
// that we know another Tor's cookie.
func TestCookieOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cookie")
	if err := os.WriteFile(path, make([]byte, cookieLen), 0o600); err != nil {
		t.Fatal(err)
	}
	me := os.Getuid()
	for owner, want := range map[int]string{anyOwner: "", me: "", me + 1: "it may be another Tor's"} {
		_, err := readCookie(path, owner)
		checkError(t, err, want, "")
	}
	p := listen(t, script{})
	c, err := net.Dial("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, want := peer(c), map[bool]int{true: anyOwner, false: me}[me == 0]; got != want {
		t.Errorf("peer %d, want %d", got, want)
	}
}
