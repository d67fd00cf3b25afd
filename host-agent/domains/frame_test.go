package domains

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"testing/iotest"
	"time"
)

// packet is one of libvirt's protocol, with zeroes in it.
func packet(length uint32, bytes int) []byte {
	return append(binary.BigEndian.AppendUint32(nil, length), make([]byte, bytes)...)
}

// TestNoLibvirt: whatever answers at the socket, we lose only the connection.
func TestNoLibvirt(t *testing.T) {
	for name, says := range map[string][]byte{
		"zeroes":      make([]byte, 64), // as guardring's own gateway sockets begin
		"short":       packet(27, 60),
		"endless":     packet(1<<32-1, 60),
		"text":        []byte("HTTP/1.1 400 Bad Request: this is another program\r\n"),
		"no more":     packet(28, 3),
		"stray reply": packet(28, 24),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = c.Write(says)
					_ = c.Close()
				}
			}()
			if c, err := Connect(t.Context(), Address{Socket: path, URI: "qemu:///system"}); err == nil {
				c.Close()
				t.Error("connected")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			Watch{Address: Address{Socket: path}, Gateways: func() []Known { return []Known{{"web", webUUID}} }, Period: 10 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}.Run(ctx, func(Seen) {})
		})
	}
}

// stream is a connection that only gives.
type stream struct {
	net.Conn
	io.Reader
}

func (s stream) Read(p []byte) (int, error) { return s.Reader.Read(p) }

// TestFramed: packets come through as they are, however they are cut.
func TestFramed(t *testing.T) {
	var all []byte
	for i := range 5 {
		p := packet(uint32(28+7*i), 24+7*i)
		for j := range p[4:] {
			p[4+j] = byte(i*16 + j)
		}
		all = append(all, p...)
	}
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(all), "one byte": iotest.OneByteReader(bytes.NewReader(all)), "halves": iotest.HalfReader(bytes.NewReader(all)),
	} {
		got, err := io.ReadAll(iotest.OneByteReader(&framed{Conn: stream{Reader: r}}))
		if err != nil || !bytes.Equal(got, all) {
			t.Errorf("%s: %v, %x", name, err, got)
		}
	}
}
