package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestFlagsFirst(t *testing.T) {
	app := newApp()
	app.Setup()
	for in, want := range map[string]string{
		"guardring allow web --once":                    "guardring allow --once -- web",
		"guardring allow --once web":                    "guardring allow --once -- web",
		"guardring allow web -c x.yaml --once":          "guardring allow -c x.yaml --once -- web",
		"guardring allow web --config=x.yaml --once":    "guardring allow --config=x.yaml --once -- web",
		"guardring explain web --json --run-dir /x y":   "guardring explain --json --run-dir /x -- web y",
		"guardring explain --run-dir":                   "guardring explain --run-dir",
		"guardring replay -- --odd-name":                "guardring replay -- --odd-name",
		"guardring status extra --json":                 "guardring status extra --json",
		"guardring ledger show --ledger-dir /x":         "guardring ledger show --ledger-dir /x",
		"guardring xml patch web f.xml --iso /i --diff": "guardring xml patch --iso /i --diff -- web f.xml",
		"guardring xml":                                 "guardring xml",
		"guardring xml patch":                           "guardring xml patch",
		"guardring xml nonsense x --diff":               "guardring xml nonsense x --diff",
		"guardring":                                     "guardring",
		"guardring nonsense x --once":                   "guardring nonsense x --once",
		"guardring allow web --once --run-dir a -- -b":  "guardring allow --once --run-dir a -- web -b",
	} {
		if got := strings.Join(flagsFirst(app, strings.Fields(in)), " "); got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
	}
}

// TestEveryCommandRefusesStrayArguments: but those that take some.
func TestEveryCommandRefusesStrayArguments(t *testing.T) {
	for _, cmd := range newApp().Commands {
		if cmd.Action == nil || cmd.ArgsUsage != "" {
			continue
		}
		err := newApp().Run(slices.Concat([]string{program, cmd.Name}, []string{"stray"}))
		if err == nil || !strings.Contains(err.Error(), `unexpected argument "stray"`) {
			t.Errorf("%s: %v", cmd.Name, err)
		}
	}
}

// TestSettingsOfEachCommand: a setting that a command would not look at is
// refused, so that nobody thinks that it counts.
func TestSettingsOfEachCommand(t *testing.T) {
	takes := map[string][]string{ // besides config
		"run": everySetting, "check-config": everySetting,
		"serve": {"run-dir", "gateway"}, "coordinate": {"run-dir", "ledger-dir", "policy", "heartbeat", "show-fingerprints"},
		"status": {"run-dir", "show-fingerprints"}, "explain": {"run-dir", "show-fingerprints"}, "replay": {"run-dir", "show-fingerprints"},
		"allow": {"run-dir"}, "doctor": {"run-dir", "ledger-dir"}, "agent-image": {}, "ledger show": {"ledger-dir"}, "ledger rebuild": {"ledger-dir"},
	}
	for _, verb := range []string{"create", "attach", "detach", "remove", "list", "reload"} {
		takes["gateway "+verb] = []string{"run-dir"}
	}
	for _, verb := range []string{"show", "install", "check"} {
		takes["apparmor "+verb] = []string{"run-dir", "ledger-dir"}
	}
	for _, verb := range []string{"print", "install", "run"} {
		takes["hook "+verb] = []string{"run-dir"}
	}
	seen := 0
	var visit func(path string, cmd *cli.Command)
	visit = func(path string, cmd *cli.Command) {
		for _, sub := range cmd.Subcommands {
			visit(path+" "+sub.Name, sub)
		}
		var has []string
		for _, f := range cmd.Flags {
			has = append(has, f.Names()...)
		}
		want, known := takes[path]
		if !known {
			if slices.Contains(has, "config") {
				t.Errorf("%s reads the configuration: which settings does it look at?", path)
			}
			return
		}
		seen++
		for _, name := range everySetting {
			if slices.Contains(has, name) != slices.Contains(want, name) {
				t.Errorf("%s: --%s is there: %t", path, name, slices.Contains(has, name))
			}
		}
	}
	for _, cmd := range newApp().Commands {
		visit(cmd.Name, cmd)
	}
	if seen != len(takes) {
		t.Errorf("%d of %d commands are there", seen, len(takes))
	}
}

// TestPassOn: what run was given reaches the process that looks at it.
func TestPassOn(t *testing.T) {
	var got [2]string
	app := newApp()
	app.Command("run").Action = func(c *cli.Context) error {
		got = [2]string{strings.Join(passOn(c, serveSettings), " "), strings.Join(passOn(c, coordinateSettings), " ")}
		return nil
	}
	err := app.Run(strings.Fields("guardring run -c x.yaml --gateway a --gateway b --policy disjoint --show-fingerprints --run-dir /r --ledger-dir /l --heartbeat 1s"))
	want := [2]string{"--config=x.yaml --run-dir=/r --gateway=a --gateway=b", "--config=x.yaml --run-dir=/r --ledger-dir=/l --policy=disjoint --heartbeat=1s --show-fingerprints=true"}
	if err != nil || got != want {
		t.Errorf("%v %q", err, got)
	}
}

// TestOneDefault: the help says a default once, and no zero that is none.
func TestOneDefault(t *testing.T) {
	app := newApp()
	app.Setup()
	out := &strings.Builder{}
	app.Writer = out
	if err := app.Run(strings.Fields("guardring gateway create --help")); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if strings.Count(line, "default: ") > 1 || strings.Contains(line, "(default: 0)") {
			t.Error(line)
		}
	}
	if !strings.Contains(out.String(), "in MIB (default: 512)") {
		t.Error(out)
	}
}
