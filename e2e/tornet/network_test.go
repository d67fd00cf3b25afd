//go:build e2e

package tornet

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"guardring/e2e/testmain"
)

// TestMain keeps the network's addresses apart from the machine's.
func TestMain(m *testing.M) { testmain.Main(m, testmain.Setup{OwnNamespaces: true}) }

// TestNetwork starts a network with everything that scenarios may ask for, and looks at it through a client.
func TestNetwork(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	n, err := Start(ctx, Config{CacheDir: "../../build/tornet-keys", Guards: 8, Exits: 2, Families: [][]int{{1, 2}}, Declares: map[int][]int{6: {1}},
		FamilyIDs: [][]int{{4, 6}}, SameSubnet: [][]int{{4, 7}}, IPv6: []int{0}, OtherPort: []int{3}, Progress: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(n.Dir); !os.IsNotExist(err) {
			t.Errorf("%s is left behind", n.Dir)
		}
	})
	c, err := n.AddClient(ClientConfig{Name: "c", Plant: n.Guards[:3], Tail: "FetchDirInfoEarly 1\nFetchDirInfoExtraEarly 1\n"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Bootstrap(ctx); err != nil {
		t.Fatal(err)
	}
	info := func(key string) string {
		v, err := c.Control().Info(key)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if md := info("md/id/" + n.Guards[0].Fingerprint); !strings.Contains(md+info("ns/id/"+n.Guards[0].Fingerprint), "a [::1]:") {
		t.Errorf("guard 0 has no IPv6 address: %s", md)
	}
	if md := info("md/id/" + n.Guards[1].Fingerprint); !strings.Contains(md, "family ") || !strings.Contains(md, n.Guards[2].Fingerprint) {
		t.Errorf("guard 1 declares no family: %s", md)
	}
	// A one-sided list is in the microdescriptor of the one that declares, and in nobody else's.
	if md := info("md/id/" + n.Guards[6].Fingerprint); !strings.Contains(md, n.Guards[1].Fingerprint) {
		t.Errorf("guard 6 does not declare guard 1: %s", md)
	}
	if md := info("md/id/" + n.Guards[1].Fingerprint); strings.Contains(md, n.Guards[6].Fingerprint) {
		t.Errorf("guard 1 declares guard 6: %s", md)
	}
	for _, i := range []int{4, 6} {
		if md := info("md/id/" + n.Guards[i].Fingerprint); n.Guards[i].FamilyID == "" || !strings.Contains(md, "family-ids ed25519:"+n.Guards[4].FamilyID) {
			t.Errorf("guard %d has no family ID %q: %s", i, n.Guards[4].FamilyID, md)
		}
	}
	if ns := info("ns/id/" + n.Guards[7].Fingerprint); n.Guards[7].Address != "127.17.1.1" || !strings.Contains(ns, " 127.17.1.1 ") {
		t.Errorf("guard 7 is not in guard 4's network: %s", ns)
	}
	if ns := info("ns/id/" + n.Guards[3].Fingerprint); !strings.Contains(ns, " "+n.Guards[3].Address+" ") {
		t.Errorf("guard 3: %s", ns)
	}
	// While one address passes, the guard does.
	unusable := regexp.MustCompile(`\$` + n.Guards[0].Fingerprint + `\S* unusable`)
	v4 := "ReachableORAddresses=reject " + n.Guards[0].Addr()
	if err := c.Control().SetConf(v4, "ReachableORAddresses=accept *:*"); err != nil {
		t.Fatal(err)
	}
	if e := info("entry-guards"); unusable.MatchString(e) {
		t.Errorf("guard 0 is unusable with its IPv6 address accepted: %s", e)
	}
	if err := c.Control().SetConf(v4, "ReachableORAddresses=reject [::1]:*", "ReachableORAddresses=accept *:*"); err != nil {
		t.Fatal(err)
	}
	if e := info("entry-guards"); !unusable.MatchString(e) {
		t.Errorf("guard 0 is usable with both addresses rejected: %s", e)
	}
	began := time.Now()
	if err := n.Move(ctx, n.Guards[5], n.Guards[5].Port+7); err != nil {
		t.Fatal(err)
	}
	if err := n.Guards[5].AwaitListed(ctx, c); err != nil {
		t.Fatal(err)
	}
	t.Logf("a moved relay is listed at the client after %v", time.Since(began))
}

// TestKeysAreMadeAnew: a cache that misses keys, or has none, is filled; what is there stays.
func TestKeysAreMadeAnew(t *testing.T) {
	cache := t.TempDir()
	names := []string{"auth0", "guard0"}
	authority := func(s string) bool { return s == "auth0" }
	first, err := identities(t.Context(), cache, names, authority)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(cache, "guard0")); err != nil {
		t.Fatal(err)
	}
	second, err := identities(t.Context(), cache, names, authority)
	if err != nil {
		t.Fatal(err)
	}
	if first["auth0"] != second["auth0"] {
		t.Error("cached keys were not kept")
	}
	if first["guard0"].fingerprint == second["guard0"].fingerprint {
		t.Error("missing keys were not made anew")
	}
	old := time.Now().Add(-keysMaxAge - time.Hour)
	if err := os.Chtimes(filepath.Join(cache, "auth0"), old, old); err != nil {
		t.Fatal(err)
	}
	third, err := identities(t.Context(), cache, names, authority)
	if err != nil {
		t.Fatal(err)
	}
	if third["auth0"].v3ident == second["auth0"].v3ident {
		t.Error("keys past their age were kept")
	}
}
