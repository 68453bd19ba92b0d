package consumer

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const maxKeys = 10 // of one consumer

var (
	customKey  = regexp.MustCompile(`^[\x21-\x7e]{8,128}$`)
	headerName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	queryName  = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

// notForKeys are headers that a gateway reads or drops before it looks for a key.
var notForKeys = []string{
	"connection", "content-encoding", "content-length", "content-type", "cookie", "expect", "host", "keep-alive",
	"te", "trailer", "transfer-encoding", "upgrade",
}

const authorization = "Authorization"

// checkSource checks where a key is carried, and completes the name of the default place.
func checkSource(source string, name *string) error {
	const parameter = "apikeySource.value"
	switch source {
	case Default:
		if *name != "" && !strings.EqualFold(*name, authorization) {
			return fault.InvalidParameter(parameter, "the source Default reads Authorization: Bearer; use Header for another header.")
		}
		*name = authorization
	case Header:
		if !freeHeader(*name) {
			return fault.InvalidParameter(parameter, "it must name a header that is free to carry a key, such as X-Api-Key.")
		}
	case QueryString:
		if !queryName.MatchString(*name) {
			return fault.InvalidParameter(parameter, "it must name a query parameter: 1 to 64 letters, digits, '.', '_' and '-'.")
		}
	default:
		return fault.InvalidParameter("apikeySource.source", "it must be Default, Header or QueryString.")
	}
	return nil
}

// freeHeader reports whether a header can carry a key or a token.
func freeHeader(name string) bool {
	return headerName.MatchString(name) && !slices.Contains(notForKeys, strings.ToLower(name))
}

// chooseKeys checks the wanted keys and generates what the system is to choose. mine are the keys the consumer has.
func chooseKeys(wanted, mine []Key) ([]Key, error) {
	if len(wanted) > maxKeys {
		return nil, fault.InvalidParameter("credentials", fmt.Sprintf("a consumer has at most %d keys.", maxKeys))
	}
	chosen := make([]Key, len(wanted))
	for n, key := range wanted {
		var err error
		if chosen[n], err = chooseKey(key, mine); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(chosen[:n], chosen[n].same) {
			return nil, fault.InvalidParameter("credentials", "it names the same key twice.")
		}
	}
	return chosen, nil
}

func chooseKey(key Key, mine []Key) (Key, error) {
	if at := slices.IndexFunc(mine, key.same); at >= 0 {
		return mine[at], nil
	}
	switch {
	case key.GenerateMode == System && key.Secret.IsZero():
		return Key{newKey(), System}, nil
	case key.GenerateMode == System:
		return key, fault.InvalidParameter("credentials", "a System key is generated: leave out its apikey, or set generateMode to Custom.")
	case key.GenerateMode != Custom:
		return key, fault.InvalidParameter("credentials", "generateMode must be System or Custom.")
	case !customKey.MatchString(key.Secret.Reveal()):
		return key, fault.InvalidParameter("credentials", "a Custom apikey is 8 to 128 visible ASCII characters without spaces.")
	}
	return key, nil
}

// newKey returns a key with 128 random bits or more.
func newKey() secret.Secret { return secret.New("sk-" + rand.Text()) }

func (k Key) same(other Key) bool { return k.Secret.Reveal() == other.Secret.Reveal() }

func keyPurpose(consumerID string) string { return "consumer/" + consumerID + "/key" }

// readKeys opens the consumer's keys, in their order.
func (c *Consumers) readKeys(ctx context.Context, tx pgx.Tx, consumerID string) ([]Key, error) {
	rows, err := tx.Query(ctx, `
		SELECT key_sealed, generate_mode FROM consumer_key WHERE consumer_id = $1 ORDER BY position`, consumerID)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (k Key, err error) {
		var sealed []byte
		if err := row.Scan(&sealed, &k.GenerateMode); err != nil {
			return k, err
		}
		k.Secret, err = c.master.Open(keyPurpose(consumerID), sealed)
		return k, err
	})
}

// replaceKeys gives the locked consumer the wanted keys; nil leaves it those it has.
func (c *Consumers) replaceKeys(ctx context.Context, tx pgx.Tx, consumerID string, wanted *[]Key) error {
	if wanted == nil {
		return nil
	}
	mine, err := c.readKeys(ctx, tx, consumerID)
	if err != nil {
		return err
	}
	chosen, err := chooseKeys(*wanted, mine)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM consumer_key WHERE consumer_id = $1`, consumerID); err != nil {
		return fmt.Errorf("delete the keys: %w", err)
	}
	return c.insertKeys(ctx, tx, consumerID, chosen)
}

// insertKeys inserts the keys in the order of their hashes, so that two calls with the same keys cannot wait for each
// other.
func (c *Consumers) insertKeys(ctx context.Context, tx pgx.Tx, consumerID string, keys []Key) error {
	type row struct {
		position     int
		sealed, hash []byte
		mode         string
	}
	inserts := make([]row, len(keys))
	for n, key := range keys {
		sealed, err := c.master.Seal(keyPurpose(consumerID), key.Secret)
		if err != nil {
			return err
		}
		inserts[n] = row{n, sealed, snapshot.HashKey(key.Secret.Reveal()), key.GenerateMode}
	}
	slices.SortFunc(inserts, func(a, b row) int { return bytes.Compare(a.hash, b.hash) })
	for _, r := range inserts {
		_, err := tx.Exec(ctx, `
			INSERT INTO consumer_key (consumer_id, position, key_sealed, key_hash, generate_mode) VALUES ($1, $2, $3, $4, $5)`,
			consumerID, r.position, r.sealed, r.hash, r.mode)
		if postgres.IsUniqueViolation(err, "consumer_key_key_hash_key") {
			return ErrKeyTaken
		}
		if err != nil {
			return fmt.Errorf("insert a key: %w", err)
		}
	}
	return nil
}
