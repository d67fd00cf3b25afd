//go:build e2e

// Package e2e holds scenarios with real Tors and built binaries. They need tor and tor-gencert, and no root.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"log"
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/e2e/oracle"
	"guardring/e2e/rig"
	"guardring/e2e/testmain"
	"guardring/e2e/tornet"
)

// network is shared by all scenarios of a run; clients are each scenario's own.
var network *tornet.Network

// Binaries under test, built by TestMain with kill points.
var hostBinary, guestBinary string

// Guards with a special part; no scenario uses them for anything else.
const (
	guardMoves     = 11 // changes its address
	guardIPv6      = 12 // listens on ::1 too
	guardOtherPort = 13 // has another ORPort than all others

	guardKeyA  = 14 // has a family key
	guardKeyB  = 15 // has the same one
	guardListA = 16 // declares guardListB
	guardListB = 17 // declares guardListA
	guardAlone = 18 // declares guardListA, which declares nothing of it; is in the /16 of guardKeyA
)

// echo is what clients reach through the exits.
var echo *tornet.Echo

func TestMain(m *testing.M) {
	testmain.Main(m, testmain.Setup{
		OwnNamespaces: true,
		Programs:      map[string]*string{"guardring/host-agent": &hostBinary, "guardring/guest-agent": &guestBinary},
		Begin:         begin,
	})
}

func begin(ctx context.Context, run *testmain.Run) (err error) {
	// Scenarios mostly wait; four at a time keep two cores busy and no more.
	if err := flag.Set("test.parallel", "4"); err != nil {
		return err
	}
	network, err = tornet.Start(ctx, tornet.Config{CacheDir: "../build/tornet-keys", Guards: 19, IPv6: []int{guardIPv6},
		OtherPort: []int{guardOtherPort}, FamilyIDs: [][]int{{guardKeyA, guardKeyB}}, Families: [][]int{{guardListA, guardListB}},
		Declares: map[int][]int{guardAlone: {guardListA}}, SameSubnet: [][]int{{guardKeyA, guardAlone}}, Progress: func(s string) { log.Print(s) }})
	if err != nil {
		return fmt.Errorf("start private Tor network: %w", err)
	}
	run.Defer(func() { network.Stop() })
	if echo, err = tornet.StartEcho(); err != nil {
		return err
	}
	run.Defer(func() { echo.Close() })
	run.Defer(undoInstances)
	run.Defer(rig.StopAll)
	return nil
}

// client adds, starts and awaits a client, and removes it when the test ends.
func client(t *testing.T, cfg tornet.ClientConfig) *tornet.Client {
	t.Helper()
	c, err := network.AddClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.RemoveClient(c); err != nil {
			t.Error(err)
		}
	})
	if err := c.Bootstrap(deadline(t, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// use opens a stream to the echo service through the client and keeps it open until the test ends.
func use(t *testing.T, c *tornet.Client, isolation string) {
	t.Helper()
	ctx := deadline(t, 30*time.Second)
	conn, err := c.Dial(ctx, echo.Addr(), isolation)
	for err != nil && ctx.Err() == nil { // a circuit may end while Tor measures how long circuits take
		conn, err = c.Dial(ctx, echo.Addr(), isolation)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := tornet.Ping(conn); err != nil {
		t.Fatal(err)
	}
}

// TestPlantedDuplicateIsReal shows that planting does what the other scenarios rely on: two clients carry streams over
// the same guard, with the planted guards as their primaries, and one rejecting line gives it up.
func TestPlantedDuplicateIsReal(t *testing.T) {
	t.Parallel()
	g := network.Guards
	a := client(t, tornet.ClientConfig{Name: "plantA", Plant: g[0:3]})
	b := client(t, tornet.ClientConfig{Name: "plantB", Plant: []*tornet.Relay{g[0], g[3], g[4]}})
	for c, want := range map[*tornet.Client][]string{
		a: {g[0].Fingerprint, g[1].Fingerprint, g[2].Fingerprint},
		b: {g[0].Fingerprint, g[3].Fingerprint, g[4].Fingerprint},
	} {
		use(t, c, "x")
		v, err := oracle.Await(deadline(t, 30*time.Second), c, "planted primaries in use", func(v oracle.View) bool {
			return slices.Equal(v.Primary, want) && slices.Contains(v.InUse, want[0])
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, fp := range v.InUse {
			if !slices.Contains(want, fp) {
				t.Errorf("%s uses %s, which was not planted", c.Name, network.GuardByFingerprint(fp).Name)
			}
		}
	}
	if err := b.Control().SetConf("ReachableORAddresses=reject " + g[0].Addr() + ", accept *:*"); err != nil {
		t.Fatal(err)
	}
	cs, err := oracle.Circuits(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range cs {
		if k.First == g[0].Fingerprint {
			if _, err := b.Control().Do("CLOSECIRCUIT " + k.ID); err != nil && !strings.Contains(err.Error(), "552") {
				t.Fatal(err)
			}
		}
	}
	use(t, b, "y")
	if _, err := oracle.Await(deadline(t, 30*time.Second), b, "guard given up", func(v oracle.View) bool {
		return len(v.Primary) == 3 && !slices.Contains(v.Primary, g[0].Fingerprint) &&
			len(v.InUse) > 0 && !slices.Contains(v.InUse, g[0].Fingerprint) &&
			v.Primary[0] == g[3].Fingerprint && v.Primary[1] == g[4].Fingerprint
	}); err != nil {
		t.Fatal(err)
	}
}
