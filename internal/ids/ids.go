// Package ids makes and checks the ids of resources: a known prefix, "-", 20 random characters of [0-9a-v].
package ids

import (
	"crypto/rand"
	"encoding/base32"
	"strings"
)

const (
	alphabet = "0123456789abcdefghijklmnopqrstuv"
	length   = 20
)

var encoding = base32.NewEncoding(alphabet).WithPadding(base32.NoPadding)

// The prefixes of the resources' ids.
const (
	DBInstance   = "gp"
	AINodePool   = "aipool"
	AINode       = "ai"
	ModelService = "ms"
	Replica      = "re"

	HTTPAPI           = "api"
	HTTPAPIRoute      = "hr"
	HTTPAPIRevision   = "apr"
	Gateway           = "gw"
	Environment       = "env"
	Domain            = "d"
	AIService         = "svc"
	Consumer          = "cs"
	ConsumerGroup     = "csg"
	AuthorizationRule = "car"
	ResourceGroup     = "rg"
)

// New returns a fresh id with the prefix: 100 random bits.
func New(prefix string) string {
	random := make([]byte, 13) // 13 bytes encode to 21 characters; 20 of them are kept
	_, _ = rand.Read(random)   // never fails since Go 1.24
	return prefix + "-" + encoding.EncodeToString(random)[:length]
}

// Valid reports whether id is well formed for the prefix. Check it before an id becomes part of an ARN.
func Valid(prefix, id string) bool {
	rest, ok := strings.CutPrefix(id, prefix+"-")
	return ok && len(rest) == length && strings.Trim(rest, alphabet) == ""
}
