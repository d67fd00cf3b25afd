package coordinator

import (
	"fmt"
	"slices"
	"testing"
)

// TestLateOrder: what a stopped coordinator ordered too late lifts nothing that its
// successor ordered, has no number of the successor's, and moves nobody for whom the
// other one has moved. A member that has left keeps nothing of it.
func TestLateOrder(t *testing.T) {
	a, b := Member{"a", "default"}, Member{"b", "default"}
	order := func(m Member, seq uint64, guards ...int) Record {
		r := Record{Version: RecordVersion, Kind: RecordOrder, Gateway: m.Gateway, Instance: m.Instance, Seq: seq}
		other := a
		if m == a {
			other = b
		}
		for _, g := range guards {
			r.Exclusions = append(r.Exclusions, Exclusion{Key: RelayKey(fp(g)), Since: testStart, Why: WhyConflict, For: other})
		}
		return r
	}
	gone := Record{Version: RecordVersion, Kind: RecordMember, Gateway: "a", Instance: "default", Gone: true}
	for _, x := range []struct {
		name                string
		before, late, after []Record
		want                []int
		seq                 uint64
	}{
		{"of the successor's number", []Record{order(a, 5, 1, 2)}, []Record{order(a, 5, 1, 3)}, nil, []int{1, 2, 3}, 6},
		{"one more", []Record{order(a, 5, 1)}, []Record{order(a, 6, 1, 3)}, nil, []int{1, 3}, 6},
		{"lifts", []Record{order(a, 5, 1, 2)}, []Record{order(a, 6, 1)}, nil, []int{1, 2}, 7},
		{"the same", []Record{order(a, 5, 1, 2)}, []Record{order(a, 5, 1, 2)}, nil, []int{1, 2}, 5},
		{"the successor's own come after it", []Record{order(a, 4, 1)}, []Record{order(a, 5, 1, 3)}, []Record{order(a, 5, 1, 2)}, []int{1, 2}, 5},
		{"the other one moved", []Record{order(b, 1, 3), order(a, 4, 1)}, []Record{order(a, 5, 1, 3)}, nil, []int{1}, 6},
		{"it has left", []Record{order(a, 5), gone}, []Record{order(a, 5, 3)}, nil, nil, 6},
	} {
		t.Run(x.name, func(t *testing.T) {
			c, err := New(Config{Policy: PolicyDisjoint, Epoch: testEpoch})
			if err == nil {
				err = c.Restore(slices.Concat(x.before, Late(x.late), x.after))
			}
			if err == nil {
				err = c.valid()
			}
			if err != nil {
				t.Fatal(err)
			}
			m := c.byName[a]
			var want []Key
			for _, g := range x.want {
				want = append(want, RelayKey(fp(g)))
			}
			var got []Key
			for _, e := range m.exclusions {
				got = append(got, e.Key)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) || m.seq != x.seq {
				t.Errorf("order %d of %v, want %d of %v", m.seq, got, x.seq, want)
			}
		})
	}
}
