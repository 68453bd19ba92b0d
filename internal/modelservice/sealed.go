package modelservice

import "github.com/engineshed/engineshed/internal/secret/rotation"

// Sealed is where this package keeps what is sealed under the master key.
var Sealed = []rotation.Column{
	{Table: "model_service", Column: "api_key_sealed", Key: []string{"id"}, Purpose: func(key []string) string { return apiKeyPurpose(key[0]) }},
	{Table: "replica", Column: "engine_key_sealed", Key: []string{"id"}, Purpose: func(key []string) string { return engineKeyPurpose(key[0]) }},
}
