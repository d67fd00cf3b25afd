// Package sockpath checks the paths of unix sockets before the kernel does: its
// "invalid argument" says neither what nor where.
package sockpath

import "guardring/internal/hint"

// Max is how many bytes the path of a unix socket can have (unix(7): sun_path
// less its NUL).
const Max = 107

// Check says so if path is too long for a unix socket. The error comes with a
// hint and does not name the path.
func Check(path string) error {
	if len(path) > Max {
		return hint.Errorf("use a shorter directory", "socket path of %d bytes, at most %d are possible", len(path), Max)
	}
	return nil
}
