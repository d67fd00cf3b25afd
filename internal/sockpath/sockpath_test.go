package sockpath

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheKernelAgrees binds a socket with the longest path, and sees the kernel
// refuse one byte more.
func TestTheKernelAgrees(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, more := range []int{0, 1} {
		// Relative, because the temporary directory's own path counts.
		path := filepath.Join(".", strings.Repeat("a", Max+more))
		l, err := net.Listen("unix", path)
		if err == nil {
			_ = l.Close()
		}
		if (err == nil) != (Check(path) == nil) || (err == nil) != (more == 0) {
			t.Errorf("%d bytes: the kernel says %v, we say %v", len(path), err, Check(path))
		}
	}
}
