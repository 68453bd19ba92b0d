package resource

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/fault"
)

const (
	maxIDs  = 50 // of one call
	maxTags = 20 // of one call, and of one resource
	maxText = 128
)

// Tag is a key with its value, put on a resource by whoever owns it. It has no effect.
type Tag struct {
	Key   string
	Value string
}

// Tagged is a tag and the resource it is on.
type Tagged struct {
	ResourceID string
	Kind       string
	Tag
}

// Filter says whose tags to list. At least one of IDs and Tags is given.
type Filter struct {
	Kind      string
	IDs       []string // empty: resources of any id
	Tags      []Tag    // only resources that have all of these; an empty value is any
	NextToken string   // of the page before
}

// Tag puts tags on the account's resources, over what their keys hold: on all of them or on none.
func (r *Resources) Tag(ctx context.Context, accountID, kindName string, resourceIDs []string, tags []Tag) error {
	kind, err := r.kind(kindName)
	if err != nil {
		return err
	}
	if len(tags) == 0 {
		return fault.MissingParameter("tag")
	}
	resourceIDs = distinct(resourceIDs)
	if err := cmp.Or(checkIDs("resourceId", resourceIDs, 1), CheckTags(tags)); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, r.db, func(tx pgx.Tx) error {
		if err := lock(ctx, tx, kind, accountID, resourceIDs); err != nil {
			return err
		}
		for _, id := range resourceIDs {
			if err := InsertTags(ctx, tx, id, tags); err != nil {
				return err
			}
		}
		if err := checkQuota(ctx, tx, resourceIDs); err != nil {
			return err
		}
		return record(ctx, tx, resourceIDs)
	})
}

// Untag takes the tags with these keys, or all of them, off the account's resources. Keys that are not there stay away.
func (r *Resources) Untag(ctx context.Context, accountID, kindName string, resourceIDs, keys []string, all bool) error {
	kind, err := r.kind(kindName)
	if err != nil {
		return err
	}
	resourceIDs = distinct(resourceIDs)
	if err := checkIDs("ResourceId", resourceIDs, 1); err != nil {
		return err
	}
	switch {
	case len(keys) == 0 && !all:
		return fault.MissingParameter("TagKey")
	case len(keys) > maxTags:
		return fault.InvalidParameter("TagKey", fmt.Sprintf("name at most %d keys; these are %d.", maxTags, len(keys)))
	}
	return pgx.BeginFunc(ctx, r.db, func(tx pgx.Tx) error {
		if err := lock(ctx, tx, kind, accountID, resourceIDs); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `
			DELETE FROM resource_tag WHERE resource_id = ANY ($1) AND (cardinality($2::text[]) = 0 OR key = ANY ($2))`,
			resourceIDs, append([]string{}, keys...)); err != nil {
			return fmt.Errorf("delete the tags: %w", err)
		}
		return record(ctx, tx, resourceIDs)
	})
}

// tagsPerPage is how many tags a page of ListTags holds: no fewer than one resource can have.
const tagsPerPage = 100

// ListTags returns one page of the tags on the account's resources, in the order of their ids and keys, and the token
// of the next page, "" behind the last. Ids that the account does not have are passed over.
func (r *Resources) ListTags(ctx context.Context, accountID string, f Filter) (page []Tagged, next string, err error) {
	kind, err := r.kind(f.Kind)
	if err != nil {
		return nil, "", err
	}
	if len(f.IDs) == 0 && len(f.Tags) == 0 {
		return nil, "", ErrBothEmpty
	}
	if err := cmp.Or(checkIDs("ResourceId", f.IDs, 0), checkCount("Tag", len(f.Tags))); err != nil {
		return nil, "", err
	}
	afterID, afterKey, err := readToken(f.NextToken)
	if err != nil {
		return nil, "", err
	}
	keys, values := Columns(f.Tags)
	rows, err := r.db.Query(ctx, `
		SELECT t.resource_id, $8, t.key, t.value
		FROM resource_tag t JOIN `+kind.Table+` r ON r.id = t.resource_id
		WHERE r.account_id = $1 AND (cardinality($2::text[]) = 0 OR r.id = ANY ($2))
			AND (t.resource_id, t.key) > ($5, $6)
			AND `+HasTags("r.id", "$3", "$4")+`
		ORDER BY t.resource_id, t.key
		LIMIT $7`, accountID, append([]string{}, f.IDs...), keys, values, afterID, afterKey, tagsPerPage+1, kind.Name)
	if err != nil {
		return nil, "", err
	}
	page, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Tagged, err error) {
		return t, row.Scan(&t.ResourceID, &t.Kind, &t.Key, &t.Value)
	})
	if err != nil {
		return nil, "", fmt.Errorf("list the tags: %w", err)
	}
	if len(page) > tagsPerPage {
		page = page[:tagsPerPage]
		next = writeToken(page[tagsPerPage-1])
	}
	return page, next, nil
}

// A token is the place of the last tag of its page. It is not secret: what it leads to is the account's own.
func writeToken(last Tagged) string {
	return base64.RawURLEncoding.EncodeToString([]byte(last.ResourceID + "\n" + last.Key))
}

func readToken(token string) (id, key string, err error) {
	text, err := base64.RawURLEncoding.DecodeString(token)
	id, key, ok := strings.Cut(string(text), "\n")
	if err != nil || token != "" && !ok || !utf8.Valid(text) || slices.Contains(text, 0) {
		return "", "", fault.InvalidParameter("NextToken", "send the NextToken of the answer before, or none for the first page.")
	}
	return id, key, nil
}

// HasTags is a condition of SQL: the resource of this id has all tags of the two parameters, which Columns returns.
func HasTags(id, keys, values string) string {
	return `NOT EXISTS (
		SELECT FROM unnest(` + keys + `::text[], ` + values + `::text[]) w (key, value) WHERE NOT EXISTS (
			SELECT FROM resource_tag o WHERE o.resource_id = ` + id + ` AND o.key = w.key AND (w.value = '' OR o.value = w.value)))`
}

// Columns returns the tags as two parameters of SQL.
func Columns(tags []Tag) (keys, values []string) {
	keys, values = make([]string, len(tags)), make([]string, len(tags))
	for n, t := range tags {
		keys[n], values[n] = t.Key, t.Value
	}
	return keys, values
}

func distinct(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

func checkIDs(parameter string, list []string, least int) error {
	if len(list) < least {
		return fault.MissingParameter(parameter)
	}
	if len(list) > maxIDs {
		return fault.InvalidParameter(parameter, fmt.Sprintf("name at most %d resources; these are %d.", maxIDs, len(list)))
	}
	return nil
}

func checkCount(parameter string, n int) error {
	if n > maxTags {
		return fault.InvalidParameter(parameter, fmt.Sprintf("%d tags are given; at most %d are allowed.", n, maxTags))
	}
	return nil
}

// CheckTags checks tags before they are put on a resource.
func CheckTags(tags []Tag) error {
	if err := checkCount("tag", len(tags)); err != nil {
		return err
	}
	seen := map[string]bool{}
	for n, t := range tags {
		at := fmt.Sprintf("tag.%d.", n+1)
		switch lower := strings.ToLower(t.Key); {
		case t.Key == "" || utf8.RuneCountInString(t.Key) > maxText:
			return fault.InvalidParameter(at+"key", fmt.Sprintf("a key has 1 to %d characters.", maxText))
		case utf8.RuneCountInString(t.Value) > maxText:
			return fault.InvalidParameter(at+"value", fmt.Sprintf("a value has at most %d characters.", maxText))
		case strings.HasPrefix(lower, "aliyun"), strings.HasPrefix(lower, "acs:"):
			return fault.InvalidParameter(at+"key", "keys that begin with aliyun or acs: are the system's own.")
		case strings.ContainsRune(t.Key+t.Value, 0), strings.Contains(t.Key, "\n"):
			return fault.InvalidParameter(at+"key", "it holds a null character or a line break.")
		case seen[t.Key]:
			return fault.InvalidParameter(at+"key", "the key is there twice.")
		}
		seen[t.Key] = true
	}
	return nil
}

// InsertTags puts checked tags on a resource in the transaction of its owner.
func InsertTags(ctx context.Context, tx pgx.Tx, resourceID string, tags []Tag) error {
	if len(tags) == 0 {
		return nil
	}
	keys, values := Columns(tags)
	if _, err := tx.Exec(ctx, `
		INSERT INTO resource_tag (resource_id, key, value) SELECT $1, t.* FROM unnest($2::text[], $3::text[]) t
		ON CONFLICT (resource_id, key) DO UPDATE SET value = excluded.value`, resourceID, keys, values); err != nil {
		return fmt.Errorf("insert the tags of %s: %w", resourceID, err)
	}
	return nil
}

// Queryer runs a query: a transaction or a pool.
type Queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// TagsOf returns the tags of resources by their ids, in the order of their keys.
func TagsOf(ctx context.Context, db Queryer, resourceIDs []string) (map[string][]Tag, error) {
	rows, err := db.Query(ctx, `
		SELECT resource_id, key, value FROM resource_tag WHERE resource_id = ANY ($1) ORDER BY key`, resourceIDs)
	if err != nil {
		return nil, err
	}
	found := map[string][]Tag{}
	var id string
	var t Tag
	_, err = pgx.ForEachRow(rows, []any{&id, &t.Key, &t.Value}, func() error {
		found[id] = append(found[id], t)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the tags: %w", err)
	}
	return found, nil
}

// DeleteTags takes all tags off resources, in the transaction that deletes those and after it has.
func DeleteTags(ctx context.Context, tx pgx.Tx, resourceIDs ...string) error {
	if _, err := tx.Exec(ctx, `DELETE FROM resource_tag WHERE resource_id = ANY ($1)`, resourceIDs); err != nil {
		return fmt.Errorf("delete the tags: %w", err)
	}
	return nil
}

// checkQuota refuses what the transaction put on the locked resources if one has too many now.
func checkQuota(ctx context.Context, tx pgx.Tx, resourceIDs []string) error {
	rows, err := tx.Query(ctx, `
		SELECT resource_id FROM resource_tag WHERE resource_id = ANY ($1)
		GROUP BY resource_id HAVING count(*) > $2
		ORDER BY resource_id LIMIT 1`, resourceIDs, maxTags)
	if err != nil {
		return err
	}
	full, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("count the tags: %w", err)
	}
	if len(full) > 0 {
		return fault.InvalidParameter("tag", fmt.Sprintf("%s would have more than %d tags. Take some off it first.", full[0], maxTags))
	}
	return nil
}
