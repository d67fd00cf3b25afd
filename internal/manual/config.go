package manual

import (
	"regexp"
	"strings"
)

var (
	key    = regexp.MustCompile(`^([a-z][a-z0-9-]*):`)
	choice = regexp.MustCompile(`^ [a-z]+: `) // a value that is explained on a line of its own
)

// configPage is the configuration's page, in section 5: the commented file, setting
// by setting.
func (p Program) configPage() string {
	c := p.Config
	r := p.head(c.Name, 5, c.Usage)
	r.macro("SH", "SYNOPSIS")
	r.macro("B", c.Path)
	r.macro("SH", "DESCRIPTION")
	settings := false
	for block := range strings.SplitSeq(strings.TrimRight(c.Example, "\n"), "\n\n") {
		prose, keys, lines := takeApart(block)
		if len(keys) > 0 && !settings {
			settings = true
			r.macro("SH", "SETTINGS")
		}
		if len(keys) > 0 {
			r.macro("SS", strings.Join(keys, ", "))
		}
		r.prose(prose)
		if len(lines) > 0 {
			if len(prose) > 0 {
				r.macro("PP")
			}
			r.literal(lines)
		}
	}
	r.seeAlso(append([]string{p.App.Name + "(1)"}, p.SeeAlso...))
	return r.String()
}

// takeApart returns what a block of the file says before its settings, which settings
// it has, and their lines with all that follows.
func takeApart(block string) (prose, keys, lines []string) {
	for line := range strings.SplitSeq(block, "\n") {
		if comment, ok := strings.CutPrefix(line, "#"); ok && len(lines) == 0 {
			prose = append(prose, comment)
			continue
		}
		if m := key.FindStringSubmatch(line); m != nil {
			keys = append(keys, m[1])
		}
		lines = append(lines, line)
	}
	return prose, keys, lines
}

// prose writes comments: text, and what is indented as it stands.
func (r *roff) prose(comments []string) {
	var example []string
	end := func() {
		if len(example) > 0 {
			r.macro("PP")
			r.literal(example)
			example = nil
		}
	}
	for i, line := range comments {
		if strings.HasPrefix(line, "  ") {
			example = append(example, line)
			continue
		}
		if len(example) > 0 {
			end()
			r.macro("PP")
		}
		if i > 0 && choice.MatchString(line) {
			r.macro("br")
		}
		r.text(line)
	}
	end()
}
