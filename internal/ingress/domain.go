package ingress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/resource"
	"github.com/engineshed/engineshed/internal/resourcegroup"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// The refusals about domains.
var (
	ErrDomainNotFound = fault.New(fault.NotFound, "DatabaseError.RecordNotFound",
		"The domain does not exist.", "Call ListDomains for the ids of this account.")
	ErrDomainNameTaken = fault.New(fault.Conflict, "Conflict.DomainNameDuplicate",
		"The domain name is taken in this installation.", "Choose another name; if the domain is yours, ListDomains shows it.")
	ErrDomainInUse = fault.New(fault.Conflict, "Conflict.DomainInUse",
		"A Model API still answers at the domain.", "Take the domain off it first.")
)

// The protocols of a domain.
const (
	HTTP  = "HTTP"
	HTTPS = "HTTPS"
)

// Domain is a host name that Model APIs answer at.
type Domain struct {
	ID              string
	Name            string // lower case; *.example.com stands for every name one label below
	Protocol        string // HTTP or HTTPS
	ForceHTTPS      bool
	HTTP2           string // Open, Close or GlobalConfig
	CertIdentifier  string
	TLSMin          string // as it was given; "": the gateway's default
	TLSMax          string
	ResourceGroupID string
	CreatedAt       time.Time
	UpdatedAt       time.Time
}

// DomainSpec is what a caller asks CreateDomain for.
type DomainSpec struct {
	Name            string
	Protocol        string
	ForceHTTPS      bool
	HTTP2           string // "": GlobalConfig
	CertIdentifier  string // HTTPS: the pair NAME.crt, NAME.key of the certificate directory
	TLSMin          string
	TLSMax          string
	ResourceGroupID string // "": the account's default group
}

// DomainChange is what a caller asks UpdateDomain for; nil keeps what is there. A CertIdentifier, even the same one,
// reads the pair again.
type DomainChange struct {
	Protocol       *string
	ForceHTTPS     *bool
	HTTP2          *string
	CertIdentifier *string
	TLSMin         *string
	TLSMax         *string
}

// DomainFilter narrows a list of domains; empty fields do not.
type DomainFilter struct {
	NameLike        string
	ResourceGroupID string
	Page            instance.Page
}

// CreateDomain takes the name for the account. An HTTPS domain needs a certificate that covers it.
func (i *Ingress) CreateDomain(ctx context.Context, accountID string, spec DomainSpec) (Domain, error) {
	d := Domain{
		ID: ids.New(ids.Domain), Name: strings.ToLower(spec.Name), Protocol: spec.Protocol, ForceHTTPS: spec.ForceHTTPS,
		HTTP2: cmp.Or(spec.HTTP2, "GlobalConfig"), CertIdentifier: spec.CertIdentifier, TLSMin: spec.TLSMin, TLSMax: spec.TLSMax,
		ResourceGroupID: cmp.Or(spec.ResourceGroupID, instance.DefaultResourceGroup),
	}
	if err := cmp.Or(i.checkDomainName(d.Name), checkDomain(d)); err != nil {
		return Domain{}, err
	}
	pair, err := i.pairOf(d)
	if err != nil {
		return Domain{}, err
	}
	err = pgx.BeginFunc(ctx, i.db, func(tx pgx.Tx) error {
		if err := insertDomain(ctx, tx, accountID, &d, pair); err != nil {
			return err
		}
		return i.finish(ctx, tx, d.ID)
	})
	return d, err
}

func insertDomain(ctx context.Context, tx pgx.Tx, accountID string, d *Domain, pair pair) error {
	if err := resourcegroup.Lock(ctx, tx, accountID, d.ResourceGroupID); err != nil {
		return err
	}
	err := tx.QueryRow(ctx, `
		INSERT INTO domain (id, account_id, name, protocol, force_https, http2, cert_identifier, cert_pem, cert_key_sealed,
			tls_min, tls_max, resource_group_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
		RETURNING created_at, updated_at`,
		d.ID, accountID, d.Name, d.Protocol, d.ForceHTTPS, d.HTTP2, d.CertIdentifier, pair.certPEM, pair.sealedKey,
		d.TLSMin, d.TLSMax, d.ResourceGroupID).Scan(&d.CreatedAt, &d.UpdatedAt)
	if postgres.IsUniqueViolation(err, "domain_name_key") {
		return ErrDomainNameTaken.Withf("The domain name %s is taken in this installation.", d.Name)
	}
	if err != nil {
		return fmt.Errorf("insert the domain: %w", err)
	}
	return nil
}

// finish ends the transaction of a change: what gateways serve follows it, and who made it is written down.
func (i *Ingress) finish(ctx context.Context, tx pgx.Tx, domainID string) error {
	if err := publish.Enqueue(ctx, tx, i.jobs, snapshot.KindDomain, domainID); err != nil {
		return err
	}
	return record(ctx, tx, domainID)
}

const domainColumns = `d.id, d.name, d.protocol, d.force_https, d.http2, d.cert_identifier, d.tls_min, d.tls_max,
	d.resource_group_id, d.created_at, d.updated_at`

func scanDomain(row pgx.CollectableRow) (d Domain, err error) {
	return d, row.Scan(&d.ID, &d.Name, &d.Protocol, &d.ForceHTTPS, &d.HTTP2, &d.CertIdentifier, &d.TLSMin, &d.TLSMax,
		&d.ResourceGroupID, &d.CreatedAt, &d.UpdatedAt)
}

// GetDomain returns the account's domain, or ErrDomainNotFound.
func (i *Ingress) GetDomain(ctx context.Context, accountID, id string) (Domain, error) {
	rows, err := i.db.Query(ctx, `
		SELECT `+domainColumns+` FROM domain d WHERE d.id = $1 AND d.account_id = $2`, id, accountID)
	if err != nil {
		return Domain{}, err
	}
	return oneDomain(rows, id)
}

func oneDomain(rows pgx.Rows, id string) (Domain, error) {
	found, err := pgx.CollectExactlyOneRow(rows, scanDomain)
	if errors.Is(err, pgx.ErrNoRows) {
		return Domain{}, domainNotFound(id)
	}
	return found, err
}

func domainNotFound(id string) error {
	return ErrDomainNotFound.Withf("The domain %.64q does not exist. Call ListDomains for the ids of this account.", id)
}

// ListDomains returns one page of the account's domains, oldest first, and how many there are in all.
func (i *Ingress) ListDomains(ctx context.Context, accountID string, f DomainFilter) ([]Domain, int, error) {
	found, total, err := list(ctx, i.db, domainColumns, `
		FROM domain d
		WHERE d.account_id = $1 AND ($2 = '' OR strpos(d.name, $2) > 0) AND ($3 = '' OR d.resource_group_id = $3)`,
		`d.created_at, d.id`, f.Page, []any{accountID, strings.ToLower(f.NameLike), f.ResourceGroupID}, scanDomain)
	if err != nil {
		return nil, 0, fmt.Errorf("list the domains: %w", err)
	}
	return found, total, nil
}

// UpdateDomain changes the account's domain. One that goes back to HTTP lets go of its certificate.
func (i *Ingress) UpdateDomain(ctx context.Context, accountID, id string, change DomainChange) error {
	return pgx.BeginFunc(ctx, i.db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT `+domainColumns+` FROM domain d WHERE d.id = $1 AND d.account_id = $2 FOR NO KEY UPDATE`, id, accountID)
		if err != nil {
			return err
		}
		before, err := oneDomain(rows, id)
		if err != nil {
			return err
		}
		after := change.apply(before)
		if err := checkDomain(after); err != nil {
			return err
		}
		if err := i.updateDomain(ctx, tx, after, change.CertIdentifier != nil || after.Protocol != before.Protocol); err != nil {
			return err
		}
		return i.finish(ctx, tx, id)
	})
}

func (c DomainChange) apply(d Domain) Domain {
	set(&d.Protocol, c.Protocol)
	if d.Protocol == HTTP {
		d.CertIdentifier, d.ForceHTTPS = "", false
	}
	set(&d.ForceHTTPS, c.ForceHTTPS)
	set(&d.HTTP2, c.HTTP2)
	set(&d.CertIdentifier, c.CertIdentifier)
	set(&d.TLSMin, c.TLSMin)
	set(&d.TLSMax, c.TLSMax)
	return d
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

func (i *Ingress) updateDomain(ctx context.Context, tx pgx.Tx, d Domain, newPair bool) error {
	_, err := tx.Exec(ctx, `
		UPDATE domain SET protocol = $2, force_https = $3, http2 = $4, cert_identifier = $5, tls_min = $6, tls_max = $7,
			version = version + 1, updated_at = now()
		WHERE id = $1`, d.ID, d.Protocol, d.ForceHTTPS, d.HTTP2, d.CertIdentifier, d.TLSMin, d.TLSMax)
	if err != nil {
		return fmt.Errorf("update the domain: %w", err)
	}
	if !newPair {
		return nil
	}
	pair, err := i.pairOf(d)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `
		UPDATE domain SET cert_pem = $2, cert_key_sealed = $3 WHERE id = $1`, d.ID, pair.certPEM, pair.sealedKey); err != nil {
		return fmt.Errorf("update the certificate of the domain: %w", err)
	}
	return nil
}

// DeleteDomain gives the account's domain up, unless a Model API answers at it.
func (i *Ingress) DeleteDomain(ctx context.Context, accountID, id string) error {
	return pgx.BeginFunc(ctx, i.db, func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `DELETE FROM domain WHERE id = $1 AND account_id = $2`, id, accountID)
		switch {
		case postgres.IsForeignKeyViolation(err, ""):
			return ErrDomainInUse.Withf("A Model API still answers at the domain %s. Take the domain off it first.", id)
		case err != nil:
			return fmt.Errorf("delete the domain: %w", err)
		case done.RowsAffected() == 0:
			return domainNotFound(id)
		}
		if err := resource.DeleteTags(ctx, tx, id); err != nil {
			return err
		}
		return i.finish(ctx, tx, id)
	})
}

const maxDomainName = 253

var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// checkDomainName checks a lower-case name. The sub-domains of environments belong to nobody.
func (i *Ingress) checkDomainName(name string) error {
	labels := strings.Split(strings.TrimPrefix(name, "*."), ".")
	for _, l := range labels {
		if len(name) > maxDomainName || !label.MatchString(l) {
			return ErrName.Withf("The domain name %.80q is not valid: labels of letters, digits and '-' as in api.example.com, "+
				"or *.example.com for every name below; other alphabets in their xn-- form.", name)
		}
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return ErrName.Withf("The domain name %s is an address. Name a domain, or call the default environment by its address.", name)
	}
	if i.baseDomain != "" && (name == i.baseDomain || strings.HasSuffix(name, "."+i.baseDomain)) {
		return ErrName.Withf("The domain name %s belongs to the sub-domains of environments. Choose one outside %s.", name, i.baseDomain)
	}
	return nil
}

// checkDomain applies the rules that need neither database nor files.
func checkDomain(d Domain) error {
	switch {
	case d.Protocol != HTTP && d.Protocol != HTTPS:
		return fault.InvalidParameter("protocol", "it must be HTTP or HTTPS.")
	case d.Protocol == HTTPS && d.CertIdentifier == "":
		return fault.MissingParameter("certIdentifier")
	case d.Protocol == HTTP && d.CertIdentifier != "":
		return fault.InvalidParameter("certIdentifier", "an HTTP domain has no certificate; set protocol to HTTPS.")
	case d.Protocol == HTTP && d.ForceHTTPS:
		return fault.InvalidParameter("forceHttps", "an HTTP domain has no HTTPS to go to; set protocol to HTTPS.")
	case d.HTTP2 != "Open" && d.HTTP2 != "Close" && d.HTTP2 != "GlobalConfig":
		return fault.InvalidParameter("http2Option", "it must be Open, Close or GlobalConfig.")
	}
	lowest, err := tlsVersion("tlsMin", d.TLSMin)
	if err != nil {
		return err
	}
	highest, err := tlsVersion("tlsMax", d.TLSMax)
	if err == nil && highest != 0 && cmp.Or(lowest, defaultTLSMin) > highest {
		return fault.InvalidParameter("tlsMin", "it is above tlsMax; without it, TLS1.2 is the lowest.")
	}
	return err
}
