// Package fresh gives a clone's Tor a new guard sample, once, while that Tor is
// stopped: it takes the Guard lines of the selections default and restricted out
// of the state file, and our exclusions, which name guards of the old sample, out
// of the include file. Everything else in both stays byte for byte.
//
// Guard lines of the selection "bridges" stay: the user's Bridge lines decide
// which bridges there are, so a new sample would be of the same ones, and Tor
// would only forget which of them work.
//
// Order of effects: backup, mark, state file, include file. Each file is replaced
// whole. Killed anywhere, the command does the rest when it is run again: a
// sample that shares a guard and its date of sampling with the backup is the old
// one. A Tor that was started in between has a new sample already, with old
// exclusions at most, which the host lifts.
//
// Trust: the files are root's and Tor's own; a damaged state file is refused and
// left alone. Tor holds an flock on DataDirectory/lock while it runs, and takes
// the same one before it reads its state; so whoever holds it has the state file
// for himself.
package fresh
