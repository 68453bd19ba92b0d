// Package snapshot is what the control plane publishes and a gateway serves: the one type both share.
package snapshot

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/netip"
)

// KindModelService is the kind of a published ModelService in published_item.
const KindModelService = "model_service"

// ModelService is one model service as a gateway sees it. It holds no secret in clear: the caller's key as a hash,
// the engines' keys sealed under the snapshot key.
type ModelService struct {
	ID        string         `json:"id"`
	AccountID string         `json:"accountId,omitempty"`
	ModelName string         `json:"modelName"`
	Public    bool           `json:"public"`  // served on the public listener too
	KeyHash   []byte         `json:"keyHash"` // HashKey of the service's ApiKey
	Allow     []netip.Prefix `json:"allow"`   // who may call; nobody when empty
	Replicas  []Replica      `json:"replicas"`
}

// Replica is one engine a gateway may send a request to.
type Replica struct {
	ID        string `json:"id"`
	Addr      string `json:"addr"`      // host:port
	SealedKey []byte `json:"sealedKey"` // the engine's key; opens under the snapshot key for EngineKeyPurpose(ID)
}

// EngineKeyPurpose is what a replica's key is sealed for.
func EngineKeyPurpose(replicaID string) string { return "snapshot/replica/" + replicaID + "/key" }

// HashKey is how an incoming key is kept. Keys are random (≥ 128 bits), so a plain hash does.
func HashKey(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

// Validate refuses what a gateway could not serve. The control plane calls it before publishing, a gateway before
// swapping.
func (s *ModelService) Validate() error {
	if s.ID == "" || s.ModelName == "" {
		return fmt.Errorf("model service %q: id and model name are required", s.ID)
	}
	if len(s.KeyHash) != sha256.Size {
		return fmt.Errorf("model service %s: the key hash has %d bytes, not %d", s.ID, len(s.KeyHash), sha256.Size)
	}
	for _, r := range s.Replicas {
		if _, err := netip.ParseAddrPort(r.Addr); err != nil {
			return fmt.Errorf("model service %s: replica %s: %w", s.ID, r.ID, err)
		}
	}
	return nil
}

// Encode renders s as the body of a published item.
func (s *ModelService) Encode() ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(s)
}

// DecodeModelService reads the body of a published item.
func DecodeModelService(body []byte) (*ModelService, error) {
	s := new(ModelService)
	if err := json.Unmarshal(body, s); err != nil {
		return nil, fmt.Errorf("decode a published model service: %w", err)
	}
	return s, s.Validate()
}
