// Package model checks the Promela models of docs/model with spin: each holds its
// properties in every configuration that docs/model/README.md states, and each
// mutant, a model with one rule disabled, breaks a named one of them.
//
// It trusts spin and the C compiler. What stands behind each rule in the code is
// in docs/model/README.md; nothing here runs our code.
package model
