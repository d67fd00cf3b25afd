package checkup

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"guardring/internal/hint"
)

func sample() Lines {
	var l Lines
	l.Pass("device", "0000:00:10.0, revision %d", 1)
	l.Skip("vfio", "the region comes from a socket")
	l.Warn("iommu", "add <iommu model='intel'>", "none: the agent polls\x1b[31m")
	l.Fail("cookie of web", "usermod -aG debian-tor guardring", "permission denied\nsecond line")
	return l
}

func TestPrint(t *testing.T) {
	var b strings.Builder
	if err := Print(&b, sample()); err != nil {
		t.Fatal(err)
	}
	want := `pass  device         0000:00:10.0, revision 1
skip  vfio           the region comes from a socket
warn  iommu          none: the agent polls?[31m
                     -> add <iommu model='intel'>
fail  cookie of web  permission denied second line
                     -> usermod -aG debian-tor guardring

1 passed, 1 warnings, 1 failed, 1 skipped
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

func TestJSONThereAndBack(t *testing.T) {
	var b strings.Builder
	if err := PrintJSON(&b, sample()); err != nil {
		t.Fatal(err)
	}
	var d Document
	if err := json.Unmarshal([]byte(b.String()), &d); err != nil {
		t.Fatal(err)
	}
	if d.Worst != Fail || len(d.Lines) != 4 || d.Lines[3] != sample()[3] || !strings.Contains(b.String(), `"state": "warn"`) {
		t.Errorf("got %+v from\n%s", d, b.String())
	}
	if err := json.Unmarshal([]byte(`{"worst":"bad"}`), &d); err == nil {
		t.Error("an unknown state was read")
	}
	b.Reset()
	if err := PrintJSON(&b, nil); err != nil || !strings.Contains(b.String(), `"checks": []`) {
		t.Errorf("an empty report: %v\n%s", err, b.String())
	}
}

func TestExitCode(t *testing.T) {
	all := sample()
	for n, want := range map[int]int{0: 0, 1: 0, 2: 0, 3: 1, 4: 2} {
		l := all[:n]
		if got := l.ExitCode(); got != want {
			t.Errorf("%d lines: exit code %d, want %d", n, got, want)
		}
		if code := hint.End(io.Discard, "prog", Conclude(l)); code != want {
			t.Errorf("%d lines: the process ends with %d, want %d", n, code, want)
		}
	}
}
