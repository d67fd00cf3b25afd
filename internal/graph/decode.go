package graph

import (
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
)

type decoder struct {
	texts []json.RawMessage
	made  []reflect.Value // by number - 1; pointers
	todo  []int
}

// Decode is the reverse of Encode: it sets *root, which is a pointer to a struct,
// to a new graph.
func Decode[T any](text []byte, root **T) error {
	var d decoder
	if err := json.Unmarshal(text, &d.texts); err != nil {
		return err
	}
	d.made = make([]reflect.Value, len(d.texts))
	top, err := d.pointer(1, reflect.TypeFor[*T]())
	if err != nil {
		return err
	}
	for len(d.todo) > 0 {
		n := d.todo[0]
		d.todo = d.todo[1:]
		if err := d.value(d.texts[n-1], d.made[n-1].Elem()); err != nil {
			return fmt.Errorf("object %d (%s): %w", n, d.made[n-1].Type(), err)
		}
	}
	*root = top.Interface().(*T)
	return nil
}

func (d *decoder) pointer(n int, t reflect.Type) (reflect.Value, error) {
	if n < 1 || n > len(d.texts) {
		return reflect.Value{}, fmt.Errorf("there is no object %d", n)
	}
	if !d.made[n-1].IsValid() {
		d.made[n-1] = reflect.New(t.Elem())
		d.todo = append(d.todo, n)
	}
	if d.made[n-1].Type() != t {
		return reflect.Value{}, fmt.Errorf("object %d is a %s and a %s", n, d.made[n-1].Type(), t)
	}
	return d.made[n-1], nil
}

func (d *decoder) value(text json.RawMessage, v reflect.Value) error {
	t := v.Type()
	isNull := string(text) == "null"
	switch {
	case asText(t):
		var s string
		if err := json.Unmarshal(text, &s); err != nil || s == "" {
			return err
		}
		return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s))
	case asBytes(t) && !isNull:
		return decodeBytes(text, v)
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return decodePlain(text, v)
	case reflect.Pointer:
		var n int
		if err := json.Unmarshal(text, &n); err != nil || n == 0 {
			return err
		}
		p, err := d.pointer(n, t)
		if err == nil {
			v.Set(p)
		}
		return err
	case reflect.Struct:
		return d.fields(text, v)
	case reflect.Map:
		return d.pairs(text, v, isNull)
	case reflect.Slice, reflect.Array:
		return d.list(text, v, isNull)
	}
	return fmt.Errorf("a %s has no form", t)
}

// decodePlain goes round types that write themselves as JSON in another way.
func decodePlain(text json.RawMessage, v reflect.Value) error {
	var err error
	switch v.Kind() {
	case reflect.Bool:
		var x bool
		err = json.Unmarshal(text, &x)
		v.SetBool(x)
	case reflect.String:
		var x string
		err = json.Unmarshal(text, &x)
		v.SetString(x)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		var x int64
		if err = json.Unmarshal(text, &x); err == nil && v.OverflowInt(x) {
			err = fmt.Errorf("%d is no %s", x, v.Type())
		}
		v.SetInt(x)
	default:
		var x uint64
		if err = json.Unmarshal(text, &x); err == nil && v.OverflowUint(x) {
			err = fmt.Errorf("%d is no %s", x, v.Type())
		}
		v.SetUint(x)
	}
	return err
}

func decodeBytes(text json.RawMessage, v reflect.Value) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	raw, err := hex.DecodeString(s)
	if err != nil {
		return err
	}
	if v.Kind() == reflect.Slice {
		v.Set(reflect.MakeSlice(v.Type(), len(raw), len(raw)))
	} else if len(raw) != v.Len() {
		return fmt.Errorf("%d bytes, want %d", len(raw), v.Len())
	}
	for i, x := range raw {
		v.Index(i).SetUint(uint64(x))
	}
	return nil
}

func (d *decoder) fields(text json.RawMessage, v reflect.Value) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		one, ok := all[name]
		if !ok {
			continue
		}
		if err := d.value(one, field(v, i)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		delete(all, name)
	}
	for name := range all {
		return fmt.Errorf("there is no field %q", name)
	}
	return nil
}

func (d *decoder) list(text json.RawMessage, v reflect.Value, isNull bool) error {
	if isNull {
		return nil
	}
	var all []json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	if v.Kind() == reflect.Slice {
		v.Set(reflect.MakeSlice(v.Type(), len(all), len(all)))
	} else if len(all) != v.Len() {
		return fmt.Errorf("%d items, want %d", len(all), v.Len())
	}
	for i, one := range all {
		if err := d.value(one, v.Index(i)); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) pairs(text json.RawMessage, v reflect.Value, isNull bool) error {
	if isNull {
		return nil
	}
	var all [][]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, pair := range all {
		if len(pair) != 2 {
			return errors.New("a pair that is none")
		}
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		if err := d.value(pair[0], key); err != nil {
			return err
		}
		if err := d.value(pair[1], value); err != nil {
			return err
		}
		v.SetMapIndex(key, value)
	}
	return nil
}
