package errand

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestHalfALine: what a guest that was reset leaves behind spoils nothing but itself.
func TestHalfALine(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(`{"token":1,"stdout":"aGF` + "\n")
	l := &Line{W: &b}
	for _, r := range []Reply{{Hello: "id"}, {Token: 2, Stdout: []byte("a\nb"), Code: 3}} {
		if err := l.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	var got []Reply
	if err := Receive(&b, func(r Reply) { got = append(got, r) }); !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
	if len(got) != 2 || got[0].Hello != "id" || got[1].Token != 2 || string(got[1].Stdout) != "a\nb" || got[1].Code != 3 {
		t.Errorf("received %+v", got)
	}
	if err := Receive(strings.NewReader(`{"token":1}`), func(Reply) { t.Error("a line without its end counts") }); !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
}
