package apparmor

import "strings"

// Rule is a line of a profile that grants or denies something, or includes what does.
type Rule struct {
	// Rule is the line as it stands in the file, without the space around it.
	Rule string `json:"rule"`
	// Why is the comment above it or above its neighbours, in one line.
	Why string `json:"why"`
}

// Rules returns the rules of one of our files and why each is there. A comment is
// about the lines below it, up to a line that is empty or the next comment.
func Rules(text string) []Rule {
	var all []Rule
	why, open := "", false // open: the comment's last line was just read
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		comment, is := strings.CutPrefix(line, "#")
		switch {
		case is && open:
			why += " " + strings.TrimSpace(comment)
		case is:
			why, open = strings.TrimSpace(comment), true
		case line == "":
			why, open = "", false
		case line == "}" || strings.HasPrefix(line, "abi ") || strings.HasSuffix(line, "{"):
			open = false
		case strings.HasPrefix(line, "include <tunables/"):
			open = false
		default:
			open = false
			all = append(all, Rule{line, why})
		}
	}
	return all
}
