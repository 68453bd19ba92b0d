// Package ingress keeps the gateways, environments and domains that Model APIs are reached by.
package ingress

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/resource"
	"github.com/engineshed/engineshed/internal/secret"
)

// ErrName refuses the name of a gateway, an environment or a domain.
var ErrName = fault.New(fault.Invalid, "InvalidParameter.Name",
	"The parameter name is not a name for this kind of resource.", "Send one of the characters and the length that the message tells.")

// Kinds are the kinds of resources of this package.
var Kinds = []resource.Kind{
	{Name: "Gateway", Table: "gateway", Prefix: ids.Gateway, Grouped: true, NotFound: gatewayNotFound},
	{Name: "Environment", Table: "environment", Prefix: ids.Environment, Grouped: true, NotFound: environmentNotFound},
	{Name: "Domain", Table: "domain", Prefix: ids.Domain, Grouped: true, NotFound: domainNotFound},
}

const (
	maxAlias       = 64
	maxDescription = 256
)

// Ingress are the gateways, environments and domains of one installation.
type Ingress struct {
	db         *pgxpool.Pool
	jobs       *jobs.Client
	snapshot   *secret.Box // seals what gateways open
	baseDomain string
	certDir    string
}

// Config is what New needs.
type Config struct {
	DB         *pgxpool.Pool
	Jobs       *jobs.Client
	Snapshot   *secret.Box
	BaseDomain string // the sub-domains of environments lie under it
	CertDir    string // holds the pairs NAME.crt, NAME.key of domains; "": no domain can speak HTTPS
}

// New returns the ingress that the database of c holds.
func New(c Config) *Ingress {
	return &Ingress{c.DB, c.Jobs, c.Snapshot, strings.ToLower(c.BaseDomain), c.CertDir}
}

// SubDomain is the host that the environment answers for without any domain.
func (i *Ingress) SubDomain(environmentID string) string { return environmentID + "." + i.baseDomain }

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// checkName checks the name of a gateway or an environment.
func checkName(name string) error {
	if !plainName.MatchString(name) {
		return ErrName.Withf("The name %.80q is not valid: 1 to 64 letters, digits, '.', '_' and '-' that begin with a letter or digit.", name)
	}
	return nil
}

// checkText checks what people write for people.
func checkText(parameter, text string, limit int) error {
	if len(text) > limit {
		return fault.InvalidParameter(parameter, fmt.Sprintf("it is longer than %d bytes.", limit))
	}
	if strings.ContainsRune(text, 0) {
		return fault.InvalidParameter(parameter, "it holds a null character.")
	}
	return nil
}

// record writes the audit row of a change that the transaction made.
func record(ctx context.Context, tx pgx.Tx, resourceID string) error {
	entry := audit.From(ctx)
	entry.ResourceID, entry.Outcome = resourceID, audit.Done
	return audit.Insert(ctx, tx, entry)
}

// list counts the rows that match and collects one page of them. from begins with FROM; its arguments are args.
func list[T any](ctx context.Context, db *pgxpool.Pool, columns, from, order string, page instance.Page, args []any,
	scan pgx.RowToFunc[T],
) ([]T, int, error) {
	total := 0
	if err := db.QueryRow(ctx, `SELECT count(*) `+from, args...).Scan(&total); err != nil {
		return nil, 0, err
	}
	rows, err := db.Query(ctx, fmt.Sprintf(`SELECT %s %s ORDER BY %s OFFSET %d LIMIT %d`,
		columns, from, order, (page.Number-1)*page.Size, page.Size), args...)
	if err != nil {
		return nil, 0, err
	}
	found, err := pgx.CollectRows(rows, scan)
	return found, total, err
}
