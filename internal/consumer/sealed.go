package consumer

import "github.com/engineshed/engineshed/internal/secret/rotation"

// Sealed is where this package keeps what is sealed under the master key.
var Sealed = []rotation.Column{
	{Table: "consumer_key", Column: "key_sealed", Key: []string{"consumer_id"}, Purpose: func(key []string) string { return keyPurpose(key[0]) }},
	{Table: "consumer_token", Column: "keys_sealed", Key: []string{"consumer_id"}, Purpose: func(key []string) string { return tokenPurpose(key[0]) }},
	{Table: "consumer_access_key", Column: "secret_sealed", Key: []string{"consumer_id", "id"}, Purpose: func(key []string) string { return accessKeyPurpose(key[0], key[1]) }},
}
