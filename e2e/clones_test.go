//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/e2e/oracle"
	"guardring/e2e/rig"
)

// Each test here copies or restores what a VM's disk holds of a Tor, while that Tor is stopped.

// TestCloneGetsFreshSample: bob's Tor is a copy of alice's. It is named and nobody is moved. guardring-guest fresh, refused while the
// Tor runs, gives it a sample of its own; then the two hold no guard in common, and the change is not charged.
func TestCloneGetsFreshSample(t *testing.T) {
	p := newPair(t, setup{calm: true})
	p.copied = true
	planted := network.Guards[:3]
	for _, stop := range []func() error{p.a.Stop, p.b.Stop} {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	p.restore(p.a.DataDir(), p.b.DataDir())
	var err error
	if p.beforeA, err = p.boot(p.a, planted); err != nil {
		t.Fatal(err)
	}
	if p.beforeB, err = p.boot(p.b, planted); err != nil {
		t.Fatal(err)
	}
	p.startBob()
	s := p.awaitStatus(30*time.Second, "bob named as alice's clone", func(s rig.Status) bool { return s.Member(bob).CloneOf == alice })
	if s.Verdict != "critical" {
		t.Errorf("the verdict is %s", s.Verdict)
	}
	p.staysTogether(4 * time.Second)
	if o := p.awaitActing().Member(bob).Order; len(o.Exclusions) > 0 {
		t.Errorf("bob is a clone and was told not to use %v", o.Exclusions)
	}

	if _, err := p.gb.Fresh(p.ctx(10 * time.Second)); err == nil || !strings.Contains(err.Error(), "this Tor runs") {
		t.Errorf("fresh on a running Tor: %v", err)
	}
	old := p.sample()
	if err := p.b.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.gb.Fresh(p.ctx(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := p.b.Bootstrap(p.ctx(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if now := p.sample(); slices.Equal(now, old) {
		t.Fatalf("the sample is the old one: %v", now)
	}
	p.awaitStatus(60*time.Second, "bob no clone any more", func(s rig.Status) bool {
		return s.Member(bob).CloneOf == "" && s.Member(bob).State == "present" && len(s.Conflicts) == 0
	})
	// By chance a new guard can be one of alice's; then it is given up like any other.
	stop := keepBusy(t, p.b)
	defer stop()
	v, err := oracle.Await(p.ctx(60*time.Second), p.b, "no guard of alice's", func(v oracle.View) bool {
		return len(v.Primary) >= 3 && len(v.InUse) > 0 &&
			!slices.ContainsFunc(append(v.InUse, v.Primary...), func(f string) bool { return slices.Contains(p.beforeA.Primary, f) })
	})
	if err != nil {
		t.Fatal(err)
	}
	p.checkAlice()
	if fresh := lineWith(p.rig.Log("host"), "fresh "+bob); fresh == "" || strings.Contains(fresh, "charged") {
		t.Errorf("the host says of the new sample %q; bob's primaries are %v", fresh, v.Primary)
	}
	// Once: Tor has a new sample now.
	if err := p.b.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.gb.Fresh(p.ctx(10 * time.Second)); err == nil || !strings.Contains(err.Error(), "given a new sample before") {
		t.Errorf("fresh for the second time: %v", err)
	}
}

// TestRollback: bob's VM is reverted to a snapshot of before he gave the common guard up. It is named, and he gives it up again.
func TestRollback(t *testing.T) {
	p := newPair(t, setup{calm: true})
	p.copied = true
	snapshot := t.TempDir()
	include := filepath.Dir(p.gb.IncludeFile(p.b))
	if err := p.b.Stop(); err != nil {
		t.Fatal(err)
	}
	p.restore(p.b.DataDir(), filepath.Join(snapshot, "data"))
	p.restore(include, filepath.Join(snapshot, "include"))
	planted := network.Guards[:5]
	planted = append(planted[:1:1], planted[3:]...)
	if _, err := p.boot(p.b, planted); err != nil {
		t.Fatal(err)
	}
	agent := p.startBob()
	p.awaitApart(40 * time.Second)
	p.awaitApplied()
	if !p.awaitActing().Member(bob).RolledBack.IsZero() {
		t.Fatal("bob is called rolled back and is not")
	}
	// The agent's restart and Tor's, with all that they know, is no rollback.
	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.b.Restart(p.ctx(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	agent = p.startBob()
	p.awaitApplied()
	p.staysApart(2 * time.Second)
	if !p.awaitActing().Member(bob).RolledBack.IsZero() {
		t.Fatal("a restart is called a rollback")
	}
	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.b.Stop(); err != nil {
		t.Fatal(err)
	}
	p.restore(filepath.Join(snapshot, "data"), p.b.DataDir())
	p.restore(filepath.Join(snapshot, "include"), include)
	if _, err := p.boot(p.b, planted); err != nil {
		t.Fatal(err)
	}
	p.startBob()
	p.awaitStatus(30*time.Second, "bob named as rolled back", func(s rig.Status) bool { return !s.Member(bob).RolledBack.IsZero() })
	p.awaitApart(40 * time.Second)
	p.awaitApplied()
}

// restore makes a directory a copy of another, as a disk is copied or restored.
func (p *pair) restore(from, to string) {
	p.t.Helper()
	if err := os.RemoveAll(to); err != nil {
		p.t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Chmod(to, 0o700); err != nil {
		p.t.Fatal(err)
	}
}

// sample is the sample that bob's Tor shows, in its order.
func (p *pair) sample() (fps []string) {
	p.t.Helper()
	all, err := oracle.Sample(p.b)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, g := range all {
		fps = append(fps, g.Fingerprint)
	}
	return fps
}

// lineWith is the first line of a log with the text in it.
func lineWith(log, text string) string {
	for line := range strings.Lines(log) {
		if strings.Contains(line, text) {
			return line
		}
	}
	return ""
}
