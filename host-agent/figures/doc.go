// Package figures shows the results of a simulation to people: as a table for a
// terminal, and as a chart (SVG) for a page.
//
// Trust: a Result is our own; only the network's name in it comes from a file,
// and that is a date.
package figures
