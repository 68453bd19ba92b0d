// Package migrations holds the schema as numbered SQL, and the rights that the two programs have on it.
package migrations

import "embed"

// FS holds the goose migrations.
//
//go:embed 0*.sql
var FS embed.FS

// Grants gives the control and the gateway role exactly what they need. The owner runs it after the migrations;
// running it again changes nothing.
//
//go:embed grants.sql
var Grants string
