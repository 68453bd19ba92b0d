package snapshot

import (
	"crypto/sha256"
	"fmt"
	"strconv"
)

// KindOperatorKey is the kind of a published OperatorKey in published_item.
const KindOperatorKey = "operator_key"

// OperatorKey is a ModelOperator key as a gateway sees it: it opens every model service of its account.
type OperatorKey struct {
	ID        string `json:"id"` // the number of the key
	AccountID string `json:"accountId"`
	Hash      []byte `json:"hash"` // HashKey
}

// Number is the key's number.
func (k *OperatorKey) Number() (int32, error) {
	n, err := strconv.ParseInt(k.ID, 10, 32)
	return int32(n), err
}

// Validate refuses what a gateway could not use.
func (k *OperatorKey) Validate() error {
	if n, err := k.Number(); err != nil || n < 1 {
		return fmt.Errorf("operator key %q: its id is not a number", k.ID)
	}
	if k.AccountID == "" || len(k.Hash) != sha256.Size {
		return fmt.Errorf("operator key %s: it needs an account and a hash of %d bytes", k.ID, sha256.Size)
	}
	return nil
}
