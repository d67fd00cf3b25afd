// Package graph writes a graph of Go structs as JSON and makes the same graph of
// it again: what is shared stays shared, cycles end, and fields that are not
// exported are in it too. So the checkpoint of a state machine is complete
// without a second list of its fields.
//
// The form is a list of objects, the root first. A pointer is an object's number,
// counted from 1, and 0 for nil. A struct is an object of its fields that are not
// zero; a slice or array is a list, null for nil; a map is a list of pairs in the
// order of their text; bytes are hexadecimal; times and addresses are text.
// The same graph gives the same JSON.
//
// Trust: what is decoded was written by Encode, and its reader has checked that
// it is undamaged. Any text gives an error or a graph of the right types, never a
// panic; whether the graph makes sense is not checked.
//
// unsafe is used for one thing: fields that are not exported are read and set
// (field), which reflect allows only that way.
package graph

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unsafe"
)

// asText: values of t are written as text. Of others' types that keep what they
// are to themselves there are these; our own are what their fields are.
func asText(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[time.Time](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.AddrPort](), reflect.TypeFor[netip.Prefix]():
		return true
	}
	return false
}

func asBytes(t reflect.Type) bool {
	return (t.Kind() == reflect.Array || t.Kind() == reflect.Slice) && t.Elem().Kind() == reflect.Uint8
}

// field returns field i of the struct v, which is addressable, as if it were
// exported.
func field(v reflect.Value, i int) reflect.Value {
	f := v.Field(i)
	return reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem()
}

// Shape is a digest of the names and types of all fields that can be reached from
// root: graphs of another shape are not understood.
func Shape(root any) string {
	h := sha256.New()
	describeType(h, reflect.TypeOf(root), map[reflect.Type]bool{})
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// describeType writes everything about t that the JSON depends on.
func describeType(w io.Writer, t reflect.Type, seen map[reflect.Type]bool) {
	fmt.Fprintf(w, "%s:%s;", t, t.Kind())
	if seen[t] || asText(t) || asBytes(t) {
		return
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Struct:
		for f := range t.Fields() {
			fmt.Fprintf(w, "%s=", f.Name)
			describeType(w, f.Type, seen)
		}
	case reflect.Map:
		describeType(w, t.Key(), seen)
		describeType(w, t.Elem(), seen)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		describeType(w, t.Elem(), seen)
	}
}

type encoder struct {
	numbers map[unsafe.Pointer]int
	objects []reflect.Value // by number - 1
}

// Encode writes what root points to, with everything that can be reached. A value
// of a kind that has no form (a function, a channel, an interface) is the
// caller's mistake and panics.
func Encode(root any) []byte {
	e := encoder{numbers: map[unsafe.Pointer]int{}}
	e.number(reflect.ValueOf(root))
	var b bytes.Buffer
	b.WriteByte('[')
	for i := 0; i < len(e.objects); i++ { // grows meanwhile
		if i > 0 {
			b.WriteByte(',')
		}
		e.value(&b, e.objects[i])
	}
	b.WriteByte(']')
	return b.Bytes()
}

func (e *encoder) number(p reflect.Value) int {
	if p.IsNil() {
		return 0
	}
	n, ok := e.numbers[p.UnsafePointer()]
	if !ok {
		e.objects = append(e.objects, p.Elem())
		n = len(e.objects)
		e.numbers[p.UnsafePointer()] = n
	}
	return n
}

func (e *encoder) value(b *bytes.Buffer, v reflect.Value) {
	t := v.Type()
	switch {
	case asText(t):
		text := []byte{}
		if !v.IsZero() {
			text, _ = v.Interface().(encoding.TextMarshaler).MarshalText() // our own types do not fail
		}
		writeJSON(b, string(text))
		return
	case asBytes(t) && !(t.Kind() == reflect.Slice && v.IsNil()):
		b.WriteByte('"')
		for i := range v.Len() {
			fmt.Fprintf(b, "%02x", v.Index(i).Uint())
		}
		b.WriteByte('"')
		return
	}
	switch t.Kind() {
	case reflect.Bool:
		b.WriteString(strconv.FormatBool(v.Bool()))
	case reflect.String:
		writeJSON(b, v.String())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		b.WriteString(strconv.FormatInt(v.Int(), 10))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		b.WriteString(strconv.FormatUint(v.Uint(), 10))
	case reflect.Pointer:
		b.WriteString(strconv.Itoa(e.number(v)))
	case reflect.Struct:
		e.fields(b, v)
	case reflect.Slice, reflect.Array:
		if t.Kind() == reflect.Slice && v.IsNil() {
			b.WriteString("null")
			return
		}
		b.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				b.WriteByte(',')
			}
			e.value(b, v.Index(i))
		}
		b.WriteByte(']')
	case reflect.Map:
		e.pairs(b, v)
	default:
		panic(fmt.Sprintf("graph: a %s has no form", t))
	}
}

// fields writes a struct without its zero fields.
func (e *encoder) fields(b *bytes.Buffer, v reflect.Value) {
	b.WriteByte('{')
	first := true
	for i := range v.NumField() {
		f := field(v, i)
		if f.IsZero() {
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		fmt.Fprintf(b, "%q:", v.Type().Field(i).Name)
		e.value(b, f)
	}
	b.WriteByte('}')
}

// pairs writes a map. Keys come first, in the order of their text, so that the
// numbers of objects do not depend on the map's order.
func (e *encoder) pairs(b *bytes.Buffer, v reflect.Value) {
	if v.IsNil() {
		b.WriteString("null")
		return
	}
	type pair struct {
		text  []byte
		value reflect.Value
	}
	var all []pair
	for it := v.MapRange(); it.Next(); {
		var text bytes.Buffer
		e.value(&text, addressable(it.Key()))
		all = append(all, pair{text.Bytes(), addressable(it.Value())})
	}
	slices.SortFunc(all, func(p, q pair) int { return bytes.Compare(p.text, q.text) })
	b.WriteByte('[')
	for i, p := range all {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(b, "[%s,", p.text)
		e.value(b, p.value)
		b.WriteByte(']')
	}
	b.WriteByte(']')
}

// addressable returns a copy of v whose fields have addresses.
func addressable(v reflect.Value) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	return c
}

func writeJSON(b *bytes.Buffer, s string) {
	text, _ := json.Marshal(s) // a string always can
	b.Write(text)
}
