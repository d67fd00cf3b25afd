package torctl

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// port is a scripted control port: a real unix socket that authenticates as
// told and then answers each request by answer.
type port struct {
	path string

	mu       sync.Mutex
	requests []string
}

// script says how a port behaves. Every field is optional.
type script struct {
	auth     string // METHODS of PROTOCOLINFO; empty means NULL
	cookie   []byte // what the port believes the cookie to be
	file     string // COOKIEFILE
	password string
	// raw replaces everything: it is given the accepted connection.
	raw func(c net.Conn, r *bufio.Reader)
	// answer returns the bytes to send for a request; "" sends nothing, and
	// closed says to close.
	answer func(request string) (reply string, closed bool)
}

func listen(t *testing.T, s script) *port {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "torctl")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "control"))
	if err != nil {
		t.Fatal(err)
	}
	p := &port{path: l.Addr().String()}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer c.Close()
				p.serve(c, s)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
		os.RemoveAll(dir)
	})
	return p
}

func (p *port) serve(c net.Conn, s script) {
	r := bufio.NewReader(c)
	if s.raw != nil {
		s.raw(c, r)
		return
	}
	var want string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		p.mu.Lock()
		p.requests = append(p.requests, line)
		p.mu.Unlock()
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "PROTOCOLINFO":
			methods := s.auth
			if methods == "" {
				methods = "NULL"
			}
			if s.file != "" {
				methods += fmt.Sprintf(" COOKIEFILE=%q", s.file)
			}
			fmt.Fprintf(c, "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=%s\r\n250-VERSION Tor=\"0.4.9.11\"\r\n250 OK\r\n", methods)
		case "AUTHCHALLENGE":
			nonce, _ := hex.DecodeString(strings.TrimPrefix(rest, "SAFECOOKIE "))
			server := make([]byte, 32)
			sum := func(key string) string {
				m := hmac.New(sha256.New, []byte(key))
				m.Write(s.cookie)
				m.Write(nonce)
				m.Write(server)
				return hex.EncodeToString(m.Sum(nil))
			}
			want = sum("Tor safe cookie authentication controller-to-server hash")
			fmt.Fprintf(c, "250 AUTHCHALLENGE SERVERHASH=%s SERVERNONCE=%s\r\n",
				sum("Tor safe cookie authentication server-to-controller hash"), hex.EncodeToString(server))
		case "AUTHENTICATE":
			if s.auth != "" && want == "" {
				if s.password != "" {
					want = hex.EncodeToString([]byte(s.password))
				} else {
					want = hex.EncodeToString(s.cookie)
				}
			}
			if rest != want {
				fmt.Fprint(c, "515 Authentication failed: Wrong length on authentication cookie.\r\n")
				return
			}
			fmt.Fprint(c, "250 OK\r\n")
		default:
			reply, closed := s.answer(line)
			fmt.Fprint(c, reply)
			if closed {
				return
			}
		}
	}
}

func (p *port) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.requests...)
}

// noLeaks fails the test if goroutines are left over at its end. Call it first.
func noLeaks(t *testing.T) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		deadline := time.Now().Add(long)
		for runtime.NumGoroutine() > before {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<16)
				t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
				return
			}
			runtime.Gosched()
		}
	})
}
