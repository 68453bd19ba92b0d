package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/secret"
)

// The roles. The owner owns the tables and nothing runs as it but the migrations; the two programs have one each.
const (
	OwnerRole   = "engineshed_owner"
	ControlRole = "engineshed_control"
	GatewayRole = "engineshed_gateway"
)

// RolePasswords are the passwords that missing roles are made with. A role that exists keeps its own.
type RolePasswords struct {
	Owner, Control, Gateway secret.Secret
}

// prepareDatabase gives the owner its place in this database and takes from everybody what a database gives by default.
const prepareDatabase = `
	DO $$ BEGIN
		EXECUTE format('GRANT CREATE, CONNECT, TEMPORARY ON DATABASE %I TO engineshed_owner', current_database());
		EXECUTE format('GRANT CONNECT ON DATABASE %I TO engineshed_control, engineshed_gateway', current_database());
		EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
	END $$;
	GRANT CREATE, USAGE ON SCHEMA public TO engineshed_owner;
	GRANT USAGE ON SCHEMA public TO engineshed_control, engineshed_gateway;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;`

// prepareRoles makes the roles that are missing. Connected as the owner itself there is nothing to prepare.
func prepareRoles(ctx context.Context, admin *pgx.Conn, passwords RolePasswords) error {
	var user string
	var mayCreate, isSuper bool
	err := admin.QueryRow(ctx, `
		SELECT current_user, rolcreaterole OR rolsuper, rolsuper FROM pg_roles WHERE rolname = current_user`,
	).Scan(&user, &mayCreate, &isSuper)
	if err != nil || user == OwnerRole {
		return err
	}
	for _, role := range []struct {
		name     string
		password secret.Secret
	}{{OwnerRole, passwords.Owner}, {ControlRole, passwords.Control}, {GatewayRole, passwords.Gateway}} {
		if err := createRole(ctx, admin, role.name, role.password, mayCreate); err != nil {
			return err
		}
	}
	if !isSuper { // to act as the owner; a superuser may anyway
		if _, err := admin.Exec(ctx, `GRANT engineshed_owner TO CURRENT_USER`); err != nil {
			return fmt.Errorf("become a member of %s: %w", OwnerRole, err)
		}
	}
	if _, err := admin.Exec(ctx, prepareDatabase); err != nil {
		return fmt.Errorf("prepare the database as %s, which must own it: %w", user, err)
	}
	return nil
}

func createRole(ctx context.Context, admin *pgx.Conn, name string, password secret.Secret, mayCreate bool) error {
	var exists bool
	err := admin.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, name).Scan(&exists)
	if err != nil || exists {
		return err
	}
	switch {
	case !mayCreate:
		return fmt.Errorf("the role %s is missing and %s may not create roles: connect as a role with CREATEROLE", name, admin.Config().User)
	case password.IsZero():
		return fmt.Errorf("the role %s is missing and there is no password to make it with", name)
	}
	verifier, err := scramVerifier(password.Reveal())
	if err != nil {
		return err
	}
	// Neither a name nor a password can be a parameter here; the verifier is base64 and needs no quoting.
	_, err = admin.Exec(ctx, fmt.Sprintf(`CREATE ROLE %s LOGIN NOINHERIT PASSWORD '%s'`, name, verifier))
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "42710" || pg.Code == "23505") {
		return nil // another database of this server was migrated at the same moment
	}
	if err != nil {
		return fmt.Errorf("create the role %s: %w", name, err)
	}
	return nil
}

// CheckControlRights refuses a connection with more rights than the control plane needs.
func CheckControlRights(ctx context.Context, db *pgxpool.Pool) error {
	return checkRights(ctx, db, ControlRole, `has_table_privilege('audit_event', 'UPDATE, DELETE, TRUNCATE')`)
}

// CheckGatewayRights refuses a connection with more rights than a gateway needs.
func CheckGatewayRights(ctx context.Context, db *pgxpool.Pool) error {
	return checkRights(ctx, db, GatewayRole, `has_table_privilege('access_key', 'SELECT, INSERT, UPDATE, DELETE') OR
		has_table_privilege('published_item', 'INSERT, UPDATE, DELETE')`)
}

// checkRights looks for rights that no program of ours has, and for those that this one must not have.
func checkRights(ctx context.Context, db *pgxpool.Pool, role, tooMuch string) error {
	var user string
	var isSuper, mayCreate, owns, more bool
	err := db.QueryRow(ctx, `
		SELECT current_user, rolsuper OR rolbypassrls OR rolreplication, rolcreaterole OR rolcreatedb,
		       EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
		               AND pg_has_role(c.relowner, 'MEMBER')),
		       `+tooMuch+`
		FROM pg_roles WHERE rolname = current_user`,
	).Scan(&user, &isSuper, &mayCreate, &owns, &more)
	if err != nil {
		return fmt.Errorf("look at the rights of the database role: %w", err)
	}
	if isSuper || mayCreate || owns || more {
		return fmt.Errorf("the database role %s has more rights than this program's role: connect as %s", user, role)
	}
	return nil
}
