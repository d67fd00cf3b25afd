package manual

import (
	"fmt"
	"strings"
)

// The completions know commands and options; where they know nothing, the shell
// offers files.

func (c command) words() []string {
	var words []string
	for _, s := range c.subs {
		words = append(words, s.path[len(s.path)-1])
	}
	for _, o := range c.flags {
		words = append(words, o.names...)
	}
	return words
}

// at is how the scripts call a command: " ledger show", "" for the program.
func (c command) at() string {
	if len(c.path) == 0 {
		return ""
	}
	return " " + strings.Join(c.path, " ")
}

// quote is s as one word of a shell: bash, zsh and fish.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// finder is the loop, the same in bash and zsh, that finds in the words before the
// cursor which command they name.
func finder(t command, array, first, cursor string) string {
	var names, values []string
	t.walk(func(c command) {
		if len(c.path) > 0 {
			names = append(names, quote(c.at()))
		}
		for _, o := range c.flags {
			for _, n := range o.names {
				if o.value != "" {
					values = append(values, quote(c.at()+" "+n))
				}
			}
		}
	})
	var b strings.Builder
	fmt.Fprintf(&b, "\tlocal at= takes= word i\n\tfor ((i = %s; i < %s; i++)); do\n\t\tword=${%s[i]}\n", first, cursor, array)
	b.WriteString("\t\tif [[ -n $takes ]]; then takes=; continue; fi\n\t\tcase \"$at $word\" in\n")
	fmt.Fprintf(&b, "\t\t%s) at=\"$at $word\" ;;\n", strings.Join(names, "|"))
	if len(values) > 0 {
		fmt.Fprintf(&b, "\t\t%s) takes=1 ;;\n", strings.Join(values, "|"))
	}
	b.WriteString("\t\tesac\n\tdone\n")
	return b.String()
}

func bash(name string, t command) string {
	function := "_" + strings.ReplaceAll(name, "-", "_")
	var b strings.Builder
	fmt.Fprintf(&b, "# bash completion of %s; made by \"%s manual\"\n%s() {\n", name, name, function)
	b.WriteString(finder(t, "COMP_WORDS", "1", "COMP_CWORD"))
	b.WriteString("\tCOMPREPLY=()\n\tif [[ -n $takes ]]; then return; fi\n\tcase $at in\n")
	t.walk(func(c command) {
		fmt.Fprintf(&b, "\t%s) word=%s ;;\n", quote(c.at()), quote(strings.Join(c.words(), " ")))
	})
	b.WriteString("\tesac\n\tmapfile -t COMPREPLY < <(compgen -W \"$word\" -- \"${COMP_WORDS[COMP_CWORD]}\")\n}\n")
	fmt.Fprintf(&b, "complete -o default -F %s %s\n", function, name)
	return b.String()
}

func zsh(name string, t command) string {
	function := "_" + name
	var b strings.Builder
	fmt.Fprintf(&b, "#compdef %s\n# made by \"%s manual\"\n%s() {\n", name, name, function)
	b.WriteString(finder(t, "words", "2", "CURRENT"))
	b.WriteString("\tlocal -a commands options\n\tif [[ -n $takes ]]; then _files; return; fi\n\tcase $at in\n")
	t.walk(func(c command) {
		fmt.Fprintf(&b, "\t%s)", quote(c.at()))
		if len(c.subs) > 0 {
			b.WriteString(" commands=(")
			for _, s := range c.subs {
				b.WriteString(" " + quote(s.path[len(s.path)-1]+":"+s.usage))
			}
			b.WriteString(" );")
		}
		b.WriteString(" options=(")
		for _, o := range c.flags {
			for _, n := range o.names {
				b.WriteString(" " + quote(n+":"+o.usage))
			}
		}
		b.WriteString(" ) ;;\n")
	})
	b.WriteString("\tesac\n\tif [[ ${words[CURRENT]} == -* ]]; then _describe option options\n" +
		"\telif ((${#commands})); then _describe command commands\n\telse _files; fi\n}\n")
	fmt.Fprintf(&b, "%s \"$@\"\n", function)
	return b.String()
}

func fish(name string, t command) string {
	function := "__" + strings.ReplaceAll(name, "-", "_") + "_at"
	var b strings.Builder
	fmt.Fprintf(&b, "# fish completion of %s; made by \"%s manual\"\n", name, name)
	// Which command do the words before the cursor name?
	fmt.Fprintf(&b, "function %s\n\tset -l at ''\n\tset -l takes 0\n\tfor word in (commandline -opc)[2..]\n\t\tif test $takes = 1\n\t\t\tset takes 0\n\t\t\tcontinue\n\t\tend\n\t\tswitch \"$at $word\"\n", function)
	t.walk(func(c command) {
		if len(c.path) > 0 {
			fmt.Fprintf(&b, "\t\t\tcase %s\n\t\t\t\tset at \"$at $word\"\n", quote(c.at()))
		}
		for _, o := range c.flags {
			for _, n := range o.names {
				if o.value != "" {
					fmt.Fprintf(&b, "\t\t\tcase %s\n\t\t\t\tset takes 1\n", quote(c.at()+" "+n))
				}
			}
		}
	})
	b.WriteString("\t\tend\n\tend\n\ttest \"$at\" = \"$argv[1]\"\nend\n")
	t.walk(func(c command) {
		when := fmt.Sprintf("complete -c %s -n %s", name, quote(function+" "+`"`+c.at()+`"`))
		for _, s := range c.subs {
			fmt.Fprintf(&b, "%s -f -a %s -d %s\n", when, s.path[len(s.path)-1], quote(s.usage))
		}
		for _, o := range c.flags {
			b.WriteString(when)
			for _, n := range o.names {
				if long, ok := strings.CutPrefix(n, "--"); ok {
					b.WriteString(" -l " + long)
				} else {
					b.WriteString(" -s " + strings.TrimPrefix(n, "-"))
				}
			}
			if o.value != "" {
				b.WriteString(" -r")
			}
			fmt.Fprintf(&b, " -d %s\n", quote(o.usage))
		}
	})
	return b.String()
}
