package configfile

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

type decoder struct{ file *File }

var (
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// document decodes into cfg and runs every Checker. A cfg that is no pointer to
// a struct, or has a field of a type that is not offered, is our own mistake
// and panics.
func (d *decoder) document(doc *yaml.Node, cfg any) {
	v := reflect.ValueOf(cfg)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("configfile: cfg is a %T, want a pointer to a struct", cfg))
	}
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 && !isNull(doc.Content[0]) {
		d.value("", doc.Content[0], v.Elem())
	}
	d.check("", v.Elem())
}

func (d *decoder) fault(n *yaml.Node, key, problem, remedy string) {
	d.file.add(n.Line, key, problem, remedy)
}

// value decodes n into v, the setting named by key. What is faulty leaves v as
// it was.
func (d *decoder) value(key string, n *yaml.Node, v reflect.Value) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.fault(n, key, "anchors and aliases are not supported", "write the value out")
		return
	case n.Style&yaml.TaggedStyle != 0:
		d.fault(n, key, fmt.Sprintf("the tag %s is not supported", n.Tag), "remove it")
		return
	case isNull(n):
		d.fault(n, key, "has no value", "write a value, or remove the key to get the default")
		return
	}
	if _, ok := d.file.lines[key]; !ok {
		d.file.lines[key] = n.Line
	}
	if v.CanAddr() && v.Addr().Type().Implements(textType) {
		d.scalar(key, n, func(s string) error { return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)) }, "")
		return
	}
	if v.Type() == durationType {
		d.scalar(key, n, func(s string) error {
			t, err := ParseDuration(s)
			if err == nil {
				v.SetInt(int64(t))
			}
			return err
		}, "a duration such as 90s, 1h30m or 60d")
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			p.Elem().Set(v.Elem())
		}
		d.value(key, n, p.Elem())
		v.Set(p)
	case reflect.Struct:
		d.mapping(key, n, v)
	case reflect.Map:
		d.table(key, n, v)
	case reflect.Slice:
		d.list(key, n, v)
	default:
		d.plain(key, n, v)
	}
}

// plain decodes the built-in scalar kinds.
func (d *decoder) plain(key string, n *yaml.Node, v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		d.scalar(key, n, func(s string) error {
			if n.Tag != "!!bool" {
				return fmt.Errorf("%q is neither true nor false", s)
			}
			v.SetBool(s[0] == 't' || s[0] == 'T')
			return nil
		}, "true or false")
	case reflect.String:
		d.scalar(key, n, func(s string) error { v.SetString(s); return nil }, "a text")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		d.scalar(key, n, func(s string) error {
			i, err := strconv.ParseInt(s, 10, v.Type().Bits())
			if err == nil {
				v.SetInt(i)
			}
			return numberError(s, err)
		}, "a whole number")
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		d.scalar(key, n, func(s string) error {
			i, err := strconv.ParseUint(s, 10, v.Type().Bits())
			if err == nil {
				v.SetUint(i)
			}
			return numberError(s, err)
		}, "a whole number, not negative")
	case reflect.Float64:
		d.scalar(key, n, func(s string) error {
			x, err := strconv.ParseFloat(s, 64)
			if err == nil {
				v.SetFloat(x)
			}
			return numberError(s, err)
		}, "a number")
	default:
		panic(fmt.Sprintf("configfile: %s: fields of type %s are not offered", key, v.Type()))
	}
}

func numberError(s string, err error) error {
	switch {
	case errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("%s is out of range", s)
	case err != nil:
		return fmt.Errorf("%q is not a number", s)
	}
	return nil
}

func (d *decoder) scalar(key string, n *yaml.Node, set func(string) error, want string) {
	if n.Kind != yaml.ScalarNode {
		d.file.Fault(key, fmt.Sprintf("is %s, want %s", kindName(n), cmp.Or(want, "a single value")), "write the value after \""+lastKey(key)+": \"")
		return
	}
	if err := set(n.Value); err != nil {
		remedy := "" // a TextUnmarshaler's error says what it wants
		if want != "" {
			remedy = "want " + want
		}
		d.file.Fault(key, err.Error(), remedy)
	}
}

func (d *decoder) list(key string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.file.Fault(key, fmt.Sprintf("is %s, want a list", kindName(n)), "write each item on a line that starts with \"- \", or [] for none")
		return
	}
	s := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		if def, ok := reflect.Zero(v.Type().Elem()).Interface().(Defaulter); ok {
			s.Index(i).Set(reflect.ValueOf(def.Default()))
		}
		d.value(fmt.Sprintf("%s[%d]", key, i), item, s.Index(i))
	}
	v.Set(s)
}

// Defaulter is implemented by structs that are items of a list or table and do
// not start at their zero value. Default is called on a zero value and returns
// the same type.
type Defaulter interface{ Default() any }

func (d *decoder) table(key string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.file.Fault(key, fmt.Sprintf("is %s, want a table", kindName(n)), "write lines of the form \"name: value\" below it")
		return
	}
	m := reflect.MakeMap(v.Type())
	d.pairs(key, n, func(name string, k, item *yaml.Node) {
		e := reflect.New(v.Type().Elem()).Elem()
		if def, ok := e.Interface().(Defaulter); ok {
			e.Set(reflect.ValueOf(def.Default()))
		}
		d.value(join(key, name), item, e)
		m.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), e)
	})
	v.Set(m)
}

func (d *decoder) mapping(key string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.file.Fault(key, fmt.Sprintf("is %s, want keys and values", kindName(n)), "write lines of the form \"key: value\"; known keys: "+strings.Join(names(v.Type()), ", "))
		return
	}
	d.pairs(key, n, func(name string, k, item *yaml.Node) {
		field, ok := fieldNamed(v, name)
		if !ok {
			d.fault(k, join(key, name), "unknown key", suggest(name, names(v.Type())))
			return
		}
		d.value(join(key, name), item, field)
	})
}

// pairs walks a mapping's keys and values and refuses what YAML allows beyond
// plain, distinct names.
func (d *decoder) pairs(key string, n *yaml.Node, each func(name string, k, item *yaml.Node)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, item := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Tag == "!!merge" {
			d.fault(k, key, "a key that is not a plain name", "write \"key: value\"; merge keys (<<) are not supported")
			continue
		}
		path := join(key, k.Value)
		if first, ok := seen[k.Value]; ok {
			d.fault(k, path, fmt.Sprintf("is given twice, first in line %d", first), "remove one of the two")
			continue
		}
		seen[k.Value] = k.Line
		d.file.lines[path] = k.Line
		each(k.Value, k, item)
	}
}

// check calls every Checker below v, inner ones first.
func (d *decoder) check(key string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			d.check(key, v.Elem())
		}
		return
	case reflect.Struct:
		for i := range v.NumField() {
			if name, ok := tagName(v.Type().Field(i)); ok {
				d.check(join(key, name), v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			d.check(fmt.Sprintf("%s[%d]", key, i), v.Index(i))
		}
	}
	if v.CanAddr() {
		if c, ok := v.Addr().Interface().(Checker); ok {
			c.Check(&Report{file: d.file, at: key})
		}
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a table of keys and values"
	case yaml.SequenceNode:
		return "a list"
	}
	return fmt.Sprintf("the single value %q", n.Value)
}

func lastKey(key string) string { return key[strings.LastIndex(key, ".")+1:] }
