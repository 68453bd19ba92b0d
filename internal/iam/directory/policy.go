package directory

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/access/ram"
	"github.com/engineshed/engineshed/internal/postgres"
)

// The types of policies.
const (
	System = "System" // the same in every account, and changed by none
	Custom = "Custom" // of one account
)

// PolicyName names a policy as an account sees it.
type PolicyName struct {
	Type string // System or Custom
	Name string
}

// Policy is a policy without its documents.
type Policy struct {
	ID int64 // shown to nobody
	PolicyName
	Description          string
	DefaultVersion       int    // the version that is in force
	Attachments          int    // how many principals of the account have it
	Source               string // FromAPI, FromFile or FromSystem
	CreatedAt, UpdatedAt time.Time
	Since                *time.Time // in lists of a principal's policies: when it was attached
}

// Version is a version of a policy. It never changes, and its number is never used again.
type Version struct {
	Version   int
	IsDefault bool
	Document  string // RAM JSON
	CreatedAt time.Time
}

// selectPolicies reads policies p that the account $1 sees. %s is when they were attached.
const selectPolicies = `
	SELECT p.id, CASE WHEN p.account_id IS NULL THEN 'System' ELSE 'Custom' END AS type, p.name, p.description,
		p.default_version, p.source, p.created_at, p.updated_at, %s AS since,
		(SELECT count(DISTINCT a.principal_id) FROM policy_attachment a
			LEFT JOIN ram_user u ON u.id = a.user_id LEFT JOIN ram_group g ON g.id = a.group_id LEFT JOIN ram_role r ON r.id = a.role_id
			WHERE a.policy_id = p.id AND $1 IN (u.account_id, g.account_id, r.account_id)) AS attachments
	FROM policy p `

func findPolicy(ctx context.Context, db querier, accountID string, name PolicyName) (Policy, error) {
	rows, _ := db.Query(ctx, fmt.Sprintf(selectPolicies, "NULL::timestamptz")+`
		WHERE p.account_id IS NOT DISTINCT FROM CASE WHEN $2 = 'Custom' THEN $1 END AND p.name = $3`, accountID, name.Type, name.Name)
	policy, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Policy])
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Policy{}, ErrNoPolicy.Withf("The %s policy %s does not exist. Call ListPolicies for those that do.", name.Type, name.Name)
	case err != nil:
		return Policy{}, fmt.Errorf("read the policy: %w", err)
	}
	return policy, nil
}

// CreatePolicy makes a custom policy of the account.
func (d *Directory) CreatePolicy(ctx context.Context, accountID, name, description, document string) (Policy, error) {
	if _, err := ram.Parse(document); err != nil {
		return Policy{}, err
	}
	return d.changed(ctx, accountID, PolicyName{Custom, name}, func(tx pgx.Tx) error {
		if err := room(ctx, tx, `SELECT count(*) FROM policy WHERE account_id = $1`, accountID, maxPolicies, ErrPolicyLimit); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
			WITH made AS (
				INSERT INTO policy (account_id, name, description, default_version, source) VALUES ($1, $2, $3, 1, 'api') RETURNING id)
			INSERT INTO policy_version (policy_id, version, document) SELECT id, 1, $4 FROM made`, accountID, name, description, document)
		if postgres.IsUniqueViolation(err, "policy_account_id_name_key") {
			return ErrPolicyExists.Withf("The account has a policy %s.", name)
		}
		return err
	})
}

// changed runs do as one change of the account and returns the policy as it is then.
func (d *Directory) changed(ctx context.Context, accountID string, name PolicyName, do func(pgx.Tx) error) (Policy, error) {
	var policy Policy
	err := d.change(ctx, accountID, func(tx pgx.Tx) (_ string, err error) {
		if err := do(tx); err != nil {
			return "", err
		}
		policy, err = findPolicy(ctx, tx, accountID, name)
		return name.Name, err
	})
	if err != nil {
		return Policy{}, fmt.Errorf("change the policy %s: %w", name.Name, err)
	}
	return policy, nil
}

// changePolicy runs do as one change of a custom policy that does not come from a file.
func (d *Directory) changePolicy(ctx context.Context, accountID, name string, do func(pgx.Tx, Policy) error) error {
	err := d.change(ctx, accountID, func(tx pgx.Tx) (string, error) {
		policy, err := findPolicy(ctx, tx, accountID, PolicyName{Custom, name})
		if err == nil {
			err = fromFile(policy.Source, "policy "+name)
		}
		if err != nil {
			return "", err
		}
		return name, do(tx, policy)
	})
	if err != nil {
		return fmt.Errorf("change the policy %s: %w", name, err)
	}
	return nil
}

// DescribePolicy changes the description of a custom policy.
func (d *Directory) DescribePolicy(ctx context.Context, accountID, name, description string) (Policy, error) {
	err := d.changePolicy(ctx, accountID, name, func(tx pgx.Tx, p Policy) error {
		_, err := tx.Exec(ctx, `UPDATE policy SET description = $2, updated_at = now() WHERE id = $1`, p.ID, description)
		return err
	})
	if err != nil {
		return Policy{}, err
	}
	return findPolicy(ctx, d.db, accountID, PolicyName{Custom, name})
}

// DeletePolicy deletes a custom policy that nobody has and that has one version.
func (d *Directory) DeletePolicy(ctx context.Context, accountID, name string) error {
	return d.changePolicy(ctx, accountID, name, func(tx pgx.Tx, p Policy) error {
		err := none(ctx, tx, p.ID,
			left{`SELECT EXISTS (SELECT FROM policy_attachment WHERE policy_id = $1 AND user_id IS NOT NULL)`, ErrPolicyOfUser},
			left{`SELECT EXISTS (SELECT FROM policy_attachment WHERE policy_id = $1 AND group_id IS NOT NULL)`, ErrPolicyOfGroup},
			left{`SELECT EXISTS (SELECT FROM policy_attachment WHERE policy_id = $1 AND role_id IS NOT NULL)`, ErrPolicyOfRole},
			left{`SELECT count(*) > 1 FROM policy_version WHERE policy_id = $1`, ErrPolicyVersions})
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM policy WHERE id = $1`, p.ID)
		return err
	})
}

// Policy returns a policy and the version that is in force.
func (d *Directory) Policy(ctx context.Context, accountID string, name PolicyName) (Policy, Version, error) {
	policy, err := findPolicy(ctx, d.db, accountID, name)
	if err != nil {
		return Policy{}, Version{}, err
	}
	version, err := findVersion(ctx, d.db, policy, versionID(policy.DefaultVersion))
	return policy, version, err
}

// Policies returns a page of the policies that the account sees, of one type or of both: system policies come first.
func (d *Directory) Policies(ctx context.Context, accountID, ofType string, page Page) (policies []Policy, next string, err error) {
	after, err := page.after()
	if err != nil {
		return nil, "", err
	}
	rows, _ := d.db.Query(ctx, fmt.Sprintf(selectPolicies, "NULL::timestamptz")+`
		WHERE (p.account_id = $1 AND $2 <> 'System' OR p.account_id IS NULL AND $2 <> 'Custom')
			AND ($3 = '' OR (CASE WHEN p.account_id IS NULL THEN 'a' ELSE 'b' END, p.name) > (left($3, 1), substr($3, 2)))
		ORDER BY p.account_id IS NOT NULL, p.name LIMIT $4`, accountID, ofType, after, page.Size+1)
	policies, err = pgx.CollectRows(rows, pgx.RowToStructByName[Policy])
	if err != nil {
		return nil, "", fmt.Errorf("read the policies: %w", err)
	}
	policies, next = cut(page, policies, func(p Policy) string {
		return map[string]string{System: "a", Custom: "b"}[p.Type] + p.Name
	})
	return policies, next, nil
}

const selectVersions = `
	SELECT v.version, v.version = p.default_version AS is_default, v.document, v.created_at
	FROM policy_version v JOIN policy p ON p.id = v.policy_id WHERE v.policy_id = $1`

func findVersion(ctx context.Context, db querier, policy Policy, id string) (Version, error) {
	missing := ErrNoVersion.Withf("The policy %s has no version %.64q. Call ListPolicyVersions for those that it has.", policy.Name, id)
	number, err := strconv.ParseInt(strings.TrimPrefix(id, "v"), 10, 32)
	if err != nil || id != versionID(int(number)) {
		return Version{}, missing
	}
	rows, _ := db.Query(ctx, selectVersions+` AND v.version = $2`, policy.ID, number)
	version, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Version])
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Version{}, missing
	case err != nil:
		return Version{}, fmt.Errorf("read the version: %w", err)
	}
	return version, nil
}

func versionID(number int) string { return "v" + strconv.Itoa(number) }

// Version returns a version of a policy; id is v1, v2 and so on.
func (d *Directory) Version(ctx context.Context, accountID string, name PolicyName, id string) (Version, error) {
	policy, err := findPolicy(ctx, d.db, accountID, name)
	if err != nil {
		return Version{}, err
	}
	return findVersion(ctx, d.db, policy, id)
}

// Versions returns the versions of a policy, the newest first.
func (d *Directory) Versions(ctx context.Context, accountID string, name PolicyName) ([]Version, error) {
	policy, err := findPolicy(ctx, d.db, accountID, name)
	if err != nil {
		return nil, err
	}
	rows, _ := d.db.Query(ctx, selectVersions+` ORDER BY v.version DESC`, policy.ID)
	versions, err := pgx.CollectRows(rows, pgx.RowToStructByName[Version])
	if err != nil {
		return nil, fmt.Errorf("read the versions: %w", err)
	}
	return versions, nil
}

// VersionSpec is a version to be made.
type VersionSpec struct {
	AccountID, PolicyName, Document string
	SetAsDefault                    bool
	Rotate                          bool // the oldest version that is not the default makes room when there is none
}

// CreateVersion adds a version to a custom policy.
func (d *Directory) CreateVersion(ctx context.Context, spec VersionSpec) (Version, error) {
	if _, err := ram.Parse(spec.Document); err != nil {
		return Version{}, err
	}
	var made Version
	err := d.changePolicy(ctx, spec.AccountID, spec.PolicyName, func(tx pgx.Tx, p Policy) error {
		if err := makeRoom(ctx, tx, p, spec.Rotate); err != nil {
			return err
		}
		var number int
		err := tx.QueryRow(ctx, `
			WITH next AS (
				UPDATE policy SET last_version = last_version + 1, updated_at = now(),
					default_version = CASE WHEN $3 THEN last_version + 1 ELSE default_version END
				WHERE id = $1 RETURNING id, last_version)
			INSERT INTO policy_version (policy_id, version, document) SELECT id, last_version, $2 FROM next
			RETURNING version`, p.ID, spec.Document, spec.SetAsDefault).Scan(&number)
		if err != nil {
			return err
		}
		made, err = findVersion(ctx, tx, p, versionID(number))
		return err
	})
	return made, err
}

func makeRoom(ctx context.Context, tx pgx.Tx, p Policy, rotate bool) error {
	if rotate {
		_, err := tx.Exec(ctx, `
			DELETE FROM policy_version WHERE policy_id = $1 AND version = (
				SELECT min(version) FROM policy_version WHERE policy_id = $1 AND version <> $2)
			AND (SELECT count(*) FROM policy_version WHERE policy_id = $1) >= $3`, p.ID, p.DefaultVersion, maxVersions)
		return err
	}
	var count int
	err := tx.QueryRow(ctx, `SELECT count(*) FROM policy_version WHERE policy_id = $1`, p.ID).Scan(&count)
	if err == nil && count >= maxVersions {
		return ErrVersionLimit
	}
	return err
}

// SetDefaultVersion puts a version of a custom policy in force.
func (d *Directory) SetDefaultVersion(ctx context.Context, accountID, name, id string) error {
	return d.changePolicy(ctx, accountID, name, func(tx pgx.Tx, p Policy) error {
		version, err := findVersion(ctx, tx, p, id)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE policy SET default_version = $2, updated_at = now() WHERE id = $1`, p.ID, version.Version)
		return err
	})
}

// DeleteVersion deletes a version of a custom policy that is not in force.
func (d *Directory) DeleteVersion(ctx context.Context, accountID, name, id string) error {
	return d.changePolicy(ctx, accountID, name, func(tx pgx.Tx, p Policy) error {
		version, err := findVersion(ctx, tx, p, id)
		if err != nil {
			return err
		}
		if version.IsDefault {
			return ErrDefaultVersion
		}
		_, err = tx.Exec(ctx, `DELETE FROM policy_version WHERE policy_id = $1 AND version = $2`, p.ID, version.Version)
		return err
	})
}
