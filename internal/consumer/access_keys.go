package consumer

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"regexp"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const accessKeys = "akSkIdentityConfigs"

var (
	customAccessKey    = regexp.MustCompile(`^[A-Za-z0-9._-]{8,128}$`)
	customAccessSecret = regexp.MustCompile(`^[\x21-\x7e]{16,128}$`)
)

// chooseAccessKeys checks the wanted access keys and generates what the system is to choose. mine are those the consumer
// has.
func chooseAccessKeys(wanted, mine []AccessKey) ([]AccessKey, error) {
	if len(wanted) > maxKeys {
		return nil, fault.InvalidParameter(accessKeys, fmt.Sprintf("a consumer has at most %d access keys.", maxKeys))
	}
	chosen := make([]AccessKey, len(wanted))
	for n, key := range wanted {
		var err error
		if chosen[n], err = chooseAccessKey(key, mine); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(chosen[:n], chosen[n].same) {
			return nil, fault.InvalidParameter(accessKeys, "it names the same ak twice.")
		}
	}
	return chosen, nil
}

func chooseAccessKey(key AccessKey, mine []AccessKey) (AccessKey, error) {
	if at := slices.IndexFunc(mine, key.same); at >= 0 && mine[at].isMeantBy(key.Secret.Reveal()) {
		return mine[at], nil
	}
	switch {
	case key.GenerateMode == System && key.ID == "" && key.Secret.IsZero():
		return AccessKey{"AK" + rand.Text(), secret.New(rand.Text() + rand.Text()), System}, nil
	case key.GenerateMode == System:
		return key, fault.InvalidParameter(accessKeys, "a System access key is generated: leave out its ak and sk, or set generateMode to Custom.")
	case key.GenerateMode != Custom:
		return key, fault.InvalidParameter(accessKeys, "generateMode must be System or Custom.")
	case !customAccessKey.MatchString(key.ID):
		return key, fault.InvalidParameter(accessKeys, "a Custom ak is 8 to 128 letters, digits, '.', '_' and '-'.")
	case !customAccessSecret.MatchString(key.Secret.Reveal()):
		return key, fault.InvalidParameter(accessKeys, "a Custom sk is 16 to 128 visible ASCII characters without spaces.")
	}
	return key, nil
}

func (k AccessKey) same(other AccessKey) bool { return k.ID == other.ID }

// isMeantBy reports whether the secret is the key's, stands for it as in reads, or is left out.
func (k AccessKey) isMeantBy(text string) bool {
	return text == "" || text == k.Secret.Reveal() || text == k.Shown()
}

// Shown is the secret as reads have it: in full when the system made it, for there is no other way to learn it.
func (k AccessKey) Shown() string {
	text := k.Secret.Reveal()
	if k.GenerateMode == System || len(text) < 4 {
		return text
	}
	return hidden + text[len(text)-4:]
}

func accessKeyPurpose(consumerID, id string) string {
	return "consumer/" + consumerID + "/accessKey/" + id
}

// readAccessKeys opens the consumer's access keys, in their order.
func (c *Consumers) readAccessKeys(ctx context.Context, tx pgx.Tx, consumerID string) ([]AccessKey, error) {
	rows, err := tx.Query(ctx, `
		SELECT id, secret_sealed, generate_mode FROM consumer_access_key WHERE consumer_id = $1 ORDER BY position`, consumerID)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (k AccessKey, err error) {
		var sealed []byte
		if err := row.Scan(&k.ID, &sealed, &k.GenerateMode); err != nil {
			return k, err
		}
		k.Secret, err = c.master.Open(accessKeyPurpose(consumerID, k.ID), sealed)
		return k, err
	})
}

// replaceAccessKeys gives the locked consumer the wanted access keys; nil leaves it those it has.
func (c *Consumers) replaceAccessKeys(ctx context.Context, tx pgx.Tx, accountID, consumerID string, wanted *[]AccessKey) error {
	if wanted == nil {
		return nil
	}
	mine, err := c.readAccessKeys(ctx, tx, consumerID)
	if err != nil {
		return err
	}
	chosen, err := chooseAccessKeys(*wanted, mine)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM consumer_access_key WHERE consumer_id = $1`, consumerID); err != nil {
		return fmt.Errorf("delete the access keys: %w", err)
	}
	return c.insertAccessKeys(ctx, tx, accountID, consumerID, chosen)
}

// insertAccessKeys inserts the keys in the order of their ids, so that two calls with the same keys cannot wait for each
// other.
func (c *Consumers) insertAccessKeys(ctx context.Context, tx pgx.Tx, accountID, consumerID string, keys []AccessKey) error {
	order := make([]int, len(keys))
	for n := range order {
		order[n] = n
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(keys[a].ID, keys[b].ID) })
	for _, n := range order {
		key := keys[n]
		sealed, published, err := c.seal(accessKeyPurpose(consumerID, key.ID), snapshot.AccessKeyPurpose(consumerID, key.ID), key.Secret)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO consumer_access_key (consumer_id, position, account_id, id, secret_sealed, secret_published, generate_mode)
			VALUES ($1, $2, $3, $4, $5, $6, $7)`, consumerID, n, accountID, key.ID, sealed, published, key.GenerateMode)
		if postgres.IsUniqueViolation(err, "consumer_access_key_id") {
			return ErrAccessKeyTaken.Withf("Another consumer of the account has the access key %.128s. Choose another ak, or let the system generate it.", key.ID)
		}
		if err != nil {
			return fmt.Errorf("insert an access key: %w", err)
		}
	}
	return nil
}

func compileAccessKeys(ctx context.Context, tx pgx.Tx, consumerID string) ([]snapshot.ConsumerAccessKey, error) {
	rows, err := tx.Query(ctx, `
		SELECT id, secret_published FROM consumer_access_key WHERE consumer_id = $1 ORDER BY position`, consumerID)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[snapshot.ConsumerAccessKey])
}
