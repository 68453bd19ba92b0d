// Package directory keeps the users, groups, roles, access keys and policies of accounts, and who has which policy, as
// the API manages them.
package directory

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"math/big"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/secret"
)

// Where a thing comes from. What comes from the policy files is changed there, and nowhere else.
const (
	FromAPI    = "api"
	FromFile   = "file"
	FromSystem = "system" // a system policy
	FromRoot   = "root"   // the access key that the installation was started with
)

// Directory is the directory of all accounts. Every change is in force at the next call on any process. It is safe for
// concurrent use.
type Directory struct {
	db  *pgxpool.Pool
	box *secret.Box
}

// New returns the directory in db. box seals the secrets of access keys.
func New(db *pgxpool.Pool, box *secret.Box) *Directory { return &Directory{db, box} }

// change runs do as one change of the account.
func (d *Directory) change(ctx context.Context, accountID string, do func(pgx.Tx) (changed string, err error)) error {
	return iam.InAccount(ctx, d.db, accountID, do)
}

// Page is a part of a list that is in the order of names.
type Page struct {
	Marker string // of the page before; "" is the beginning
	Size   int
}

// after returns the name that the page begins after.
func (p Page) after() (string, error) {
	name, err := base64.RawURLEncoding.DecodeString(p.Marker)
	if err != nil || strings.ContainsFunc(string(name), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fault.InvalidParameter("Marker", "it must be the Marker that the page before was answered with.")
	}
	return string(name), nil
}

// cut returns the page out of items, of which one more than its size was asked for, and the marker of the next page.
func cut[T any](p Page, items []T, name func(T) string) (page []T, next string) {
	if len(items) <= p.Size {
		return items, ""
	}
	return items[:p.Size], base64.RawURLEncoding.EncodeToString([]byte(name(items[p.Size-1])))
}

// newID makes an id of 18 digits that begins with the digit of its kind, so that ids of different kinds never meet.
func newID(kind string) string {
	n, _ := rand.Int(rand.Reader, new(big.Int).Exp(big.NewInt(10), big.NewInt(17), nil)) // never fails since Go 1.24
	digits := n.String()
	return kind + "00000000000000000"[len(digits):] + digits
}

// The first digits of ids.
const (
	userID  = "2"
	groupID = "3"
	roleID  = "4"
)
