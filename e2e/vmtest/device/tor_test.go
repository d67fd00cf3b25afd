//go:build e2e

package device

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// script is a control port on this side of the machine, which the guest's agent
// reaches through QEMU's network: a Tor with eight guards of which three are up,
// that does what it is told and never needs a network.
type script struct {
	l net.Listener

	mu      sync.Mutex
	rejects []string // ReachableORAddresses
	set     int      // SETCONFs so far
	lost    map[int]bool
	conns   []net.Conn
}

func newScript(t *testing.T) *script {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &script{l: l, lost: map[int]bool{}}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			go s.serve(c)
		}
	}()
	return s
}

func (s *script) port() int { return s.l.Addr().(*net.TCPAddr).Port }

// lose has the Tor find out that guard n cannot be used any more.
func (s *script) lose(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost[n] = true
	for _, c := range s.conns {
		fmt.Fprintf(c, "650 GUARD ENTRY $%s~g%d DOWN\r\n", fingerprint(n), n) // who is gone does not hear it
	}
}

// settings is how often the guest has set an option, and rejects what it set last.
func (s *script) settings() (int, []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set, slices.Clone(s.rejects)
}

func (s *script) serve(c net.Conn) {
	defer c.Close()
	for in := bufio.NewScanner(c); in.Scan(); {
		s.mu.Lock() // an event must not come into the middle of an answer
		_, err := c.Write([]byte(s.answer(strings.TrimSpace(in.Text()))))
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Guard n has the fingerprint and the address of that number.
const scriptGuards = 8

func fingerprint(n int) string { return strings.Repeat(fmt.Sprintf("%02X", 0xA0+n), 20) }

func relayAddress(n int) string { return fmt.Sprintf("10.%d.0.1:5000", 100+n) }

// answer is called with mu held.
func (s *script) answer(line string) string {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "PROTOCOLINFO":
		return "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250-VERSION Tor=\"0.4.9.11\"\r\n250 OK\r\n"
	case "GETINFO":
		return s.info(rest)
	case "GETCONF":
		var lines []string
		for key := range strings.FieldsSeq(rest) {
			if key != "ReachableORAddresses" || len(s.rejects) == 0 {
				lines = append(lines, key)
				continue
			}
			for _, r := range s.rejects {
				lines = append(lines, key+"="+r)
			}
		}
		last := len(lines) - 1
		for i := range lines[:last] {
			lines[i] = "250-" + lines[i]
		}
		lines[last] = "250 " + lines[last]
		return strings.Join(lines, "\r\n") + "\r\n"
	case "SETCONF", "RESETCONF":
		s.set++
		s.rejects = nil
		for i, part := range strings.Split(rest, `"`) {
			if i%2 == 1 {
				s.rejects = append(s.rejects, strings.Split(part, ",")...)
			}
		}
	}
	return "250 OK\r\n"
}

func (s *script) info(key string) string {
	var lines []string
	switch {
	case key == "version":
		return "250-version=0.4.9.11\r\n250 OK\r\n"
	case key == "dormant":
		return "250-dormant=0\r\n250 OK\r\n"
	case key == "consensus/valid-until":
		return "250-consensus/valid-until=" + time.Now().UTC().Add(time.Hour).Format(time.DateTime) + "\r\n250 OK\r\n"
	case key == "circuit-status", key == "stream-status":
		return "250-" + key + "=\r\n250 OK\r\n"
	case key == "entry-guards":
		for n := range scriptGuards {
			status := "never-connected"
			if n < 3 {
				status = "up"
			}
			if s.lost[n] || slices.ContainsFunc(s.rejects, func(r string) bool { return strings.TrimSpace(r) == "reject "+relayAddress(n) }) {
				status = "unusable"
			}
			lines = append(lines, fmt.Sprintf("$%s~g%d %s", fingerprint(n), n, status))
		}
	case key == "ns/all", strings.HasPrefix(key, "ns/id/$"):
		for n := range scriptGuards {
			if key == "ns/all" || strings.HasPrefix(key, "ns/id/$"+fingerprint(n)) {
				raw, _ := hex.DecodeString(fingerprint(n)) // of our own making
				host, port, _ := strings.Cut(relayAddress(n), ":")
				lines = append(lines, fmt.Sprintf("r g%d %s 2026-11-21 10:00:00 %s %s 0", n, base64.RawStdEncoding.EncodeToString(raw), host, port), "s Fast Guard Running Stable V2Dir Valid")
			}
		}
	}
	if len(lines) == 0 {
		return "552 Unrecognized key\r\n"
	}
	return "250+" + key + "=\r\n" + strings.Join(lines, "\r\n") + "\r\n.\r\n250 OK\r\n"
}
