package hint

import (
	"errors"
	"fmt"
	"io"
)

// Exit is the error with which a command says that all was said already, for
// instance by a report, and that only the exit code is missing.
type Exit struct{ Code int }

func (e Exit) Error() string { return fmt.Sprintf("exit code %d", e.Code) }

// End returns the code to exit with when a command has ended with err: 0 without an
// error, that of an Exit in err's tree, else 1, after err was printed as Print does.
func End(w io.Writer, program string, err error) int {
	var e Exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.Code
	}
	Print(w, program, err)
	return 1
}
