package runner

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"guardring/shmproto"
)

// fill has another agent show a member in every slot. change may edit a slot's
// publication, and the attachment with which it is shown.
func (d *fakeDevice) fill(t *testing.T, change func(slot int, p *shmproto.Publication) shmproto.Attachment) {
	t.Helper()
	for slot := range shmproto.MaxMembers {
		p := shmproto.Publication{Seq: 1, Member: fmt.Sprintf("m%d", slot), State: shmproto.MemberPresent}
		shmproto.SetAttachment(d.mem, change(slot, &p))
		r, err := shmproto.Open(d.mem)
		if err != nil {
			t.Fatal(err)
		}
		g := r.Guest(1, 99)
		if held, by := g.Lock().TryAcquire(); !held {
			t.Fatal("the lock is held by", by)
		}
		err = g.Publish(slot, &p)
		g.Lock().Release()
		if err != nil {
			t.Fatal(err)
		}
	}
	shmproto.SetAttachment(d.mem, 2)
}

// TestSlotsAreReclaimed: a region has eight slots for ever, so those of members
// that have left, or belonged to an attachment that is over, are given on. One
// that is in use is not, and neither is one of our own members'.
func TestSlotsAreReclaimed(t *testing.T) {
	const present, past = shmproto.Attachment(2), shmproto.Attachment(1)
	for _, tt := range []struct {
		name   string
		change func(slot int, p *shmproto.Publication) shmproto.Attachment
		want   int // -1: none
	}{
		{"left", func(slot int, p *shmproto.Publication) shmproto.Attachment {
			if slot == 3 {
				p.State = shmproto.MemberLeft
			}
			return present
		}, 3},
		{"past", func(slot int, p *shmproto.Publication) shmproto.Attachment {
			if slot == 5 {
				return past
			}
			return present
		}, 5},
		{"left before past", func(slot int, p *shmproto.Publication) shmproto.Attachment {
			if slot == 6 {
				p.State = shmproto.MemberLeft
				return present
			}
			return past
		}, 6},
		{"its own of before", func(slot int, p *shmproto.Publication) shmproto.Attachment {
			if slot == 7 {
				p.Member = "default"
			}
			return past
		}, 7},
		{"our other member's stays", func(slot int, p *shmproto.Publication) shmproto.Attachment {
			if slot == 0 {
				p.Member = "web"
			}
			if slot == 4 || slot == 0 {
				return past
			}
			return present
		}, 4},
		{"all in use", func(int, *shmproto.Publication) shmproto.Attachment { return present }, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newFakeDevice(t, "browsing")
			d.fill(t, tt.change)
			// web's Tor is not there: it has shown nothing yet, and its slot is its own all the same.
			web := newFakeTor(t)
			web.stop()
			a, _ := run(t, Config{Tors: []Tor{torOf(t, "default", newFakeTor(t)), torOf(t, "web", web)}, Dial: oneDevice(d)})
			if tt.want >= 0 {
				d.until(t, tt.want, "guards", func(p *shmproto.Publication) bool { return p.Member == "default" && len(p.Guards) == fakeGuards })
				return
			}
			for deadline := time.Now().Add(patience); ; {
				for _, f := range document(t, a).Faults {
					if f.Member == "default" && strings.Contains(f.Text, "all 8 member slots of this gateway are taken") {
						return
					}
				}
				if time.Now().After(deadline) {
					t.Fatal("that there is no slot is not said")
				}
			}
		})
	}
}
