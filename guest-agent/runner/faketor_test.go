package runner

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"guardring/internal/guardstate"
)

// fakeTor is a small real control port: it keeps options, guards and circuits,
// sends events, and remembers what it was asked.
type fakeTor struct {
	t    *testing.T
	path string

	mu       sync.Mutex
	l        net.Listener
	stopped  bool
	conns    []net.Conn
	wg       sync.WaitGroup
	requests []string
	or       []string          // ReachableORAddresses
	circuits map[string]string // ID: first hop
	gate     bool              // __LeaveStreamsUnattached
	waiting  []string          // streams that are attached to no circuit
	uid      string            // the user that it says it runs as; "": it does not say
	hang     bool              // answers nothing
	refuse   bool              // refuses SETCONF
	onSet    func()            // called after a SETCONF, before its answer
}

// The fake's guards: guard n has address 127.n.0.1:5000.
const fakeGuards = 8

func fp(n int) guardstate.Fingerprint {
	var f guardstate.Fingerprint
	for i := range f {
		f[i] = byte(n + 0xA0)
	}
	return f
}

func newFakeTor(t *testing.T) *fakeTor {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "faketor")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeTor{t: t, path: filepath.Join(dir, "control"), circuits: map[string]string{}}
	f.circuits["1"], f.circuits["2"], f.circuits["3"] = fp(0).String(), fp(0).String(), fp(1).String()
	f.start()
	t.Cleanup(func() { f.stop(); os.RemoveAll(dir) })
	return f
}

func (f *fakeTor) start() {
	os.Remove(f.path)
	l, err := net.Listen("unix", f.path)
	if err != nil {
		f.t.Fatal(err)
	}
	f.l = l
	f.set(func() { f.stopped = false })
	f.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.set(func() {
				if f.stopped { // meanwhile; nobody else would close it
					c.Close()
				}
				f.conns = append(f.conns, c)
			})
			f.wg.Go(func() { f.serve(c) })
		}
	})
}

func (f *fakeTor) stop() {
	f.l.Close()
	f.set(func() {
		f.stopped = true
		for _, c := range f.conns {
			c.Close()
		}
		f.conns = nil
	})
	f.wg.Wait()
}

func (f *fakeTor) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		f.mu.Lock()
		f.requests = append(f.requests, line)
		reply := f.answer(line)
		hang := f.hang
		f.mu.Unlock()
		if !hang {
			fmt.Fprint(c, reply)
		}
	}
}

// answer is called with mu held.
func (f *fakeTor) answer(line string) string {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "PROTOCOLINFO":
		return "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250-VERSION Tor=\"0.4.9.11\"\r\n250 OK\r\n"
	case "GETCONF":
		var lines []string
		for key := range strings.FieldsSeq(rest) {
			if key == "__LeaveStreamsUnattached" && f.gate {
				lines = append(lines, key+"=1")
				continue
			}
			if key != "ReachableORAddresses" || len(f.or) == 0 {
				lines = append(lines, key)
				continue
			}
			for _, v := range f.or {
				lines = append(lines, key+"="+v)
			}
		}
		for i := range lines[:len(lines)-1] {
			lines[i] = "250-" + lines[i] + "\r\n"
		}
		return strings.Join(lines[:len(lines)-1], "") + "250 " + lines[len(lines)-1] + "\r\n"
	case "GETINFO":
		return f.info(rest)
	case "SETCONF", "RESETCONF":
		if f.refuse {
			return "513 Unacceptable option value: no\r\n"
		}
		if strings.HasPrefix(rest, "__LeaveStreamsUnattached") {
			f.gate = word == "SETCONF"
			if f.onSet != nil {
				f.onSet()
			}
			return "250 OK\r\n650-CONF_CHANGED\r\n650-__LeaveStreamsUnattached=x\r\n650 OK\r\n"
		}
		f.or = nil
		for part := range strings.SplitSeq(rest, "ReachableORAddresses=\"") {
			if v, _, ok := strings.Cut(part, "\""); ok && v != "" {
				for one := range strings.SplitSeq(v, ",") {
					f.or = append(f.or, strings.TrimSpace(one))
				}
			}
		}
		if f.onSet != nil {
			f.onSet()
		}
		return "250 OK\r\n650-CONF_CHANGED\r\n650-ReachableORAddresses=x\r\n650 OK\r\n"
	case "ATTACHSTREAM":
		id, circuit, _ := strings.Cut(rest, " ")
		if i := slices.Index(f.waiting, id); i < 0 || circuit != "0" {
			return "552 Unknown stream \"" + id + "\"\r\n"
		} else {
			f.waiting = slices.Delete(f.waiting, i, i+1)
		}
		return "250 OK\r\n"
	case "CLOSECIRCUIT":
		id, _, _ := strings.Cut(rest, " ")
		first, ok := f.circuits[id]
		if !ok {
			return "552 Unknown circuit\r\n"
		}
		delete(f.circuits, id)
		return "250 OK\r\n650 CIRC " + id + " CLOSED $" + first + "~g BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL REASON=REQUESTED\r\n"
	}
	return "250 OK\r\n"
}

func (f *fakeTor) info(key string) string {
	data := func(lines []string) string {
		return "250+" + key + "=\r\n" + strings.Join(append(lines, ".\r\n250 OK\r\n"), "\r\n")
	}
	one := func(v string) string { return "250-" + key + "=" + v + "\r\n250 OK\r\n" }
	switch {
	case key == "version":
		return one("0.4.9.11 (git-0)")
	case key == "process/uid" && f.uid != "":
		return one(f.uid)
	case key == "dormant":
		return one("0")
	case key == "consensus/valid-until":
		return one(time.Now().UTC().Add(time.Hour).Format(time.DateTime))
	case key == "entry-guards":
		var lines []string
		for n := range fakeGuards {
			status := "never-connected"
			if n < 3 {
				status = "up"
			}
			if status == "up" && slices.ContainsFunc(f.or, func(v string) bool { return strings.HasPrefix(v, fmt.Sprintf("reject 127.%d.0.1", n+10)) }) {
				status = "unusable"
			}
			lines = append(lines, fmt.Sprintf("$%s~g%d %s", fp(n), n, status))
		}
		return data(lines)
	case key == "circuit-status":
		var lines []string
		for id, first := range f.circuits {
			lines = append(lines, fmt.Sprintf("%s BUILT $%s~g,$%s~m BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL", id, first, fp(30)))
		}
		slices.Sort(lines)
		if len(lines) == 0 {
			return one("")
		}
		return data(lines)
	case key == "stream-status":
		var lines []string
		for _, id := range f.waiting {
			lines = append(lines, id+" NEW 0 example.com:80")
		}
		if len(lines) == 0 {
			return one("")
		}
		return data(lines)
	case key == "ns/all":
		var lines []string
		for n := range fakeGuards {
			lines = append(lines, ns(n)...)
		}
		return data(lines)
	case strings.HasPrefix(key, "ns/id/$"):
		for n := range fakeGuards {
			if key == "ns/id/$"+fp(n).String() {
				return data(ns(n))
			}
		}
	}
	return "552 Unrecognized key \"" + key + "\"\r\n"
}

func ns(n int) []string {
	id := fp(n)
	return []string{
		fmt.Sprintf("r g%d %s 2026-11-21 10:00:00 127.%d.0.1 5000 0", n, base64.RawStdEncoding.EncodeToString(id[:]), n+10),
		"s Fast Guard Running Stable V2Dir Valid",
	}
}

// asked returns the requests so far that begin with one of the words.
func (f *fakeTor) asked(words ...string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, r := range f.requests {
		for _, w := range words {
			if strings.HasPrefix(r, w) {
				out = append(out, r)
			}
		}
	}
	return out
}

// awaitRequest waits until the fake was asked exactly this.
func awaitRequest(t *testing.T, f *fakeTor, request string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !slices.Contains(f.asked(request), request); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("never asked %q", request)
		}
	}
}

func (f *fakeTor) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// tell sends an event on every connection.
func (f *fakeTor) tell(event string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		fmt.Fprintf(c, "650 %s\r\n", event)
	}
}
