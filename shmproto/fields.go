package shmproto

// A payload is a sequence of fields: tag (16 bits), length (16 bits), value. Tags
// ascend strictly. A reader skips fields that it does not know, unless their tag
// has mandatoryTag set.
const (
	fieldHeaderSize = 4
	mandatoryTag    = 0x8000
)

// appendField appends a field's tag and length; the value follows.
func appendField(b []byte, tag uint16, n int) []byte {
	b = le.AppendUint16(b, tag)
	return le.AppendUint16(b, uint16(n))
}

// fieldReader walks over a private copy of a payload.
type fieldReader struct {
	b    []byte
	off  int // of the next field
	last int // tag of the field before, or -1
	// skipped counts what was ignored: unknown optional fields and unknown flag
	// bits. Without any, the payload is the only encoding of what was decoded.
	skipped int
}

func newFieldReader(b []byte) fieldReader { return fieldReader{b: b, last: -1} }

// field is one field: its value, and where in the payload that starts.
type field struct {
	tag   uint16
	off   int
	value []byte
}

// next returns the next field; ok is false at the end.
func (r *fieldReader) next() (f field, ok bool, err error) {
	rest := len(r.b) - r.off
	if rest == 0 {
		return field{}, false, nil
	}
	if rest < fieldHeaderSize {
		return field{}, false, violation(r.off, "cut field header")
	}
	tag := le.Uint16(r.b[r.off:])
	n := int(le.Uint16(r.b[r.off+2:]))
	switch {
	case int(tag) <= r.last:
		return field{}, false, violation(r.off, "field out of order")
	case n > rest-fieldHeaderSize:
		return field{}, false, violation(r.off+2, "field longer than the payload")
	}
	f = field{tag: tag, off: r.off + fieldHeaderSize, value: r.b[r.off+fieldHeaderSize:][:n]}
	r.last = int(tag)
	r.off = f.off + n
	return f, true, nil
}

// unknown skips an optional field that we do not know and refuses a mandatory one.
func (r *fieldReader) unknown(f field) error {
	if f.tag&mandatoryTag != 0 {
		return violation(f.off-fieldHeaderSize, "unknown mandatory field: upgrade this side")
	}
	r.skipped++
	return nil
}

// mask drops the flag bits that we do not know.
func (r *fieldReader) mask(v, known uint32) uint32 {
	if v&^known != 0 {
		r.skipped++
	}
	return v & known
}

// size refuses a value that is not n bytes long.
func (f field) size(n int) error {
	if len(f.value) != n {
		return violation(f.off-2, "field of the wrong length")
	}
	return nil
}

// name sets s to the value if that is a valid name. It allocates only when the
// name has changed.
func (f field) name(s *string) error {
	if len(f.value) == 0 || len(f.value) > MaxNameLen {
		return violation(f.off-2, "name of the wrong length")
	}
	if i := badNameByte(f.value); i >= 0 {
		return violation(f.off+i, "name with a byte that it cannot have there")
	}
	if *s != string(f.value) {
		*s = string(f.value)
	}
	return nil
}
