// Package killpoint lets end-to-end tests end one of our processes with SIGKILL
// at a named step, or stop it there. In a normal build Here does nothing and costs
// nothing; with the build tag "killpoints" it kills the process when the environment
// variable GUARDRING_KILL_AT names the step, and stops it, once, when
// GUARDRING_STOP_AT does.
//
// Trust: the environment is the operator's. Shipped binaries are built without
// the tag.
package killpoint
