// Package version says which build a command is.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// stamp is set by the linker (Makefile); "" in a plain `go build`.
var stamp string

// String returns the version, the compiler and the machine, for `version`
// commands.
func String() string {
	v := stamp
	if info, ok := debug.ReadBuildInfo(); v == "" && ok {
		v = info.Main.Version
	}
	return fmt.Sprintf("%s %s %s/%s", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
