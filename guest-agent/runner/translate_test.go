package runner

import (
	"strings"
	"testing"

	"guardring/guest-agent/rotation"
	"guardring/guest-agent/torctl"
	"guardring/internal/guardstate"
)

func TestQuote(t *testing.T) {
	got := setConf([]rotation.Setting{{Key: "A", Value: `x "y" \z 50%`}, {Key: "A", Value: ""}})
	if want := `SETCONF A="x \"y\" \\z 50%" A=""`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestTranslate(t *testing.T) {
	id := "$" + fp(1).String() + "~g"
	for _, tt := range []struct {
		e    torctl.Event
		want string // part of the event's String; "": none; "error"
	}{
		{torctl.Event{Name: "CIRC", Text: "5 BUILT " + id + " BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL"}, "circuit 5 BUILT"},
		{torctl.Event{Name: "CIRC", Text: "?"}, "error"},
		{torctl.Event{Name: "STREAM", Text: "9 SUCCEEDED 5 example.com:443"}, "stream 9 SUCCEEDED circuit=5"},
		{torctl.Event{Name: "GUARD", Text: "ENTRY " + id + " UP"}, "guard " + fp(1).Short() + " UP"},
		{torctl.Event{Name: "GUARD", Text: "ENTRY"}, "error"},
		{torctl.Event{Name: "NEWCONSENSUS"}, "consensus-arrived"},
		{torctl.Event{Name: "CONF_CHANGED", Lines: []torctl.Line{{Text: "ORPort=1"}, {Text: "EntryNodes"}, {Text: "OK"}}}, "conf-changed ORPort,EntryNodes"},
		{torctl.Event{Name: "BW", Text: "1 2"}, ""},
	} {
		e, err := translate(tt.e)
		got := ""
		if err != nil {
			got = "error"
		} else if e != nil {
			got = e.String()
		}
		if got != tt.want && !(tt.want != "" && tt.want != "error" && strings.Contains(got, tt.want)) {
			t.Errorf("%+v: %q, want %q", tt.e, got, tt.want)
		}
	}
	if _, err := guardstate.ParseFingerprint(id); err != nil {
		t.Error(err)
	}
}
