// Package journal keeps what a coordinator did, in files below the run directory
// (/run, so in memory): the journal, from which every decision can be replayed,
// and for each gateway the history of what was decided about it.
//
// Both are bounded and neither is needed for anything but looking back: when they
// cannot be written, coordination goes on. A process that is killed at any moment
// leaves readable files: a file appears whole under its name with its first line,
// each further line is one write, and readers drop a last line that has no end.
//
// Trust: only the coordinators and the operator have access (mode 0700 and 0600,
// below RUN/host). Lines hold fingerprints. What a gateway can cause to be
// written is bounded per gateway by the runner.
package journal
