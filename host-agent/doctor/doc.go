// Package doctor judges a host: what was asked of server, coordinators and libvirt
// (Findings), and what it finds in the file system itself, as lines of pass, warn
// or fail with their remedies (package checkup). It changes nothing.
//
// Trust: the administrator's machine. What a guest wrote reaches it only as
// numbers in the coordinators' documents.
package doctor
