package shmproto

import (
	"crypto/sha256"
	"fmt"

	"guardring/internal/guardstate"
)

// The fields of an order. All are required except orderExclusions.
const (
	orderMember     = 1
	orderIdentity   = 2 // epoch number, epoch random, term, seq
	orderAnswers    = 3 // attachment, incarnation, seq
	orderExclusions = 4

	orderIdentitySize = 32
	orderAnswersSize  = 24
	fingerprintSize   = len(guardstate.Fingerprint{})
)

// maxOrderPayload is the longest payload of an order that this build writes.
const maxOrderPayload = 4*fieldHeaderSize + MaxNameLen + orderIdentitySize + orderAnswersSize + MaxExclusions*fingerprintSize

// check reports what is wrong with an order that we are about to encode.
func (o *Order) check() error {
	switch {
	case !ValidName(o.Member):
		return fmt.Errorf("order: member name %q: want %s", o.Member, NameRule)
	case o.Term == 0:
		return fmt.Errorf("order: term 0")
	case o.Seq == 0:
		return fmt.Errorf("order: seq 0")
	case len(o.Exclusions) > MaxExclusions:
		return fmt.Errorf("%w: %d exclusions, at most %d", ErrTooLarge, len(o.Exclusions), MaxExclusions)
	}
	for i, f := range o.Exclusions {
		if f.IsZero() || i > 0 && o.Exclusions[i-1].Compare(f) >= 0 {
			return fmt.Errorf("order: exclusion %d is zero, repeated or out of order", i)
		}
	}
	return nil
}

// appendTo appends the payload of o, which check has passed.
func (o *Order) appendTo(b []byte) []byte {
	b = appendField(b, orderMember, len(o.Member))
	b = append(b, o.Member...)
	b = appendField(b, orderIdentity, orderIdentitySize)
	b = le.AppendUint64(b, o.Epoch.Number)
	b = le.AppendUint64(b, o.Epoch.Random)
	b = le.AppendUint64(b, uint64(o.Term))
	b = le.AppendUint64(b, uint64(o.Seq))
	b = appendField(b, orderAnswers, orderAnswersSize)
	b = le.AppendUint64(b, uint64(o.Answers.Attachment))
	b = le.AppendUint64(b, uint64(o.Answers.Incarnation))
	b = le.AppendUint64(b, uint64(o.Answers.Seq))
	if n := len(o.Exclusions); n > 0 {
		b = appendField(b, orderExclusions, n*fingerprintSize)
		for i := range o.Exclusions {
			b = append(b, o.Exclusions[i][:]...)
		}
	}
	return b
}

// decode replaces o by what the payload says, reusing its slice.
func (o *Order) decode(payload []byte) (skipped int, err error) {
	*o = Order{Member: o.Member, Exclusions: o.Exclusions[:0]}
	r := newFieldReader(payload)
	seen := 0
	for {
		f, ok, err := r.next()
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		switch f.tag {
		case orderMember:
			seen |= 1
			err = f.name(&o.Member)
		case orderIdentity:
			seen |= 2
			err = o.decodeIdentity(f)
		case orderAnswers:
			seen |= 4
			if err = f.size(orderAnswersSize); err == nil {
				o.Answers = Answers{
					Attachment:  Attachment(le.Uint64(f.value)),
					Incarnation: Incarnation(le.Uint64(f.value[8:])),
					Seq:         Seq(le.Uint64(f.value[16:])),
				}
			}
		case orderExclusions:
			o.Exclusions, err = f.fingerprints(o.Exclusions, MaxExclusions)
		default:
			err = r.unknown(f)
		}
		if err != nil {
			return 0, err
		}
	}
	if seen != 7 {
		return 0, violation(len(payload), "order without member, identity or answers")
	}
	return r.skipped, nil
}

func (o *Order) decodeIdentity(f field) error {
	if err := f.size(orderIdentitySize); err != nil {
		return err
	}
	o.Epoch = Epoch{le.Uint64(f.value), le.Uint64(f.value[8:])}
	o.Term = Term(le.Uint64(f.value[16:]))
	o.Seq = Seq(le.Uint64(f.value[24:]))
	if o.Term == 0 {
		return violation(f.off+16, "term 0")
	}
	if o.Seq == 0 {
		return violation(f.off+24, "seq 0")
	}
	return nil
}

// fingerprints appends the value's fingerprints to dst: 1 to most of them,
// ascending, none zero.
func (f field) fingerprints(dst []guardstate.Fingerprint, most int) ([]guardstate.Fingerprint, error) {
	n := len(f.value) / fingerprintSize
	if n == 0 || n > most || n*fingerprintSize != len(f.value) {
		return dst, violation(f.off-2, "field of the wrong length")
	}
	var last guardstate.Fingerprint
	for i := range n {
		v := guardstate.Fingerprint(f.value[i*fingerprintSize:])
		if v.Compare(last) <= 0 {
			return dst, violation(f.off+i*fingerprintSize, "fingerprint zero, repeated or out of order")
		}
		dst = append(dst, v)
		last = v
	}
	return dst, nil
}

// copyTo copies o into dst, reusing dst's slice.
func (o *Order) copyTo(dst *Order) {
	exclusions := append(dst.Exclusions[:0], o.Exclusions...)
	*dst = *o
	dst.Exclusions = exclusions
}

// Digest names the order's whole content: the first half of the SHA-256 of its
// encoding. An order that WriteOrder would refuse has the digest zero.
func (o *Order) Digest() [16]byte {
	if o.check() != nil {
		return [16]byte{}
	}
	var b [maxOrderPayload]byte
	sum := sha256.Sum256(o.appendTo(b[:0]))
	return [16]byte(sum[:])
}
