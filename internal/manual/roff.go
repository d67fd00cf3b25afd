package manual

import (
	"fmt"
	"strings"
)

// roff is a manual page that is being written, in the macros of man(7).
type roff struct{ strings.Builder }

// escape makes text of s: nothing in it is a request or an escape. A dash stays the
// dash that can be copied into a shell.
func escape(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

// quoted is s as one argument of a macro.
func quoted(s string) string { return `"` + strings.ReplaceAll(escape(s), `"`, `\(dq`) + `"` }

func (r *roff) macro(name string, args ...string) {
	r.WriteString("." + name)
	for _, a := range args {
		r.WriteString(" " + quoted(a))
	}
	r.WriteString("\n")
}

// text writes lines that are filled into one paragraph.
func (r *roff) text(s string) {
	for line := range strings.Lines(s) {
		r.WriteString(escape(strings.TrimSpace(line)) + "\n")
	}
}

// literal writes lines as they are.
func (r *roff) literal(lines []string) {
	r.macro("nf")
	for _, line := range lines {
		if line == "" {
			r.WriteString(`\&` + "\n") // an empty line would be a fault
			continue
		}
		r.WriteString(escape(line) + "\n")
	}
	r.macro("fi")
}

func (r *roff) items(title string, items []Item) {
	if len(items) == 0 {
		return
	}
	r.macro("SH", title)
	for _, i := range items {
		r.macro("TP")
		r.macro("B", i.Name)
		r.text(i.Text)
	}
}

func (p Program) head(name string, section int, usage string) *roff {
	r := &roff{}
	r.WriteString(`.\" made by "` + p.App.Name + ` manual" from the definitions of its commands` + "\n")
	// The date is read by formatters: its dashes stay as they are.
	fmt.Fprintf(r, ".TH %s %d %q %s %s\n", quoted(name), section, p.Date, quoted(strings.TrimSpace("guardring "+p.Version)), quoted("guardring"))
	r.macro("SH", "NAME")
	r.WriteString(escape(name) + ` \- ` + escape(usage) + "\n")
	return r
}

func (r *roff) seeAlso(pages []string) {
	r.macro("SH", "SEE ALSO")
	for i, page := range pages {
		name, section, _ := strings.Cut(page, "(")
		end := ","
		if i == len(pages)-1 {
			end = ""
		}
		r.WriteString(".BR " + quoted(name) + " " + quoted("("+section+end) + "\n")
	}
}

// page is the program's page, in section 1.
func (p Program) page(t command) string {
	r := p.head(p.App.Name, 1, p.App.Usage)
	r.macro("SH", "SYNOPSIS")
	r.synopsis(p.App.Name, t)
	r.macro("SH", "DESCRIPTION")
	for i, paragraph := range p.Description {
		if i > 0 {
			r.macro("PP")
		}
		r.text(paragraph)
	}
	r.macro("SH", "COMMANDS")
	t.walk(func(c command) {
		if len(c.path) == 0 {
			return
		}
		r.macro("SS", strings.Join(c.path, " "))
		r.synopsis(p.App.Name, c)
		r.macro("PP")
		r.text(c.usage)
		for _, o := range c.flags {
			if o.names[0] == help.names[0] {
				continue // each has it: said once
			}
			r.macro("TP")
			r.macro("B", o.heading())
			r.text(o.usage)
		}
	})
	r.macro("PP")
	r.text(fmt.Sprintf("After any command, %s: %s.", strings.Join(help.names, " or "), help.usage))
	r.items("FILES", p.Files)
	r.items("EXIT STATUS", p.Exit)
	r.seeAlso(append([]string{p.Config.Name + "(5)"}, p.SeeAlso...))
	return r.String()
}

func (o option) heading() string {
	h := strings.Join(o.names, ", ")
	if o.value != "" {
		h += " " + o.value
	}
	return h
}

func (r *roff) synopsis(program string, c command) {
	r.macro("B", strings.Join(append([]string{program}, c.path...), " "))
	rest := "[OPTION...]"
	if len(c.subs) > 0 {
		rest = "COMMAND [OPTION...]"
	}
	r.text(strings.TrimSpace(rest + " " + c.args))
}
