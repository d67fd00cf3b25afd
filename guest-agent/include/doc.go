// Package include keeps guardring's include file and the one line in the user's
// Tor configuration that names it.
//
// Join prepares a Tor, Leave restores it byte for byte, Inspect tells whether
// Tor would read the file, and first. Write replaces the file's content. Both
// Join and Leave can be interrupted anywhere and run again.
//
// Trust: the files are root's or Tor's, and the user edits them with other
// programs. They are read once with a limit, the copy is checked and used;
// nothing that the user wrote is lost.
package include
