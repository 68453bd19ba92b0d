package instance

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/ids"
)

// The refusals about IP arrays.
var (
	ErrIPArrayNotFound = fault.New(fault.NotFound, "InvalidDBInstanceIPArrayName.NotFound",
		"The IP array does not exist.", "Call DescribeDBInstanceIPArrayList for the arrays of this DB instance.")
	ErrIPListNotFound = fault.New(fault.NotFound, "InvalidSecurityIPList.NotFound",
		"The IP array has no such entry.", "Call DescribeDBInstanceIPArrayList for its entries.")
	ErrIPArrayQuota = fault.New(fault.Denied, "QuotaExceeded.DBInstanceIPArray",
		"A DB instance has at most 50 IP arrays.",
		"Delete one first: ModifySecurityIps with ModifyMode=Delete takes out entries, and an array goes with its last.")
)

const maxIPArrays = 50 // of an instance, without those of single model services

var ipArrayName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{1,63}$`)

// IPArray is a list of addresses that may call.
type IPArray struct {
	Name      string
	Attribute string
	List      string // comma-separated
}

// IPMode is what is done with the entries of an IPChange.
type IPMode int

// The modes.
const (
	Cover  IPMode = iota // they take the place of the array's
	Append               // they are added to them
	Delete               // they are taken out
)

// IPChange changes one IP array of the account's instance. An array that is named like a model service is that service's
// own; when it has none yet, it begins as the array "default".
type IPChange struct {
	AccountID    string
	DBInstanceID string
	Array        string  // "": default
	Attribute    *string // nil: as it is
	Mode         IPMode
	List         string
}

// Complete fills in the array's name, and refuses one that is not a name.
func (c *IPChange) Complete() error {
	if c.Array == "" || strings.EqualFold(c.Array, DefaultIPArray) { // sister products write it with a capital
		c.Array = DefaultIPArray
	}
	if !ipArrayName.MatchString(c.Array) {
		return fault.InvalidParameter("DBInstanceIPArrayName", "it is default, the id of a model service, or 2 to 64 letters, "+
			"digits, '_' and '-' that begin with a letter.")
	}
	return nil
}

// OfService reports whether the array is named like a model service.
func (c *IPChange) OfService() bool { return strings.HasPrefix(c.Array, ids.ModelService+"-") }

// ChangeIPArray makes the completed change in the caller's transaction, under a lock on the instance. Whether a model
// service that the array is named like exists is for the caller to find out.
func ChangeIPArray(ctx context.Context, tx pgx.Tx, c IPChange) error {
	listed, err := ParseIPList(c.List)
	if err != nil {
		return err
	}
	if err := lock(ctx, tx, c.AccountID, c.DBInstanceID); err != nil {
		return err
	}
	current, found, err := c.current(ctx, tx)
	if err != nil {
		return err
	}
	entries, err := c.apply(current, listed)
	switch {
	case err != nil:
		return err
	case !found && c.Mode == Delete && !c.OfService():
		return ErrIPArrayNotFound.Withf("The IP array %s does not exist. Call DescribeDBInstanceIPArrayList for the arrays of this DB instance.", c.Array)
	case len(entries) > 0:
		return c.write(ctx, tx, entries, found)
	case c.Array == DefaultIPArray || c.OfService():
		return c.write(ctx, tx, []string{DefaultIPList}, found)
	}
	_, err = tx.Exec(ctx, `DELETE FROM ip_array WHERE db_instance_id = $1 AND name = $2`, c.DBInstanceID, c.Array)
	return err
}

// current returns the entries that the change is made to, and whether the array is there.
func (c *IPChange) current(ctx context.Context, tx pgx.Tx) (entries []string, found bool, err error) {
	err = tx.QueryRow(ctx, `
		SELECT entries, name = $2 FROM ip_array
		WHERE db_instance_id = $1 AND (name = $2 OR $3 AND name = $4)
		ORDER BY name = $2 DESC LIMIT 1`, c.DBInstanceID, c.Array, c.OfService(), DefaultIPArray).Scan(&entries, &found)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, false, nil
	}
	return entries, found, err
}

// apply returns what the array holds after the change. Entries are the same when they mean the same addresses.
func (c *IPChange) apply(current, listed []string) ([]string, error) {
	if c.Mode == Cover {
		return listed, nil
	}
	prefixes, err := Prefixes(current)
	if err != nil {
		return nil, err
	}
	wanted, err := Prefixes(listed)
	if err != nil {
		return nil, err
	}
	if c.Mode == Append {
		return appendEntries(current, prefixes, listed, wanted)
	}
	for n, prefix := range wanted {
		if !slices.Contains(prefixes, prefix) {
			return nil, ErrIPListNotFound.Withf("The IP array %s has no entry %s. Call DescribeDBInstanceIPArrayList for its entries.", c.Array, listed[n])
		}
	}
	var left []string
	for n, prefix := range prefixes {
		if !slices.Contains(wanted, prefix) {
			left = append(left, current[n])
		}
	}
	return left, nil
}

// appendEntries adds what is not there yet: the call has no token, and may be sent again.
func appendEntries(current []string, prefixes []netip.Prefix, listed []string, wanted []netip.Prefix) ([]string, error) {
	for n, prefix := range wanted {
		if !slices.Contains(prefixes, prefix) {
			current = append(current, listed[n])
		}
	}
	if len(current) > maxIPEntries {
		return nil, ErrIPListLength.Withf("The IP array would hold %d entries; at most %d are allowed.", len(current), maxIPEntries)
	}
	return current, nil
}

func (c *IPChange) write(ctx context.Context, tx pgx.Tx, entries []string, found bool) error {
	if !found && !c.OfService() {
		var arrays int
		if err := tx.QueryRow(ctx, `
			SELECT count(*) FROM ip_array WHERE db_instance_id = $1 AND NOT starts_with(name, $2)`,
			c.DBInstanceID, ids.ModelService+"-").Scan(&arrays); err != nil {
			return err
		}
		if arrays >= maxIPArrays {
			return ErrIPArrayQuota
		}
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO ip_array (db_instance_id, name, attribute, entries) VALUES ($1, $2, coalesce($3, ''), $4)
		ON CONFLICT (db_instance_id, name) DO UPDATE SET attribute = coalesce($3, ip_array.attribute), entries = excluded.entries`,
		c.DBInstanceID, c.Array, c.Attribute, entries)
	if err != nil {
		return fmt.Errorf("write the IP array %s: %w", c.Array, err)
	}
	return nil
}

// IPArrays returns the instance's IP arrays, "default" first and the others by name; with a name only the one of that name.
func (i *Instances) IPArrays(ctx context.Context, accountID, dbInstanceID, name string) ([]IPArray, error) {
	if err := Exists(ctx, i.db, accountID, dbInstanceID); err != nil {
		return nil, err
	}
	rows, err := i.db.Query(ctx, `
		SELECT name, attribute, array_to_string(entries, ',') AS list FROM ip_array
		WHERE db_instance_id = $1 AND ($2 = '' OR lower(name) = lower($2) AND lower($2) = $3 OR name = $2)
		ORDER BY name <> $3, name`, dbInstanceID, name, DefaultIPArray)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[IPArray])
}
