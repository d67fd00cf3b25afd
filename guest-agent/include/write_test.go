package include

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestReadOnlyFolderNamesTheUnit(t *testing.T) {
	err := writeError(&os.PathError{Op: "open", Path: "/etc/tor/guardring/.x", Err: syscall.EROFS})
	if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "systemctl restart guardring-guest") {
		t.Error(err)
	}
	if err := writeError(syscall.ENOSPC); strings.Contains(err.Error(), "systemctl") {
		t.Error(err)
	}
}
