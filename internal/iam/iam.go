// Package iam keeps accounts, users, access keys, policies and attachments, and applies the policy files to them.
package iam

import (
	"io/fs"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/policies"
)

// Store reads and writes identities in the database. What one Store commits is in force for every Store of the same
// database at the next call: keys and policy epochs are read from the tables each time. It is safe for concurrent use.
type Store struct {
	db        *pgxpool.Pool
	box       *secret.Box
	system    fs.FS
	newID     func(digit string) string
	spendings *postgres.Together[spending, outcome]
}

// New returns a Store on db, a pool of the control role. box seals and opens the secrets of access keys.
func New(db *pgxpool.Pool, box *secret.Box) *Store {
	s := &Store{db: db, box: box, system: policies.System(), newID: newID}
	s.spendings = postgres.NewTogether(s.spend)
	return s
}
