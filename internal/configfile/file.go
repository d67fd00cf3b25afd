package configfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxSize is the largest file that is read, in bytes.
const MaxSize = 1 << 20

// Checker is implemented by configuration structs (on the pointer) whose values
// need more than a type. It is called for every such struct of the file after
// decoding, inner ones first, also when there were faults already: a check must
// cope with defaults in the place of a faulty value.
type Checker interface {
	Check(r *Report)
}

// Report collects the faults that a Checker finds. Keys are relative to the
// struct being checked.
type Report struct {
	file *File
	at   string
}

// Fault reports that the value of key is wrong. The line is the key's, or its
// nearest parent's that the file contains. A key whose value was faulty already
// is not reported twice.
func (r *Report) Fault(key, problem, remedy string) { r.file.Fault(join(r.at, key), problem, remedy) }

// Set reports whether the file gives key a value (which may equal the default).
func (r *Report) Set(key string) bool { return r.file.Set(join(r.at, key)) }

// File is one file that was read, with the lines of its keys, so that faults
// found later (across files, or by what the machine says) still name a line.
type File struct {
	name   string
	lines  map[string]int
	faults Faults
}

// Load reads the file into cfg, a pointer to a struct that holds the defaults.
// A file that cannot be read is a Fault as well. The error is a Faults.
func Load(path string, cfg any) error { return Join(Open(path, cfg)) }

// Parse is Load for a file that is in memory already; name stands in its
// faults.
func Parse(name string, data []byte, cfg any) error { return Join(Decode(name, data, cfg)) }

// Open is Load for callers that check further before they report: it returns
// the file with the faults found so far.
func Open(path string, cfg any) *File {
	data, err := read(path)
	if err == nil {
		return Decode(path, data, cfg)
	}
	f := &File{name: path, lines: map[string]int{}}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err // the path is in the fault already
	}
	remedy := "give the right path"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		remedy = "create it, for instance from example-config, or give the right path"
	case errors.Is(err, fs.ErrPermission):
		remedy = "run as a user that may read it"
	}
	f.Fault("", err.Error(), remedy)
	return f
}

func read(path string) ([]byte, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("larger than %d bytes", MaxSize)
	}
	return data, nil
}

// Decode is Open for a file that is in memory already.
func Decode(name string, data []byte, cfg any) *File {
	f := &File{name: name, lines: map[string]int{}}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		doc = yaml.Node{} // empty: every default stands
	case err != nil:
		f.syntax(err)
		return f
	default:
		if err := dec.Decode(&second); err == nil {
			f.add(second.Line, "", "a second YAML document starts here", "remove the line \"---\"")
		} else if !errors.Is(err, io.EOF) {
			f.syntax(err)
		}
	}
	d := decoder{file: f}
	d.document(&doc, cfg)
	return f
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntax turns the YAML parser's error into a fault; it stops at the first.
func (f *File) syntax(err error) {
	text, line := err.Error(), 0
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		line, _ = strconv.Atoi(m[1])
	}
	remedy := "correct the YAML; nothing after this line was looked at"
	switch {
	case strings.Contains(text, "tab character"):
		remedy = "indent with spaces, not tabs"
	case strings.Contains(text, "cannot start any token"):
		remedy = "quote values that start with a special character"
	}
	f.add(line, "", text, remedy)
}

// Name returns the file's name as the caller gave it.
func (f *File) Name() string { return f.name }

// Set reports whether the file gives key a value.
func (f *File) Set(key string) bool { _, ok := f.lines[key]; return ok }

// Line returns the line of key, or of its nearest parent that the file
// contains, 0 when there is none.
func (f *File) Line(key string) int {
	for key != "" {
		if n, ok := f.lines[key]; ok {
			return n
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return f.lines[""]
}

// Fault adds a fault at the line of key, unless key has one already.
func (f *File) Fault(key, problem, remedy string) {
	for _, old := range f.faults {
		if key != "" && old.Key == key {
			return
		}
	}
	f.add(f.Line(key), key, problem, remedy)
}

func (f *File) add(line int, key, problem, remedy string) {
	f.faults = append(f.faults, &Fault{File: f.name, Line: line, Key: key, Problem: problem, Remedy: remedy})
}

func join(parent, key string) string {
	switch {
	case parent == "":
		return key
	case key == "":
		return parent
	case key[0] == '[':
		return parent + key
	}
	return parent + "." + key
}
