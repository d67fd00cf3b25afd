// Package sockpath checks the paths of unix sockets before the kernel does: its
// "invalid argument" says neither what nor where.
package sockpath

import "fmt"

// Max is how many bytes the path of a unix socket can have (unix(7): sun_path
// less its NUL).
const Max = 107

// Check says so if path is too long for a unix socket. The error does not name
// the path.
func Check(path string) error {
	if len(path) > Max {
		return fmt.Errorf("socket path of %d bytes, at most %d are possible: use a shorter directory", len(path), Max)
	}
	return nil
}
