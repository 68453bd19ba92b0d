package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/engineshed/engineshed/internal/snapshot"
)

// source is the item a value was made of, for the snapshot file. Of very many APIs these are most of the memory, so the
// body is packed.
type source struct {
	revision int64
	sum      [sha256.Size / 2]byte // of the body
	packed   []byte
}

func sourceOf(item Item) source {
	return source{revision: item.Revision, sum: sumOf(item.Body), packed: pack(item.Body)}
}

func sumOf(body []byte) (half [sha256.Size / 2]byte) {
	sum := sha256.Sum256(body)
	return [sha256.Size / 2]byte(sum[:])
}

// has reports whether it is what the value was made of.
func (s source) has(body []byte) bool { return s.sum == sumOf(body) }

func (s source) published(kind, id string) Item {
	return Item{Kind: kind, ID: id, Revision: s.revision, Body: unpack(s.packed)}
}

// known is what published items have in common: the names of their fields, and usual values.
var known = func() []byte {
	var all bytes.Buffer
	route := func(path string) snapshot.Route {
		return snapshot.Route{
			ID: "hr-", Name: path[4:], PathType: "Exact", Path: path, Methods: []string{"POST"}, Protocol: "OpenAI/v1", Model: "json",
		}
	}
	manage := snapshot.Route{
		ID: "hr-", Name: "files", PathType: "Prefix", Path: "/v1/files", Methods: []string{"GET", "POST", "PUT", "PATCH", "DELETE"}, Protocol: "OpenAI/v1",
	}
	for _, sample := range []any{
		snapshot.Consumer{ID: "cs-", Keys: []snapshot.ConsumerKey{{Source: "Default"}}, Allowed: []string{"api-", "api-"}},
		snapshot.ModelAPI{
			ID: "api-", Name: "", AccountID: "1", GatewayID: "gw-", EnvironmentID: "env-", Revision: 1, AnyHost: true,
			Hosts: []string{"env-.engineshed.localhost"}, Schemes: []string{"http", "https"}, BasePath: "/", RemoveBasePath: true, Auth: true,
			Protocols: []string{"OpenAI/v1"}, Category: "Text", Scene: "SingleService", Targets: []snapshot.Target{{ServiceID: "svc-", Model: "m"}},
			Routes: []snapshot.Route{manage, route("/v1/embeddings"), route("/v1/chat-completions"), route("/v1/chat/completions"), route("/v1/completions"), route("/v1/responses")},
		},
	} {
		body, _ := snapshot.Encode(sample) // plain structs never fail
		all.Write(body)
	}
	return all.Bytes()
}()

// A packed body is a series of runs: a byte below 128, and one more bytes as they are; or a byte from 128, and a
// position in known from which so many bytes and shortest more are copied.
const (
	shortest = 8 // copies are worth their three bytes
	most     = 127
)

// places are where each sequence of so many bytes is in known.
var places = func() map[[shortest]byte]int {
	at := make(map[[shortest]byte]int, len(known))
	for i := 0; i+shortest <= len(known); i++ {
		at[[shortest]byte(known[i:])] = i
	}
	return at
}()

func pack(body []byte) []byte {
	packed := make([]byte, 0, len(body)/2)
	plain := 0 // where bytes begin that are not packed yet
	for i := 0; i < len(body); {
		n, at := 0, 0
		if i+shortest <= len(body) {
			if place, ok := places[[shortest]byte(body[i:])]; ok {
				n, at = common(body[i:], known[place:]), place
			}
		}
		if n == 0 {
			i++
			continue
		}
		packed = appendPlain(packed, body[plain:i])
		packed = binary.BigEndian.AppendUint16(append(packed, byte(128+n-shortest)), uint16(at)) //nolint:gosec // both are bounded
		i += n
		plain = i
	}
	return bytes.Clone(appendPlain(packed, body[plain:])) // without room for more
}

// common is how many bytes are the same, as far as one copy goes.
func common(a, b []byte) (n int) {
	for n < min(len(a), len(b), most+shortest) && a[n] == b[n] {
		n++
	}
	return n
}

func appendPlain(packed, text []byte) []byte {
	for len(text) > 0 {
		n := min(len(text), 128)
		packed = append(append(packed, byte(n-1)), text[:n]...)
		text = text[n:]
	}
	return packed
}

func unpack(packed []byte) []byte {
	var body []byte
	for len(packed) > 0 {
		n := int(packed[0])
		if n < 128 {
			body = append(body, packed[1:n+2]...)
			packed = packed[n+2:]
			continue
		}
		at := int(binary.BigEndian.Uint16(packed[1:]))
		body = append(body, known[at:at+n-128+shortest]...)
		packed = packed[3:]
	}
	return body
}
