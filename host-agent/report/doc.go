// Package report says how things stand: the document that a coordinator hands
// out on its status socket, the verdict that monitoring wants, and the table
// that people read. It decides nothing about guards.
//
// Trust: documents come from our own coordinators over a socket that only the
// host's operator reaches. Who answers may have been taken over: no text of theirs
// commands a terminal. They hold fingerprints; Shorten takes them out
// before anything is shown, unless the operator asks for them.
package report
