package iam

import "github.com/engineshed/engineshed/internal/secret/rotation"

// Sealed is where this package keeps what is sealed under the master key.
var Sealed = []rotation.Column{
	{Table: "access_key", Column: "secret_sealed", Key: []string{"id"}, Purpose: func(key []string) string { return SecretPurpose(key[0]) }},
	{Table: "sts_session", Column: "secret_sealed", Key: []string{"id"}, Purpose: func(key []string) string { return SessionPurpose(key[0]) }},
}
