package hostvm

import (
	"fmt"
	"strings"
)

// Block is a fenced block of a page for administrators: a script, and what the page promises that it shows. The page's own comment says
// how blocks are marked.
type Block struct {
	// Kind is what follows "sh" in the first line: "" for the host, "gateway", "example" and so on.
	Kind string
	// Line is where its script begins in the page, from 1.
	Line int
	// Script is for sh -e.
	Script string
	// Shows are patterns of lines of its output, in order. Other lines may stand between them.
	Shows []string
	// Code is the exit code.
	Code int
}

// Blocks are the shell blocks of a page, from top to bottom, each with the block "text" that follows it, if one does.
func Blocks(page string) ([]Block, error) {
	var out []Block
	var promised *Block // whose output may come next
	info, inside := "", false
	var text strings.Builder
	n := 0
	for line := range strings.Lines(page) {
		n++
		marker, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && !inside:
			info, inside = marker, true
			text.Reset()
		case fence:
			inside = false
			kind, _, _ := strings.Cut(info, " ")
			switch kind {
			case "sh":
				begin := n - strings.Count(text.String(), "\n")
				out = append(out, Block{Kind: strings.TrimSpace(info[len("sh"):]), Line: begin, Script: text.String()})
				promised = &out[len(out)-1]
			case "text":
				if promised == nil {
					return nil, fmt.Errorf("line %d: output, and no script right before it", n)
				}
				promised.Shows = strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
				if info != kind {
					if _, err := fmt.Sscanf(info, "text ends with %d", &promised.Code); err != nil {
						return nil, fmt.Errorf("line %d: %q is neither text nor text ends with a number", n, info)
					}
				}
				promised = nil
			default:
				return nil, fmt.Errorf("line %d: a block of %q", n, info)
			}
		case inside:
			text.WriteString(line)
		case strings.TrimSpace(line) != "":
			promised = nil
		}
	}
	if inside {
		return nil, fmt.Errorf("line %d: a block without end", n)
	}
	return out, nil
}

// missing is the first pattern for which output has no line behind those of the patterns before it; "" if there is none.
// In a pattern "…" stands for anything, and spaces for any number of spaces.
func missing(output string, patterns []string) string {
	lines := strings.Split(output, "\n")
	for _, p := range patterns {
		i := 0
		for i < len(lines) && !like(lines[i], p) {
			i++
		}
		if i == len(lines) {
			return p
		}
		lines = lines[i+1:]
	}
	return ""
}

// like tells whether a line, spaces at its ends aside, is as a pattern says.
func like(line, pattern string) bool {
	line = strings.Join(strings.Fields(line), " ")
	parts := strings.Split(strings.Join(strings.Fields(pattern), " "), "…")
	if len(parts) == 1 {
		return line == parts[0]
	}
	line, ok := strings.CutPrefix(line, parts[0])
	if !ok {
		return false
	}
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		_, rest, found := strings.Cut(line, part)
		if !found {
			return false
		}
		line = rest
	}
	return strings.HasSuffix(line, last)
}
