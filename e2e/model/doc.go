// Package model checks the Promela models of docs/model with spin: each holds its
// properties in every configuration that docs/model/README.md states, and each
// mutant, a model with one rule disabled, breaks a named one of them. It also takes
// rules out of the Go code itself, and has the seeded simulation of the coordinators
// find that.
//
// It trusts spin, the C compiler and go test.
package model
