package torctl

import (
	"fmt"
	"strings"

	"github.com/cretz/bine/control"
)

// Line is one line of a reply, without the status code.
type Line struct {
	Text string // for GETINFO and GETCONF "key=value"
	Data string // the lines of a data reply ("250+key="), separated by "\n"; empty for other lines
}

// Reply is Tor's answer to one request, or one event.
type Reply struct {
	Code  int // 250: done
	Lines []Line
}

// Text joins the reply's first lines, for messages.
func (r Reply) Text() string {
	if len(r.Lines) == 0 {
		return ""
	}
	return r.Lines[len(r.Lines)-1].Text
}

// Values lists the values of key in the order in which they came, as GETINFO
// (one) and GETCONF (one per line of the option) give them. Keys are compared
// without case. A key without "=" is Tor's sign for "unset" and is left out.
func (r Reply) Values(key string) []string {
	var values []string
	for _, l := range r.Lines {
		k, v, ok := strings.Cut(l.Text, "=")
		if !ok || !strings.EqualFold(k, key) {
			continue
		}
		if l.Data != "" {
			v = l.Data
		}
		values = append(values, v)
	}
	return values
}

// Error is Tor's refusal of a request.
type Error struct {
	Command string // the request's first word
	Code    int    // control-spec's status code, for instance 513
	Text    string // Tor's words
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("tor refused %s: %d %s", e.Command, e.Code, e.Text)
}

// fromBine copies what bine read.
func fromBine(resp *control.Response) Reply {
	r := Reply{Code: resp.Err.Code, Lines: make([]Line, 0, len(resp.Data)+1)}
	for _, d := range resp.Data {
		// bine joins a data line's key and its body with CRLF.
		text, data, _ := strings.Cut(d, "\r\n")
		r.Lines = append(r.Lines, Line{Text: text, Data: data})
	}
	r.Lines = append(r.Lines, Line{Text: resp.Reply})
	return r
}
