package guardstate

import (
	"testing"
)

// Each parser must return for any input, without a panic, and what it prints
// must read back as the same.

func FuzzParseState(f *testing.F) {
	for _, text := range corpus(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseState(text)
		if err == nil && s.String() != text {
			t.Fatalf("printed back otherwise: %q", s.String())
		}
	})
}

func FuzzParseEntryGuards(f *testing.F) {
	f.Add("$AB35A7943BC5367198EEBFDA902A4B910A5E5C71~guard0 up\n$E050BB8BACE0506E8288DA028028F2CC139DE499 down 2026-11-21 10:00:00\n")
	f.Fuzz(func(t *testing.T, text string) {
		gs, err := ParseEntryGuards(text)
		if err != nil && gs != nil {
			t.Fatal("guards beside an error")
		}
	})
}

func FuzzParseCircuit(f *testing.F) {
	f.Add(circuitLine)
	f.Add(`650 CIRC 9 FAILED BUILD_FLAGS= PURPOSE=HS_SERVICE_INTRO SOCKS_USERNAME="a \" b"`)
	f.Fuzz(func(t *testing.T, line string) {
		c, err := ParseCircuit(line)
		if err == nil && (!c.ID.valid() || len(c.Path) > maxPath) {
			t.Fatalf("accepted %+v", c)
		}
	})
}

func FuzzParseStream(f *testing.F) {
	f.Add("12 SUCCEEDED 5 example.com:80")
	f.Fuzz(func(t *testing.T, line string) {
		s, err := ParseStream(line)
		if err == nil && s.Circuit != "" && !s.Circuit.valid() {
			t.Fatalf("accepted %+v", s)
		}
	})
}

func FuzzParseRelay(f *testing.F) {
	f.Add(nsEntry, mdEntry)
	f.Fuzz(func(t *testing.T, ns, md string) {
		r, err := ParseRelay(ns, md)
		if len(r.Addrs) > maxRelayAddrs || len(r.Family) > maxFamily || err != nil && r.Addrs != nil {
			t.Fatalf("%+v %v", r, err)
		}
		var nr NetworkReader
		for _, l := range lines(ns) {
			nr.Line([]byte(l))
		}
		for _, g := range nr.Guards() {
			if !g.Listed || g.Fingerprint.IsZero() {
				t.Fatalf("network holds %+v", g)
			}
		}
	})
}

func FuzzParseConf(f *testing.F) {
	f.Add("250-ReachableORAddresses=reject 192.0.2.71:82\n250-NumEntryGuards=0\n250 EntryNodes\n")
	f.Add(`250 Log="notice \"x\" \\ y"` + "\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseConf(text)
		if err == nil {
			ReadFirewall(c)
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	f.Add("reject 1.2.3.4:443, accept *:80-443, [2001:db8::]/32:*, reject6 [::1], private:*, 10.0.0.0/255.0.0.0")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePolicy([]string{text})
		if err != nil {
			return
		}
		for _, it := range p {
			q, err := ParsePolicy([]string{it.String()})
			if err != nil || len(q) != 1 || q[0].String() != it.String() {
				t.Fatalf("%q reads back as %v, %v", it.String(), q, err)
			}
		}
	})
}

func FuzzParseParams(f *testing.F) {
	f.Add("params guard-n-primary-guards=2 use-family-ids=1 x=-5")
	f.Fuzz(func(t *testing.T, text string) {
		if p := ParseParams(text); p.NPrimaryGuards < 0 || NumPrimary(0, 0, 0, p) < 1 {
			t.Fatalf("%+v", p)
		}
		ParseNodeSet([]string{text})
	})
}
