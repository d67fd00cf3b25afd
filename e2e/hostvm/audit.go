package hostvm

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

const auditFile = "/var/log/audit/audit.log"

// Mark is a place in the audit log; "" is its beginning.
type Mark string

// Record is a line of the audit log (auparse(5)).
type Record struct {
	// Type is the record's, such as AVC for what AppArmor says.
	Type string
	// Fields are its values by name, decoded: apparmor, operation, profile, name, requested_mask, denied_mask, comm, info, ...
	Fields map[string]string
	// Text is the line.
	Text string
}

func (r Record) String() string { return r.Text }

// Mark writes a record of its own into the audit log and waits until it is in the file: all that happened before stands before it.
func (h *Host) Mark(ctx context.Context) (Mark, error) {
	m := Mark(fmt.Sprintf("hostvm-%x", time.Now().UnixNano()))
	if _, err := h.Run(ctx, "auditctl -m "+string(m)); err != nil {
		return "", err
	}
	return m, h.Await(ctx, "a record in the audit log", "grep -q "+string(m)+" "+auditFile)
}

// AppArmor returns what AppArmor has said since the mark: denied, allowed in complain mode, profiles loaded.
func (h *Host) AppArmor(ctx context.Context, since Mark) ([]Record, error) {
	if _, err := h.Mark(ctx); err != nil {
		return nil, err
	}
	out, err := h.Run(ctx, fmt.Sprintf(`sed -n '/%s/,$p' %s | grep apparmor= || true`, cmp.Or(since, "^"), auditFile))
	if err != nil {
		return nil, err
	}
	var all []Record
	for line := range strings.Lines(out) {
		all = append(all, parseRecord(strings.TrimSpace(line)))
	}
	return all, nil
}

// Denials returns what AppArmor has denied since the mark, in the order in which it did.
func (h *Host) Denials(ctx context.Context, since Mark) ([]Record, error) {
	all, err := h.AppArmor(ctx, since)
	var denied []Record
	for _, r := range all {
		if r.Fields["apparmor"] == "DENIED" {
			denied = append(denied, r)
		}
	}
	return denied, err
}

// inHex are the fields whose values are hexadecimal where they hold what would confuse a reader, instead of being quoted.
var inHex = map[string]bool{"name": true, "comm": true, "profile": true, "target": true, "peer": true, "addr": true, "peer_addr": true}

// ends are what stands behind a value without quotes: a space, 0x1d before what auditd has translated, a single quote around what a program says.
const ends = " \x1d'"

// parseRecord takes a line apart into NAME=VALUE and NAME="VALUE WITH SPACES".
func parseRecord(line string) Record {
	r := Record{Text: line, Fields: map[string]string{}}
	for rest := line; ; {
		name, after, ok := strings.Cut(rest, "=")
		if !ok {
			return r
		}
		if i := strings.LastIndexAny(name, ends); i >= 0 {
			name = name[i+1:]
		}
		var value string
		if quoted, found := strings.CutPrefix(after, `"`); found {
			value, rest, _ = strings.Cut(quoted, `"`)
		} else {
			i := strings.IndexAny(after, ends)
			if i < 0 {
				i = len(after)
			}
			value, rest = after[:i], after[i:]
			if b, err := hex.DecodeString(value); inHex[name] && err == nil {
				value = string(b)
			}
		}
		if name == "type" && r.Type == "" {
			r.Type = value
		}
		r.Fields[name] = value
	}
}
