package coordinator

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

// The texts of keys stand in ledgers: they must not change.
func TestKeyTexts(t *testing.T) {
	subnet := func(text string) Key {
		k, ok := SubnetKey(netip.MustParseAddr(text))
		if !ok {
			t.Fatalf("%s is no fact", text)
		}
		return k
	}
	for text, k := range map[string]Key{
		"relay/0000000700000000000000000000000000000001": RelayKey(fp(7)),
		"family/" + strings.Repeat("AB", 32):             FamilyKey([32]byte([]byte(strings.Repeat("\xab", 32)))),
		"subnet/45.1.0.0/16":                             subnet("45.1.2.3"),
		"subnet/127.3.0.0/16":                            subnet("::ffff:127.3.0.1"),
		"subnet/2a01:4f8::/32":                           subnet("2a01:4f8:1::1"),
		"subnet/::/32":                                   subnet("::1"),
	} {
		if got := k.String(); got != text {
			t.Errorf("key is written as %s, want %s", got, text)
		}
		var back Key
		if err := back.UnmarshalText([]byte(text)); err != nil || back != k {
			t.Errorf("%s is read as %v, %v", text, back, err)
		}
	}
	if GroupKey("a") == GroupKey("b") {
		t.Error("two groups have one key")
	}
}

func TestLevelsByName(t *testing.T) {
	for text, want := range map[string]Levels{
		"relay": RelayOnly, "relay,family": WithFamily, "relay,subnet": WithSubnet, "relay,family,subnet": WithFamily | WithSubnet,
	} {
		for _, names := range []string{text, strings.TrimPrefix(text, "relay,")} { // relay may be left out
			if got, err := ParseLevels(strings.Split(names, ",")); err != nil || got != want || got.String() != text {
				t.Errorf("%s is read as %#x (%s), %v", names, uint8(got), got, err)
			}
		}
	}
	if got, err := ParseLevels(nil); err != nil || got != RelayOnly {
		t.Errorf("no name is read as %s, %v", got, err)
	}
	for _, names := range []string{"", "family,country", "Family"} {
		if got, err := ParseLevels(strings.Split(names, ",")); err == nil {
			t.Errorf("%q is read as %s", names, got)
		}
	}
	if got := Levels(0).String(); got != DefaultLevels.String() {
		t.Errorf("no set is written as %s, want the default", got)
	}
}

// A key has one text, so that two ledgers can be compared.
func TestKeyTextsRefused(t *testing.T) {
	for _, text := range []string{"", "relay", "relay/", "subnet/45.1.2.0/24", "subnet/45.1.2.3/16", "subnet/2a01:4f8::/48", "subnet/2A01:4f8::/32",
		"subnet/::ffff:45.1.0.0/112", "family/00", "family/" + strings.Repeat("ab", 32), "level(255)/00", "country/nl"} {
		var k Key
		if err := k.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %s", text, k)
		}
	}
}

// Addresses that say nothing of where a relay is have no subnet.
func TestNoFacts(t *testing.T) {
	for _, text := range []string{"0.1.2.3", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.1.1", "192.0.2.1", "198.51.100.7", "203.0.113.9",
		"224.0.0.1", "255.255.255.255", "::", "fe80::1", "fd00::1", "ff02::1", "2001:db8::1", "::ffff:192.0.2.3"} {
		if k, ok := SubnetKey(netip.MustParseAddr(text)); ok || !k.IsZero() {
			t.Errorf("%s is a fact: %s", text, k)
		}
	}
	if _, ok := SubnetKey(netip.Addr{}); ok {
		t.Error("no address at all is a fact")
	}
}

func TestLevelTexts(t *testing.T) {
	for _, l := range []Level{0, LevelRelay, LevelFamily, LevelSubnet} {
		type entry struct {
			Level Level `json:"level,omitempty"`
		}
		b, err := json.Marshal(entry{l})
		if err != nil {
			t.Fatal(err)
		}
		var back entry
		if err := json.Unmarshal(b, &back); err != nil || back.Level != l {
			t.Errorf("level %s comes back as %s, %v", l, back.Level, err)
		}
	}
	if _, err := levelListed.MarshalText(); err == nil {
		t.Error("an internal level is written")
	}
	var l Level
	if err := l.UnmarshalText([]byte("country")); err == nil {
		t.Error("an unknown level is read")
	}
}

// Facts come back from a ledger as they went in, and nothing that makes no sense
// comes in.
func TestFactsRoundTrip(t *testing.T) {
	f := &facts{subnets: [maxSubnets]subnet{prefixSubnet(netip.MustParseAddr("45.1.0.0")), prefixSubnet(netip.MustParseAddr("2a01::"))},
		family: &family{ids: [][32]byte{{1}, {2}}, list: fingerprints(t, "G1+G2")}}
	b, err := json.Marshal(f.export(fp(1)))
	if err != nil {
		t.Fatal(err)
	}
	var x Facts
	if err := json.Unmarshal(b, &x); err != nil {
		t.Fatal(err)
	}
	if back, err := imported(&x); err != nil || !back.equal(f) {
		t.Errorf("%s comes back as %+v, %v", b, back, err)
	}
	for name, bad := range map[string]Facts{
		"nothing":            {},
		"a family as net":    {Subnets: []Key{FamilyKey([32]byte{1})}},
		"a net as family":    {FamilyStated: true, FamilyIDs: []Key{prefixSubnet(netip.MustParseAddr("45.1.0.0")).key()}},
		"unstated family":    {Family: fingerprints(t, "G1")},
		"a subnet twice":     {Subnets: []Key{x.Subnets[0], x.Subnets[0]}},
		"too many subnets":   {Subnets: []Key{x.Subnets[0], x.Subnets[1], prefixSubnet(netip.MustParseAddr("46.1.0.0")).key()}},
		"a crooked subnet":   {Subnets: []Key{{Level: LevelSubnet, ID: [32]byte{5, 1}}}},
		"bits past a subnet": {Subnets: []Key{{Level: LevelSubnet, ID: [32]byte{4, 1, 1, 1}}}},
	} {
		if f, err := imported(&bad); err == nil {
			t.Errorf("%s: read as %+v", name, f)
		}
	}
}
