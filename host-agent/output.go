package main

import (
	"encoding/json"
	"io"
)

// writeJSON writes what --json asks for.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
