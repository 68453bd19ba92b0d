package aiservice

import "github.com/engineshed/engineshed/internal/secret/rotation"

// Sealed is where this package keeps what is sealed under the master key.
var Sealed = []rotation.Column{
	{Table: "ai_service", Column: "api_keys_sealed", List: true, Key: []string{"id"}, Purpose: func(key []string) string { return keyPurpose(key[0]) }},
}
