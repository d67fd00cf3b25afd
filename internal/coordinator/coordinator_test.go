package coordinator

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"guardring/shmproto"
)

// Every fault of a configuration is reported at once.
func TestConfigFaults(t *testing.T) {
	_, err := New(Config{Policy: "both", Retention: -time.Hour, MaxClaims: 61, MaxExclusions: 21, Tries: -1,
		DelayMin: time.Hour, DelayMax: time.Minute, Budgets: Budgets{NewClaims: Budget{Join: 3, Burst: 3}, CausedWithin: -1}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`policy "both"`, "retention -1h", "61 claims", "21 exclusions", "-1 tries",
		"budget new-claims of 3 at join, one each 0s", "because of one gateway within -1ns", "delay 1h0m0s to 1m0s"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q: %v", want, err)
		}
	}
	if _, err := New(Config{Policy: PolicyObserve}); err != nil {
		t.Errorf("defaults: %v", err)
	}
}

// A receipt counts only for the present order of this epoch, with its content.
func TestReceiptMustMatch(t *testing.T) {
	tests := []struct {
		name   string
		change func(r *shmproto.Receipt)
		want   shmproto.ReceiptStatus
	}{
		{"right", func(*shmproto.Receipt) {}, shmproto.ReceiptApplied},
		{"other epoch", func(r *shmproto.Receipt) { r.Epoch.Random++ }, shmproto.ReceiptNone},
		{"other seq", func(r *shmproto.Receipt) { r.Seq++ }, shmproto.ReceiptNone},
		{"other term than its digest", func(r *shmproto.Receipt) { r.Term++ }, shmproto.ReceiptNone},
		{"other digest", func(r *shmproto.Receipt) { r.Digest[0]++ }, shmproto.ReceiptNone},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := newHarness(t, Config{Policy: PolicyDisjoint})
			show := func(gateway string, receipt shmproto.Receipt) {
				p := shmproto.Publication{Attachment: 1, Member: "default", State: shmproto.MemberPresent,
					Selection: shmproto.SelectionDefault, NumPrimary: 1, PassPercent: 100, Receipt: receipt}
				for n := 1; n <= 3; n++ {
					p.Guards = append(p.Guards, shmproto.Guard{Fingerprint: fp(n), Flags: shmproto.GuardListed | shmproto.GuardFiltered})
				}
				p.Guards[0].Flags |= shmproto.GuardPrimary
				h.step(Published{At: testStart, Gateway: gateway, Publication: &p})
			}
			show("a", shmproto.Receipt{})
			show("b", shmproto.Receipt{})
			o := h.seats[seatKey{"b", 0}]
			r := shmproto.Receipt{Epoch: o.Epoch, Term: o.Term, Seq: o.Seq, Digest: o.Digest(), Status: shmproto.ReceiptApplied}
			test.change(&r)
			show("b", r)
			if got := h.core.byName[Member{"b", "default"}].answer; got != test.want {
				t.Errorf("answer %d, want %d", got, test.want)
			}
		})
	}
}

// A ledger that cannot be true is refused by record, and nothing panics.
func TestRestoreRefuses(t *testing.T) {
	member := Record{Version: 1, Kind: RecordMember, Gateway: "a", Instance: "x"}
	claim := Record{Version: 1, Kind: RecordClaim, Gateway: "a", Instance: "x", Key: RelayKey(fp(1)), Stamp: Stamp{Counter: 5}}
	with := func(r Record, change func(*Record)) Record { change(&r); return r }
	tests := []struct {
		want    string
		records []Record
	}{
		{"record 1 (member): version 2", []Record{with(member, func(r *Record) { r.Version = 2 })}},
		{"record 2 (tombstone): unknown kind", []Record{member, with(member, func(r *Record) { r.Kind = "tombstone" })}},
		{"without stamp", []Record{member, with(claim, func(r *Record) { r.Stamp = Stamp{} })}},
		{"claim on nothing", []Record{member, with(claim, func(r *Record) { r.Key = Key{} })}},
		{"out of order", []Record{member, {Version: 1, Kind: RecordOrder, Gateway: "a", Instance: "x", Seq: 2,
			Exclusions: []Exclusion{{Key: RelayKey(fp(2))}, {Key: RelayKey(fp(1))}}}}},
		{`want GATEWAY/INSTANCE`, []Record{{Version: 1, Kind: RecordMember, Gateway: "a"}}},
	}
	for _, test := range tests {
		c, err := New(Config{Policy: PolicyObserve})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Restore(test.records); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("error %v, want %q", err, test.want)
		}
	}
}

// Earlier builds did not tell what a deposed coordinator appended late from its
// successor's own records. The last word counts, numbers do not go back, and no two
// claims are left with one stamp.
func TestRestoreTwoWriters(t *testing.T) {
	rec := func(kind RecordKind, gateway string, change func(*Record)) Record {
		r := Record{Version: 1, Kind: kind, Gateway: gateway, Instance: "x"}
		if change != nil {
			change(&r)
		}
		return r
	}
	claim := func(gateway string, guard int, stamp uint64) Record {
		return rec(RecordClaim, gateway, func(r *Record) {
			r.Key, r.Stamp = RelayKey(fp(guard)), Stamp{stamp, testStart.Add(time.Duration(stamp))}
		})
	}
	order := func(seq uint64, guard int) Record {
		return rec(RecordOrder, "b", func(r *Record) { r.Seq, r.Exclusions = seq, []Exclusion{{Key: RelayKey(fp(guard))}} })
	}
	h := newHarness(t, Config{Policy: PolicyDisjoint})
	c := h.restored([]Record{
		rec(RecordMember, "a", nil), rec(RecordMember, "b", nil), claim("a", 1, 1), // the snapshot
		claim("b", 1, 2), order(1, 1), order(2, 9), rec(RecordForget, "a", nil), // late
		claim("a", 2, 2), order(1, 1), rec(RecordRelease, "a", func(r *Record) { r.Key = RelayKey(fp(7)) }), // the successor's
	})
	if err := c.valid(); err != nil {
		t.Error(err)
	}
	b := c.byName[Member{"b", "x"}]
	if b.seq != 2 || len(b.exclusions) != 1 || b.exclusions[0].Key != RelayKey(fp(1)) {
		t.Errorf("order %d %v, want the successor's set under the highest number", b.seq, b.exclusions)
	}
	if c.byName[Member{"a", "x"}].claim(RelayKey(fp(2))) == nil {
		t.Error("the successor's claim is lost")
	}
}

// A level that this build does not know must not be read as another.
func TestKeyOfUnknownLevel(t *testing.T) {
	var r Record
	err := json.Unmarshal([]byte(`{"v":1,"kind":"claim","key":"country/00"}`), &r)
	if err == nil || !strings.Contains(err.Error(), "want relay/, family/ or subnet/") {
		t.Errorf("error %v", err)
	}
}

// A notice in a log shows no fingerprint unless asked.
func TestNoticeHidesFingerprints(t *testing.T) {
	n := Notice{Kind: NoticeExcluded, Member: Member{"b", "default"}, Other: Member{"a", "default"}, Key: RelayKey(fp(0xABCDEF)), Why: WhyConflict}
	if strings.Contains(n.String(), "00ABCDEF") {
		t.Errorf("String shows the fingerprint: %s", n)
	}
	if !strings.Contains(n.Detail(), "00ABCDEF") {
		t.Errorf("Detail lacks the fingerprint: %s", n.Detail())
	}
}

// What a gateway says that a member is for is shown, as it says it last.
func TestRoleIsShown(t *testing.T) {
	h := newHarness(t, Config{Policy: PolicyDisjoint})
	for _, role := range []string{"updates", "browsing", ""} {
		h.step(Published{At: testStart, Gateway: "a", Publication: &shmproto.Publication{Attachment: 1, Member: "default", State: shmproto.MemberPresent, Role: role}})
		if got := h.core.State().Members[0].Role; got != role {
			t.Errorf("role %q, want %q", got, role)
		}
	}
}
