package include

import "strings"

// parseLines splits a configuration text as Tor's parse_config_line_from_str
// does: comments, continued lines, keys of any case. Quoted values keep their
// quotes; nothing here looks into them.
func parseLines(file, text string) []line {
	text = strings.ReplaceAll(text, "\r\n", "\n") // as Tor does when it reads a file
	var out []line
	number, counted := 1, 0
	for at := 0; ; {
		for at < len(text) && (isSpace(text[at]) || text[at] == '#') {
			if text[at] == '#' {
				at = lineEnd(text, at)
			} else {
				at++
			}
		}
		if at == len(text) {
			return out
		}
		number, counted = number+strings.Count(text[counted:at], "\n"), at
		end := at
		for end < len(text) && !isSpace(text[end]) && text[end] != '#' && !continues(text, end) {
			end++
		}
		key := strings.ToLower(strings.TrimLeft(text[at:end], "+/"))
		for end < len(text) && (text[end] == ' ' || text[end] == '\t') {
			end++
		}
		var value string
		value, at = parseValue(text, end)
		out = append(out, line{file, number, key, value})
	}
}

// parseValue returns the value that begins at a place, and where its line ends.
// In a continued line a comment ends where its own line ends, and the value goes on
// behind it, whether that line ends in a backslash or not; in any other line the
// value ends with the comment, and a backslash behind it is part of that.
func parseValue(text string, at int) (string, int) {
	if strings.HasPrefix(text[at:], `"`) {
		end := at + 1
		for end < len(text) && text[end] != '"' && text[end] != '\n' {
			if text[end] == '\\' && end+1 < len(text) && text[end+1] != '\n' {
				end++
			}
			end++
		}
		if end < len(text) && text[end] == '"' {
			end++
		}
		return text[at:end], lineEnd(text, end) // Tor allows only a comment behind it
	}
	var value strings.Builder
	continued := false
	for at < len(text) && text[at] != '\n' {
		switch {
		case continues(text, at):
			continued = true
			at += len("\\\n")
		case text[at] != '#':
			value.WriteByte(text[at])
			at++
		case continued:
			at = min(lineEnd(text, at)+1, len(text))
		default:
			at = lineEnd(text, at)
		}
	}
	return strings.TrimSpace(value.String()), at
}

// lineEnd is where the line's newline is, or the text ends.
func lineEnd(text string, at int) int {
	if n := strings.IndexByte(text[at:], '\n'); n >= 0 {
		return at + n
	}
	return len(text)
}

func continues(text string, at int) bool { return strings.HasPrefix(text[at:], "\\\n") }

// isSpace is Tor's TOR_ISSPACE.
func isSpace(c byte) bool { return strings.IndexByte(" \t\n\r\v\f", c) >= 0 }
