package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// writeJSON writes what --json asks for.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// plural is a number of things whose name makes its plural with an s.
func plural(n int, what string) string {
	return strings.TrimSuffix(fmt.Sprintf("%d %ss", n, what), map[bool]string{true: "s"}[n == 1])
}
