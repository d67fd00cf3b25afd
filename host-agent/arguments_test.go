package main

import (
	"slices"
	"strings"
	"testing"
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
		"guardring allow web --once --gateway a -- -b":  "guardring allow --once --gateway a -- web -b",
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
