package directory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/resourcegroup"
)

// Kind is a kind of principal.
type Kind struct {
	Name string // User, Group or Role

	table, column                   string
	missing, exists, detached, full *fault.Fault
}

// The kinds of principals that policies are attached to.
var (
	OfUser  = Kind{"User", "ram_user", "user_id", ErrNoUser, ErrUserPolicyExists, ErrNoUserPolicy, ErrUserPolicyLimit}
	OfGroup = Kind{"Group", "ram_group", "group_id", ErrNoGroup, ErrGroupPolicyExists, ErrNoGroupPolicy, ErrGroupPolicyLimit}
	OfRole  = Kind{"Role", "ram_role", "role_id", ErrNoRole, ErrRolePolicyExists, ErrNoRolePolicy, ErrRolePolicyLimit}
)

// Principal names a user, group or role of an account.
type Principal struct {
	Kind Kind
	Name string
}

// Attachment names a policy that a principal has.
type Attachment struct {
	AccountID       string
	Policy          PolicyName
	Principal       Principal
	ResourceGroupID string // "": for the whole account
}

func findPrincipal(ctx context.Context, db querier, accountID string, p Principal) (id string, err error) {
	err = db.QueryRow(ctx, `SELECT id FROM `+p.Kind.table+` WHERE account_id = $1 AND name = $2`, accountID, p.Name).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", p.Kind.missing.Withf("The %s %s does not exist.", lower(p.Kind.Name), p.Name)
	}
	return id, err
}

func lower(name string) string { return string(name[0]|' ') + name[1:] }

// Attach gives a principal a policy.
func (d *Directory) Attach(ctx context.Context, a Attachment) error {
	err := d.attachment(ctx, a, func(tx pgx.Tx, principalID string, policy Policy) error {
		if err := roomForPolicy(ctx, tx, a, principalID); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
			INSERT INTO policy_attachment (policy_id, `+a.Principal.Kind.column+`, resource_group_id, source) VALUES ($1, $2, $3, 'api')`,
			policy.ID, principalID, a.ResourceGroupID)
		if postgres.IsUniqueViolation(err, "policy_attachment_pkey") {
			return a.Principal.Kind.exists.Withf("The policy %s is attached to the %s %s.", policy.Name, lower(a.Principal.Kind.Name), a.Principal.Name)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("attach the policy: %w", err)
	}
	return nil
}

func roomForPolicy(ctx context.Context, tx pgx.Tx, a Attachment, principalID string) error {
	limit := maxCustomAttached
	if a.Policy.Type == System {
		limit = maxSystemAttached
	}
	var count int
	err := tx.QueryRow(ctx, `
		SELECT count(*) FROM policy_attachment a JOIN policy p ON p.id = a.policy_id
		WHERE a.principal_id = $1 AND a.resource_group_id = $2 AND (p.account_id IS NULL) = $3`,
		principalID, a.ResourceGroupID, a.Policy.Type == System).Scan(&count)
	if err == nil && count >= limit {
		return a.Principal.Kind.full
	}
	return err
}

// Detach takes a policy from a principal.
func (d *Directory) Detach(ctx context.Context, a Attachment) error {
	err := d.attachment(ctx, a, func(tx pgx.Tx, principalID string, policy Policy) error {
		var source string
		err := tx.QueryRow(ctx, `
			SELECT source FROM policy_attachment WHERE principal_id = $1 AND policy_id = $2 AND resource_group_id = $3`,
			principalID, policy.ID, a.ResourceGroupID).Scan(&source)
		if errors.Is(err, pgx.ErrNoRows) {
			return a.Principal.Kind.detached.Withf("The policy %s is not attached to the %s %s.", policy.Name, lower(a.Principal.Kind.Name), a.Principal.Name)
		}
		if err == nil {
			err = fromFile(source, "attachment of "+policy.Name+" to "+a.Principal.Name)
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			DELETE FROM policy_attachment WHERE principal_id = $1 AND policy_id = $2 AND resource_group_id = $3`,
			principalID, policy.ID, a.ResourceGroupID)
		return err
	})
	if err != nil {
		return fmt.Errorf("detach the policy: %w", err)
	}
	return nil
}

func (d *Directory) attachment(ctx context.Context, a Attachment, do func(tx pgx.Tx, principalID string, policy Policy) error) error {
	return d.change(ctx, a.AccountID, func(tx pgx.Tx) (string, error) {
		if a.ResourceGroupID != "" {
			if err := resourcegroup.Lock(ctx, tx, a.AccountID, a.ResourceGroupID); err != nil {
				return "", err
			}
		}
		id, err := findPrincipal(ctx, tx, a.AccountID, a.Principal)
		if err != nil {
			return "", err
		}
		policy, err := findPolicy(ctx, tx, a.AccountID, a.Policy)
		if err != nil {
			return "", err
		}
		return a.Policy.Name + "," + a.Principal.Name, do(tx, id, policy)
	})
}

// PoliciesOf returns the policies that a principal has for the whole account, system policies first.
func (d *Directory) PoliciesOf(ctx context.Context, accountID string, principal Principal) ([]Policy, error) {
	id, err := findPrincipal(ctx, d.db, accountID, principal)
	if err != nil {
		return nil, err
	}
	rows, _ := d.db.Query(ctx, fmt.Sprintf(selectPolicies, "at.created_at")+`
		JOIN policy_attachment at ON at.policy_id = p.id
		WHERE at.principal_id = $2 AND at.resource_group_id = '' ORDER BY p.account_id IS NOT NULL, p.name`, accountID, id)
	policies, err := pgx.CollectRows(rows, pgx.RowToStructByName[Policy])
	if err != nil {
		return nil, fmt.Errorf("read the policies: %w", err)
	}
	return policies, nil
}

// Entities are those of an account who have a policy for the whole account, each kind by name.
type Entities struct {
	Users  []User
	Groups []Group
	Roles  []Role
}

// EntitiesOf returns who in the account has the policy.
func (d *Directory) EntitiesOf(ctx context.Context, accountID string, name PolicyName) (Entities, error) {
	policy, err := findPolicy(ctx, d.db, accountID, name)
	if err != nil {
		return Entities{}, err
	}
	const having = ` a.policy_id = $1 AND a.resource_group_id = ''`
	var e Entities
	rows, _ := d.db.Query(ctx, `
		SELECT `+userColumns+`, a.created_at AS since FROM policy_attachment a JOIN ram_user u ON u.id = a.user_id
		WHERE u.account_id = $2 AND`+having+` ORDER BY u.name`, policy.ID, accountID)
	if e.Users, err = pgx.CollectRows(rows, pgx.RowToStructByName[User]); err != nil {
		return Entities{}, fmt.Errorf("read the users: %w", err)
	}
	rows, _ = d.db.Query(ctx, `
		SELECT `+groupColumns+`, a.created_at AS since FROM policy_attachment a JOIN ram_group g ON g.id = a.group_id
		WHERE g.account_id = $2 AND`+having+` ORDER BY g.name`, policy.ID, accountID)
	if e.Groups, err = pgx.CollectRows(rows, pgx.RowToStructByName[Group]); err != nil {
		return Entities{}, fmt.Errorf("read the groups: %w", err)
	}
	rows, _ = d.db.Query(ctx, `
		SELECT `+roleColumns+`, a.created_at AS since FROM policy_attachment a JOIN ram_role r ON r.id = a.role_id
		WHERE r.account_id = $2 AND`+having+` ORDER BY r.name`, policy.ID, accountID)
	if e.Roles, err = pgx.CollectRows(rows, pgx.RowToStructByName[Role]); err != nil {
		return Entities{}, fmt.Errorf("read the roles: %w", err)
	}
	return e, nil
}

// Attached is an Attachment as it is listed.
type Attached struct {
	PolicyName
	Description     string
	Kind            string // User, Group or Role
	Principal       string
	ResourceGroupID string
	Source          string // FromAPI or FromFile
	CreatedAt       time.Time
}

// AttachedFilter says which attachments are meant: "" is any.
type AttachedFilter struct {
	AccountID            string
	WholeAccount         bool   // those for the whole account only
	ResourceGroupID      string // those for this group only
	PolicyType, Policy   string
	Kind, Principal      string
	PageNumber, PageSize int
}

// Attachments returns a page of the account's attachments, by policy and principal, and how many there are in all.
func (d *Directory) Attachments(ctx context.Context, f AttachedFilter) (page []Attached, total int, err error) {
	const matching = `
		FROM policy_attachment a JOIN policy p ON p.id = a.policy_id
		LEFT JOIN ram_user u ON u.id = a.user_id LEFT JOIN ram_group g ON g.id = a.group_id LEFT JOIN ram_role r ON r.id = a.role_id
		CROSS JOIN LATERAL (SELECT CASE WHEN p.account_id IS NULL THEN 'System' ELSE 'Custom' END AS type,
			CASE WHEN a.user_id IS NOT NULL THEN 'User' WHEN a.group_id IS NOT NULL THEN 'Group' ELSE 'Role' END AS kind,
			coalesce(u.name, g.name, r.name) AS principal) AS x
		WHERE $1 IN (u.account_id, g.account_id, r.account_id) AND (NOT $2 OR a.resource_group_id = '')
			AND ($3 = '' OR a.resource_group_id = $3) AND ($4 = '' OR x.type = $4) AND ($5 = '' OR p.name = $5)
			AND ($6 = '' OR x.kind = $6) AND ($7 = '' OR x.principal = $7)`
	which := []any{f.AccountID, f.WholeAccount, f.ResourceGroupID, f.PolicyType, f.Policy, f.Kind, f.Principal}
	if err := d.db.QueryRow(ctx, `SELECT count(*)`+matching, which...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count the attachments: %w", err)
	}
	rows, _ := d.db.Query(ctx, `
		SELECT x.type, p.name, p.description, x.kind, x.principal, a.resource_group_id, a.source, a.created_at`+matching+`
		ORDER BY p.account_id IS NOT NULL, p.name, x.kind, x.principal, a.resource_group_id LIMIT $8 OFFSET $9`,
		append(which, f.PageSize, (f.PageNumber-1)*f.PageSize)...)
	page, err = pgx.CollectRows(rows, pgx.RowToStructByName[Attached])
	if err != nil {
		return nil, 0, fmt.Errorf("read the attachments: %w", err)
	}
	return page, total, nil
}
