package torctl

import (
	"bytes"
	"io"
	"net/textproto"
	"testing"

	"github.com/cretz/bine/control"
)

type closer struct{ io.Writer }

func (closer) Close() error { return nil }

// FuzzReplies: any bytes of a control port end in replies or an error; the
// lines of a reply never exceed what was sent, and dropping data lines never
// changes how many replies there are.
func FuzzReplies(f *testing.F) {
	for _, seed := range []string{
		"250 OK\r\n", "250-a=b\r\n250 OK\r\n", "250+a=\r\nx\r\n..\r\n.\r\n250 OK\r\n",
		"650 CIRC 1 BUILT\r\n250 OK\r\n", "650+X\r\n.\r\n650 OK\r\n", "25", "250", "250+\r\n", "\r\n", ".\r\n", "999 x\r\n250+a\n.\n250 \n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		read := func(keep func([]byte) bool) (n int) {
			fr := newFrames(bytes.NewReader(in))
			if keep != nil {
				fr.keep.Store(&keep)
			}
			c := control.NewConn(textproto.NewConn(struct {
				io.Reader
				io.WriteCloser
			}{fr, closer{io.Discard}}))
			for {
				resp, err := c.ReadResponse()
				if err != nil {
					return n
				}
				n++
				r := fromBine(resp)
				size := 0
				for _, l := range r.Lines {
					size += len(l.Text) + len(l.Data)
				}
				if size > len(in) {
					t.Fatalf("%d bytes out of %d", size, len(in))
				}
				r.Values("a")
				toEvent(r)
			}
		}
		all := read(nil)
		none := read(func([]byte) bool { return false })
		if none != all {
			t.Fatalf("%d replies with filter, %d without", none, all)
		}
	})
}
