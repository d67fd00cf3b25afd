package consensus

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"guardring/internal/guardstate"
)

// Parse reads a whole consensus. It keeps nothing of data. Every error is an
// *Error; with an error there is no document.
func Parse(data []byte) (*Document, error) {
	if len(data) > MaxSize {
		return nil, &Error{Reason: fmt.Sprintf("%d bytes, want at most %d", len(data), MaxSize)}
	}
	p := parser{seen: map[guardstate.Fingerprint]int{}}
	for len(data) > 0 && !p.done {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		p.line++
		if !whole {
			return nil, p.fault("the last line has no end: the file is cut off")
		}
		if err := p.take(line); err != nil {
			return nil, err
		}
		data = rest
	}
	return p.end()
}

// parser is where in a document we are.
type parser struct {
	line   int
	doc    Document
	begun  bool // network-status-version was seen
	footer bool // directory-footer was seen
	done   bool // the signatures follow
	seen   map[guardstate.Fingerprint]int
	stated [4]bool // valid-after, fresh-until, valid-until, bandwidth-weights
}

func (p *parser) fault(format string, args ...any) *Error {
	return &Error{Line: p.line, Reason: fmt.Sprintf(format, args...)}
}

// take reads one line. Keywords that are not looked into are skipped: a
// consensus grows new ones.
func (p *parser) take(raw []byte) error {
	keyword, rest, _ := strings.Cut(string(raw[:min(len(raw), maxLine)]), " ")
	if !p.begun {
		return p.first(keyword, rest)
	}
	switch keyword {
	case "r", "a", "s", "w", "valid-after", "fresh-until", "valid-until", "params", "bandwidth-weights":
		if len(raw) > maxLine {
			return p.fault("%d bytes in the line %q, want at most %d", len(raw), keyword, maxLine)
		}
	}
	switch keyword {
	case "r":
		return p.router(rest)
	case "a", "s", "w":
		if p.footer || len(p.doc.Relays) == 0 {
			return p.fault("%q outside of a router's entry", keyword)
		}
		return p.detail(keyword, rest)
	case "valid-after":
		return p.date(0, &p.doc.ValidAfter, rest)
	case "fresh-until":
		return p.date(1, &p.doc.FreshUntil, rest)
	case "valid-until":
		return p.date(2, &p.doc.ValidUntil, rest)
	case "params":
		p.doc.Params = rest
	case "directory-footer":
		p.footer = true
	case "bandwidth-weights":
		return p.weights(rest)
	case "directory-signature":
		p.done = true
	}
	return nil
}

func (p *parser) first(keyword, rest string) error {
	if strings.HasPrefix(keyword, "@") {
		return nil // an annotation, as archives put before a document
	}
	if keyword != "network-status-version" {
		return p.fault("begins with %.40q, want network-status-version: this is no consensus", keyword)
	}
	switch rest {
	case "3", "3 ns":
		p.doc.Flavour = NS
	case "3 microdesc":
		p.doc.Flavour = Microdesc
	default:
		return p.fault("network-status-version %.40q, want 3, 3 ns or 3 microdesc", rest)
	}
	p.begun = true
	return nil
}

// once reports a line that may be there only once and is there again.
func (p *parser) once(i int) error {
	if p.stated[i] {
		return p.fault("stated a second time")
	}
	p.stated[i] = true
	return nil
}

func (p *parser) date(i int, to *time.Time, text string) error {
	if err := p.once(i); err != nil {
		return err
	}
	t, err := time.Parse(time.DateTime, text)
	if err != nil {
		return p.fault("time %.40q, want YYYY-MM-DD HH:MM:SS", text)
	}
	*to = t
	return nil
}

// router reads an r line: the microdesc flavour has no descriptor digest.
func (p *parser) router(rest string) error {
	words := strings.Split(rest, " ")
	want, at := 8, 5 // nickname identity digest date time address orport dirport
	if p.doc.Flavour == Microdesc {
		want, at = 7, 4
	}
	switch {
	case p.footer:
		return p.fault("a router after the footer")
	case len(words) < want:
		return p.fault("r line of %d words, want %d", len(words)+1, want+1)
	case len(p.doc.Relays) == MaxRelays:
		return p.fault("more than %d routers", MaxRelays)
	case len(words[0]) == 0 || len(words[0]) > 19:
		return p.fault("nickname of %d characters, want 1 to 19", len(words[0]))
	}
	r := Relay{Nickname: strings.Clone(words[0])}
	id, err := base64.RawStdEncoding.Strict().DecodeString(words[1])
	if err != nil || len(id) != len(r.Fingerprint) {
		return p.fault("identity %.40q, want the base64 of %d bytes", words[1], len(r.Fingerprint))
	}
	copy(r.Fingerprint[:], id)
	if before := p.seen[r.Fingerprint]; before != 0 {
		return p.fault("the router of line %d again", before)
	}
	p.seen[r.Fingerprint] = p.line
	ip, err := netip.ParseAddr(words[at])
	if err != nil || !ip.Is4() {
		return p.fault("address %.40q, want an IPv4 address", words[at])
	}
	port, err := parsePort(words[at+1])
	if err != nil {
		return p.fault("%v", err)
	}
	r.Addrs = []netip.AddrPort{netip.AddrPortFrom(ip, port)}
	p.doc.Relays = append(p.doc.Relays, r)
	return nil
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("ORPort %.40q, want 1 to 65535", text)
	}
	return uint16(n), nil
}

// detail reads a further line of the last router.
func (p *parser) detail(keyword, rest string) error {
	r := &p.doc.Relays[len(p.doc.Relays)-1]
	switch keyword {
	case "a":
		addr, err := netip.ParseAddrPort(rest)
		switch {
		case err != nil || addr.Port() == 0 || addr.Addr().Zone() != "":
			return p.fault("address %.60q, want ADDRESS:PORT", rest)
		case len(r.Addrs) == MaxAddrs:
			return p.fault("more than %d addresses of one router", MaxAddrs)
		}
		r.Addrs = append(r.Addrs, addr)
	case "s":
		for word := range strings.FieldsSeq(rest) {
			r.Flags |= flagNames[word]
		}
	case "w":
		for word := range strings.FieldsSeq(rest) {
			value, ok := strings.CutPrefix(word, "Bandwidth=")
			if !ok {
				continue
			}
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return p.fault("bandwidth %.40q, want a 32-bit number", value)
			}
			r.Bandwidth = n
		}
	}
	return nil
}

func (p *parser) weights(rest string) error {
	if err := p.once(3); err != nil {
		return err
	}
	if !p.footer {
		return p.fault("bandwidth-weights before the footer")
	}
	p.doc.Weights = map[string]int{}
	for word := range strings.FieldsSeq(rest) {
		name, value, _ := strings.Cut(word, "=")
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 0 || n > 10*WeightScale {
			return p.fault("weight %.40q, want NAME=0 to %d", word, 10*WeightScale)
		}
		p.doc.Weights[strings.Clone(name)] = int(n)
	}
	return nil
}

// end looks at the document as a whole.
func (p *parser) end() (*Document, error) {
	d := &p.doc
	whole := func(reason string) (*Document, error) { return nil, &Error{Reason: reason} }
	switch {
	case !p.begun:
		return whole("it is empty")
	case !p.footer:
		return whole("no directory-footer: the file is cut off")
	case d.ValidAfter.IsZero() || d.ValidUntil.IsZero():
		return whole("it does not say from when until when it is valid")
	case d.ValidUntil.Before(d.ValidAfter):
		return whole("it ends to be valid before it begins")
	case len(d.Relays) == 0:
		return whole("it lists no routers")
	}
	return d, nil
}
