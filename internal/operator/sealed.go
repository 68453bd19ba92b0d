package operator

import "github.com/engineshed/engineshed/internal/secret/rotation"

// Sealed is where this package keeps what is sealed under the master key.
var Sealed = []rotation.Column{
	{Table: "operator_key", Column: "key_sealed", Key: []string{"id"}, Purpose: func(key []string) string { return keyPurpose(key[0]) }},
}
