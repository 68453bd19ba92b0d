package iam

import "io/fs"

// WithSystem is the Store of a program with other system policies.
func (s *Store) WithSystem(system fs.FS) *Store {
	other := *s
	other.system = system
	return &other
}

// SpendNonces is the statement of Spend.
const SpendNonces = spendNonces
