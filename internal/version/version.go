// Package version says which build a command is.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// stamp is set by the linker (Makefile); "" in a plain `go build`.
var stamp string

// Short returns the version alone.
func Short() string {
	if info, ok := debug.ReadBuildInfo(); stamp == "" && ok {
		return info.Main.Version
	}
	return stamp
}

// String returns the version, the compiler and the machine, for `version`
// commands.
func String() string {
	return fmt.Sprintf("%s %s %s/%s", Short(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
