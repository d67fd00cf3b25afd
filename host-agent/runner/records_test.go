package runner

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"guardring/host-agent/journal"
	"guardring/host-agent/report"
	"guardring/host-agent/rundir"
	"guardring/internal/coordinator"
	"guardring/internal/statussock"
)

// replayAll plays every segment of the rig's journal and returns the kinds of all
// notices that came again.
func (r *rig) replayAll() (kinds []coordinator.NoticeKind) {
	r.t.Helper()
	segments, err := journal.Segments(rundir.Dir(r.cfg.RunDir).Journal())
	if err != nil || len(segments) == 0 {
		r.t.Fatalf("%d segments: %v", len(segments), err)
	}
	for _, s := range segments {
		lines, _, err := journal.Lines(s.Path) // the last one may be on its way
		if err != nil {
			r.t.Fatal(err)
		}
		var head header
		if err := json.Unmarshal(lines[0], &head); err != nil {
			r.t.Fatal(err)
		}
		p, err := coordinator.NewPlayer(head.Checkpoint)
		if err != nil {
			r.t.Fatal(err)
		}
		for i, line := range lines[1:] {
			_, ready, err := p.Play(line)
			var diff *coordinator.Difference
			if errors.As(err, &diff) {
				r.t.Fatalf("%s line %d: %v\nthen %s\nnow  %s", s.Path, i+2, err, diff.Then, diff.Now)
			}
			if err != nil {
				r.t.Fatalf("%s line %d: %v", s.Path, i+2, err)
			}
			for _, n := range ready.Notices {
				kinds = append(kinds, n.Kind)
			}
		}
	}
	return kinds
}

// decisions returns what the histories hold of a gateway.
func (r *rig) decisions(gateway string) (all []report.Decision) {
	r.t.Helper()
	lines, err := journal.History(rundir.Dir(r.cfg.RunDir).History())
	if err != nil {
		r.t.Fatal(err)
	}
	return report.Explain(gateway, lines, report.Status{}).Decisions
}

func has(all []report.Decision, kind string) bool {
	return slices.ContainsFunc(all, func(d report.Decision) bool { return d.Kind == kind })
}

// decide has b told to give up a guard that a, which it returns, had first.
func (r *rig) decide() (a *guest) {
	r.t.Helper()
	a, b := r.guest("a"), r.guest("b")
	a.publish(sampleA()...)
	r.eventually("a is known", func() bool { return len(r.actingDocument().Members) == 1 })
	b.publish(sampleB()...)
	b.excludes(r, 1)
	return a
}

// TestDecisionsAreKept: journal and history hold the conflict, and the journal
// gives the same decisions again, also across a take-over.
func TestDecisionsAreKept(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a", "b")
	p := r.coordinate("")
	r.actingDocument()
	a := r.decide()
	r.eventually("the decision is in the history", func() bool { return has(r.decisions("b"), "excluded") })
	if d := r.decisions("b/default"); !has(d, "joined") || !has(d, "conflict") {
		t.Errorf("history of b: %+v", d)
	}
	if d := r.decisions("a"); !has(d, "excluded") { // b was told because of a
		t.Errorf("history of a: %+v", d)
	}
	r.eventually("the decision is replayed", func() bool { return slices.Contains(r.replayAll(), coordinator.NoticeExcluded) })
	_ = p.Process.Kill()
	_ = p.Wait()
	r.coordinate("")
	r.eventually("another one acts", func() bool { return r.actingDocument().Self.PID != p.Process.Pid })
	a.publish(append(numbers(200, 201), sampleA()...)...)
	r.eventually("it has read a", func() bool { return r.member("a/default").Publication.Seq == uint64(a.pub.Seq) })
	r.replayAll()
	segments, _ := journal.Segments(rundir.Dir(r.cfg.RunDir).Journal())
	if len(segments) != 2 {
		t.Errorf("segments %v", segments)
	}
	if !has(r.decisions("b"), "excluded") {
		t.Error("the history did not outlive its writer")
	}
}

// TestRunDirIsFull: what cannot be written down is decided all the same, and said.
func TestRunDirIsFull(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a", "b")
	for _, dir := range []string{rundir.Dir(r.cfg.RunDir).Journal(), rundir.Dir(r.cfg.RunDir).History()} {
		if err := os.WriteFile(dir, nil, 0o600); err != nil { // nothing can be made in it
			t.Fatal(err)
		}
	}
	p := r.coordinate("")
	r.actingDocument()
	r.decide()
	r.eventually("the fault is shown", func() bool { return strings.HasPrefix(r.actingDocument().Self.JournalError, "journal: ") })
	_ = p.Process.Kill()
	_ = p.Wait()
	if n := strings.Count(p.log.String(), "cannot be written down"); n < 1 || n > 2 {
		t.Errorf("said %d times:\n%s", n, p.log)
	}
}

func TestCommands(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a")
	r.coordinateHere()
	a := r.guest("a")
	a.publish(sampleA()...)
	r.eventually("a is known", func() bool { return len(r.actingDocument().Members) == 1 })
	socket := rundir.Dir(r.cfg.RunDir).Command(r.actingDocument().Self.Number)
	if st, err := os.Stat(socket); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", st, err)
	}
	for question, want := range map[string]string{
		`{"allow":"a"}`:         `{"allowed":[{"member":"a/default","waiting":0}]}`,
		`{"allow":"a/default"}`: `{"allowed":[{"member":"a/default","waiting":0}]}`,
		`{"allow":"b"}`:         `{"error":"no member b is known; known are: a/default"}`,
		`{}`:                    `{"error":"unknown request: want allow, with a gateway"}`,
		`[]`:                    `{"error":"no request: json: cannot unmarshal array into Go value of type report.Request"}`,
	} {
		got, err := statussock.Ask(socket, "test", json.RawMessage(question), patience)
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s: %s %v, want %s", question, got, err, want)
		}
	}
	if !slices.Contains(r.replayAll(), coordinator.NoticeAllowed) {
		t.Error("the journal does not hold what was allowed")
	}
}

// TestConsensusFile: it is read, read again when it changes, and a bad one leaves
// the last good one in force.
func TestConsensusFile(t *testing.T) {
	r := newRig(t, coordinator.PolicyDisjoint, "a")
	r.cfg.Consensus = filepath.Join(t.TempDir(), "cached-consensus")
	put := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(r.cfg.Consensus+".new", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(r.cfg.Consensus+".new", r.cfg.Consensus); err != nil {
			t.Fatal(err)
		}
	}
	r.coordinateHere()
	self := func() report.Self { return r.actingDocument().Self }
	r.eventually("a missing file is named", func() bool { return strings.Contains(self().ConsensusError, "there is no such file") })
	good, err := os.ReadFile("../../internal/consensus/testdata/consensus.txt")
	if err != nil {
		t.Fatal(err)
	}
	put(good)
	r.eventually("its guards are known", func() bool { s := self(); return s.ConsensusGuards > 0 && s.ConsensusError == "" })
	n := self().ConsensusGuards
	put([]byte("network-status-version 3\nnonsense\n"))
	r.eventually("a bad one is named", func() bool { return self().ConsensusError != "" })
	if self().ConsensusGuards != n {
		t.Error("the last good one does not count any more")
	}
	r.replayAll()
}
