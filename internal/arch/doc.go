// Package arch holds the tests that keep the rules between packages, and say why they are rules.
package arch
