package aiservice

import (
	"fmt"
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const (
	maxKeys   = 20
	maxKey    = 4096
	mask      = "sk-****"
	shown     = 4
	showsLast = 16 // a key that is shorter shows nothing of itself
)

// keys are the keys of a service, twice: as the database keeps them and as gateways get them.
type keys struct {
	sealed    [][]byte
	published [][]byte
}

func keyPurpose(serviceID string) string { return "ai_service/" + serviceID + "/api_key" }

// masked is how a key is shown.
func masked(key secret.Secret) string {
	if text := key.Reveal(); len(text) >= showsLast {
		return mask + text[len(text)-shown:]
	}
	return mask
}

// masked opens every key and returns how each is shown.
func (s *Services) masked(id string, sealed [][]byte) ([]string, error) {
	shown := make([]string, len(sealed))
	for i := range sealed {
		key, err := s.master.Open(keyPurpose(id), sealed[i])
		if err != nil {
			return nil, err
		}
		shown[i] = masked(key)
	}
	return shown, nil
}

// replaceKeys seals the keys that are sent. A mask stands for the key of held that is shown so, at best the one in the same
// place; what stays is not sealed again.
func (s *Services) replaceKeys(parameter, id string, held keys, sent []string) (keys, error) {
	if len(sent) > maxKeys {
		return keys{}, fault.InvalidParameter(parameter, fmt.Sprintf("it holds %d keys; at most %d are allowed.", len(sent), maxKeys))
	}
	shownAs, err := s.masked(id, held.sealed)
	if err != nil {
		return keys{}, err
	}
	next := keys{make([][]byte, len(sent)), make([][]byte, len(sent))}
	for i, text := range sent {
		if !strings.HasPrefix(text, mask) {
			if next.sealed[i], next.published[i], err = s.seal(parameter, id, text); err != nil {
				return keys{}, err
			}
			continue
		}
		place := i
		if i >= len(shownAs) || shownAs[i] != text {
			place = slices.Index(shownAs, text)
		}
		if place < 0 {
			return keys{}, fault.InvalidParameter(parameter,
				fmt.Sprintf("the key in place %d is a mask that stands for no key of this service; send the key itself.", i+1))
		}
		next.sealed[i], next.published[i] = held.sealed[place], held.published[place]
		shownAs[place] = "" // taken
	}
	return next, nil
}

func (s *Services) seal(parameter, id, text string) (sealed, published []byte, err error) {
	if text == "" || len(text) > maxKey || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, nil, fault.InvalidParameter(parameter,
			fmt.Sprintf("a key has from 1 to %d characters that are printable ASCII and no spaces.", maxKey))
	}
	key := secret.New(text)
	if sealed, err = s.master.Seal(keyPurpose(id), key); err != nil {
		return nil, nil, err
	}
	published, err = s.snapshot.Seal(snapshot.ServiceKeyPurpose(id), key)
	return sealed, published, err
}
