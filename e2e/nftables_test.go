//go:build e2e

package e2e

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"guardring/e2e/tornet"
)

// needRoot skips a scenario that works with users and the kernel's packet filter.
func needRoot(t *testing.T, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipping, root is needed (try: make test, as root)")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("skipping, %v (try: make test, which installs it)", err)
		}
	}
}

// giveAway makes a folder with all in it a user's, and lets that user come to it.
func giveAway(t *testing.T, dir, name string) {
	t.Helper()
	uid := uidOf(t, name)
	err := os.Chmod(network.Dir, 0o711)
	if err == nil {
		err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, uid, -1)
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func uidOf(t *testing.T, name string) int {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	return uid
}

// connects tells whether a user's connection to a relay is established.
func connects(uid int, r *tornet.Relay) bool {
	got := make(chan bool)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread, with its user, ends with the goroutine
		syscall.RawSyscall(syscall.SYS_SETFSUID, uintptr(uid), 0, 0)
		c, err := net.DialTimeout("tcp", r.Addr(), time.Second)
		if err == nil {
			c.Close()
		}
		got <- err == nil
	}()
	return <-got
}

// nft is the independent witness of what the kernel does.
func nft(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("nft", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %v: %v: %s", args, err, out)
	}
	return string(out)
}

var guardringTable = regexp.MustCompile(`table inet (guardring-guest\S*)`)

// ruleset is what our tables hold; "" if there is none.
func ruleset(t *testing.T) string {
	t.Helper()
	var out string
	for _, m := range guardringTable.FindAllStringSubmatch(nft(t, "list", "tables"), -1) {
		out += nft(t, "list", "table", "inet", m[1])
	}
	return out
}

var packets = regexp.MustCompile(`counter default \{\s*packets (\d+)`)

// dropped is how many packets of bob's Tor were dropped.
func dropped(t *testing.T) int {
	t.Helper()
	m := packets.FindStringSubmatch(ruleset(t))
	if m == nil {
		t.Fatalf("no counter in %q", ruleset(t))
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// poll asks until ok holds.
func poll(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, d)
		}
	}
}

// extend has a Tor build a circuit with a given first hop, as any controller may.
func extend(t *testing.T, c *tornet.Client, first *tornet.Relay) (circuit string) {
	t.Helper()
	r, err := c.Control().Do(fmt.Sprintf("EXTENDCIRCUIT 0 $%s,$%s,$%s", first.Fingerprint, network.Guards[5].Fingerprint, network.Exits[0].Fingerprint))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(r[len(r)-1], "EXTENDED ")
}

// built tells whether a circuit stands.
func built(t *testing.T, c *tornet.Client, circuit string) bool {
	t.Helper()
	s, err := c.Control().Info("circuit-status")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains("\n"+s, "\n"+circuit+" BUILT ")
}

// TestEnforcedByNftables: a Tor whose own options were taken away by somebody else
// cannot reach the excluded guard, whoever builds the circuit, also when no agent
// runs any more. Other users and other guards can be reached. Leave takes the
// table away, and then the same circuit stands.
func TestEnforcedByNftables(t *testing.T) {
	const torUser = "debian-tor" // made by Debian's package tor
	needRoot(t, "nft")
	p := newPair(t, setup{bobUser: torUser, bobOptions: "enforce: nftables\nslow-tick: 1s\n"})
	uid := uidOf(t, torUser)
	if ruleset(t) != "" {
		t.Fatal("there is a table before the agent runs")
	}
	if !connects(uid, p.common) {
		t.Fatal("the common guard cannot be reached before")
	}
	agent := p.startBob()
	p.awaitApart(60 * time.Second)
	p.awaitApplied()
	element := fmt.Sprintf("%s . %d", p.common.Address, p.common.Port)
	poll(t, 10*time.Second, "rule for the common guard", func() bool { return strings.Contains(ruleset(t), element) })
	if rules := ruleset(t); !strings.Contains(rules, fmt.Sprintf("meta skuid %d", uid)) && !strings.Contains(rules, `meta skuid "`+torUser+`"`) {
		t.Errorf("the rules are not bob's user's:\n%s", rules)
	}
	other := network.Guards[3]
	check := func() {
		t.Helper()
		for _, tt := range []struct {
			uid  int
			to   *tornet.Relay
			want bool
		}{{uid, p.common, false}, {uid, other, true}, {0, p.common, true}} {
			if got := connects(tt.uid, tt.to); got != tt.want {
				t.Errorf("user %d connects to %s: %t", tt.uid, tt.to.Name, got)
			}
		}
	}
	check()

	// The agent is killed, Tor restarted, and somebody else changes its options.
	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, options := range [][]string{
		{"ReachableORAddresses=accept *:*"},
		{"ReachableORAddresses=accept *:*", "UseEntryGuards=0"},
	} {
		if err := p.b.Restart(p.ctx(60 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if err := p.b.Control().SetConf(options...); err != nil {
			t.Fatal(err)
		}
		before := dropped(t)
		circuit := extend(t, p.b, p.common)
		poll(t, 20*time.Second, fmt.Sprint("an attempt to reach the excluded guard after ", options), func() bool { return dropped(t) > before })
		through := extend(t, p.b, other)
		poll(t, 30*time.Second, "circuit through another guard", func() bool { return built(t, p.b, through) })
		orconns, err := p.b.Control().Info("orconn-status")
		if err != nil {
			t.Fatal(err)
		}
		if built(t, p.b, circuit) || regexp.MustCompile(p.common.Fingerprint+`\S* CONNECTED`).MatchString(orconns) {
			t.Errorf("with %v the excluded guard is reached: %s", options, orconns)
		}
		check()
	}
	p.checkAlice()
	if err := request(p.ctx(30*time.Second), p.a); err != nil {
		t.Errorf("alice, who holds the guard: %v", err)
	}

	// The next agent takes the table over.
	before := dropped(t)
	if err := p.b.Restart(p.ctx(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	p.startBob()
	p.awaitApart(60 * time.Second)
	p.awaitApplied()
	check()
	if dropped(t) < before {
		t.Errorf("the counter began anew: %d packets, before %d", dropped(t), before)
	}
	if out, err := p.gb.Leave(p.ctx(60 * time.Second)); err != nil {
		t.Fatal(err, out)
	}
	if rules := ruleset(t); rules != "" {
		t.Errorf("after leave there is\n%s", rules)
	}
	circuit := extend(t, p.b, p.common)
	poll(t, 30*time.Second, "circuit through the guard after leave", func() bool { return built(t, p.b, circuit) })
}
