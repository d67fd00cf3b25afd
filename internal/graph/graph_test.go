package graph

import (
	"net/netip"
	"reflect"
	"testing"
	"time"
)

type node struct {
	name  string
	next  *node
	peers map[string]*node
	sums  map[[2]byte][]int64
	list  []*node
	none  []int
	empty []int
	raw   [3]byte
	pair  [2]*node
	big   uint64
	at    time.Time
	addr  netip.Addr
	deep  struct{ on bool }
	level level
}

type level uint8

// ring is a graph with a cycle and with something shared.
func ring() *node {
	a := &node{name: "a <&> \u2028", none: nil, big: 1<<63 + 1, at: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC), addr: netip.MustParseAddr("2001:db8::1")}
	b := &node{name: "b", next: a, empty: []int{}, raw: [3]byte{1, 2, 255}, level: 7}
	a.next, a.list = b, []*node{b, nil, a, b}
	a.pair[1] = b
	a.peers = map[string]*node{"x": b, "y": a, "z": {name: "c", next: b}}
	a.sums = map[[2]byte][]int64{{1, 2}: {-1 << 62}, {0, 0}: nil}
	a.deep.on = true
	return a
}

func TestTheSameGraphComesBack(t *testing.T) {
	for range 20 { // the maps' order must not matter
		in := ring()
		text := Encode(in)
		var out *node
		if err := Decode(text, &out); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(in, out) {
			t.Fatalf("%s became\n%+v", text, out)
		}
		if out.next != out.peers["x"] || out.list[2] != out || out.peers["z"].next != out.next {
			t.Fatal("what was shared is not shared any more")
		}
		if again := Encode(out); string(again) != string(text) || string(text) != string(Encode(ring())) {
			t.Fatalf("the same graph is\n%s and\n%s", text, again)
		}
	}
}

func TestTextThatIsNoGraph(t *testing.T) {
	for _, text := range []string{``, `[]`, `[{"unknown":1}]`, `[{"pair":[0]}]`, `[{"pair":[0,0,0]}]`, `[{"raw":"0102"}]`, `[{"next":2}]`, `[{"next":-1}]`, `[{"peers":[["x"]]}]`, `[{"level":256}]`, `[{"at":"soon"}]`} {
		var n *node
		if err := Decode([]byte(text), &n); err == nil {
			t.Errorf("%s is %+v", text, n)
		}
	}
}

func TestShapesDiffer(t *testing.T) {
	type one struct{ a int }
	type two struct{ a int64 }
	if Shape(&one{a: 1}) == Shape(&two{a: 1}) || Shape((*node)(nil)) != Shape(ring()) {
		t.Error("shapes do not tell types apart, or are no digest of the type")
	}
}

func TestNoFormPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a function was encoded")
		}
	}()
	Encode(&struct{ f func() }{func() {}})
}

// FuzzDecode: whatever the text is, it gives an error or a graph.
func FuzzDecode(f *testing.F) {
	f.Add(Encode(ring()))
	f.Add([]byte(`[{"next":2},{"list":[1,0,9]}]`))
	f.Add([]byte(`[{"raw":"0102"}]`))
	f.Add([]byte(`[{"peers":[["x"]]}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var n *node
		if err := Decode(text, &n); err != nil {
			return
		}
		Encode(n)
	})
}
