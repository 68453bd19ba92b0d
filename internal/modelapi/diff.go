package modelapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Change is one difference between two states of an API.
type Change struct {
	Path   string // basePath, routes[search].match.path.value
	Before any    // nil: it was not there
	After  any    // nil: it is not there any more
}

// Difference is what changes from one state of an API to another.
type Difference struct {
	From    int64 // a revision; 0: nothing at all
	To      int64 // a revision; 0: the stored state
	Changes []Change
}

// Diff compares two revisions of the account's API. From 0 is the deployed one, or nothing; to 0 is the stored state.
func (a *APIs) Diff(ctx context.Context, accountID, id string, from, to int64) (d Difference, err error) {
	err = pgx.BeginTxFunc(ctx, a.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		s, err := a.get(ctx, tx, accountID, id)
		if err != nil {
			return err
		}
		if from == 0 {
			from = s.DeployedRevision
		}
		var before, after *Definition
		if before, err = s.state(ctx, tx, from, nil); err != nil {
			return err
		}
		if after, err = s.state(ctx, tx, to, &s.Definition); err != nil {
			return err
		}
		d = Difference{From: from, To: to}
		d.Changes, err = changesBetween(ctx, tx, accountID, before, after)
		return err
	})
	return d, err
}

// state returns the content of a revision, or otherwise for 0.
func (s *stored) state(ctx context.Context, tx pgx.Tx, number int64, otherwise *Definition) (*Definition, error) {
	if number == 0 {
		return otherwise, nil
	}
	found, err := revision(ctx, tx, s.ID, number)
	return &found.Content, err
}

func changesBetween(ctx context.Context, db queryer, accountID string, before, after *Definition) ([]Change, error) {
	if before == nil {
		known, err := namesIn(ctx, db, accountID, after)
		if err != nil {
			return nil, err
		}
		return changes(nil, known.document(after))
	}
	known, err := namesIn(ctx, db, accountID, before, after)
	if err != nil {
		return nil, err
	}
	return changes(known.document(before), known.document(after))
}

// changes compares two documents, of which before may be nil.
func changes(before, after any) ([]Change, error) {
	old, err := asJSON(before)
	if err != nil {
		return nil, err
	}
	next, err := asJSON(after)
	if err != nil {
		return nil, err
	}
	if old == nil {
		old = map[string]any{}
	}
	found := []Change{}
	compare("", old, next, &found)
	return found, nil
}

// asJSON turns a value into what JSON makes of it.
func asJSON(value any) (any, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var decoded any
	return decoded, decoder.Decode(&decoded)
}

// compare notes where two values differ, as deep down as both have the same shape.
func compare(path string, before, after any, found *[]Change) {
	if old, ok := before.(map[string]any); ok {
		if next, ok := after.(map[string]any); ok {
			compareMembers(old, next, func(name string) string {
				if path == "" {
					return name
				}
				return path + "." + name
			}, found)
			return
		}
	}
	if old, next, ok := named(before, after); ok {
		old.ranked = old.ranked || strings.HasSuffix(path, "aiFallbackConfig.serviceConfigs")
		already := len(*found)
		compareMembers(old.items, next.items, func(name string) string { return path + "[" + name + "]" }, found)
		if len(*found) > already && (!old.ranked || old.ordered(next)) {
			return // otherwise they differ in their order, if at all
		}
	}
	if !reflect.DeepEqual(before, after) {
		*found = append(*found, Change{path, before, after})
	}
}

func compareMembers(before, after map[string]any, path func(name string) string, found *[]Change) {
	all := maps.Clone(before)
	maps.Copy(all, after)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		compare(path(name), before[name], after[name], found)
	}
}

// namedList is a list's items by what tells them apart.
type namedList struct {
	items  map[string]any
	names  []string // in the order of the list
	ranked bool     // the order decides: the first whose pattern matches is taken, or who is asked next
}

// ordered reports whether what is in both lists is in the same order.
func (l namedList) ordered(other namedList) bool {
	common := func(names []string, in map[string]any) []string {
		return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return in[name] == nil })
	}
	return slices.Equal(common(l.names, other.items), common(other.names, l.items))
}

// named returns the items of two lists by what tells them apart, if both are lists of such items: their names, and where
// one of the lists has a name more than once, also what each is there for.
func named(before, after any) (old, next namedList, ok bool) {
	first, ok := members(before)
	if !ok {
		return old, next, false
	}
	second, ok := members(after)
	if !ok {
		return old, next, false
	}
	several := map[string]bool{}
	for _, list := range [][]map[string]any{first, second} {
		seen := map[string]bool{}
		for _, item := range list {
			name := nameOf(item)
			several[name] = several[name] || seen[name]
			seen[name] = true
		}
	}
	old, ok = byName(first, several)
	if !ok {
		return old, next, false
	}
	next, ok = byName(second, several)
	return old, next, ok
}

// members returns the items of a list of objects that have names.
func members(value any) ([]map[string]any, bool) {
	list, ok := value.([]any)
	if !ok {
		return nil, false
	}
	items := make([]map[string]any, len(list))
	for i := range list {
		if items[i], ok = list[i].(map[string]any); !ok || items[i]["name"] == nil && items[i]["type"] == nil {
			return nil, false
		}
	}
	return items, true
}

func nameOf(item map[string]any) string { return fmt.Sprint(either(item["name"], item["type"])) }

func either(a, b any) any {
	if a != nil {
		return a
	}
	return b
}

// byName keys items by their names, and those of which there are several by their pattern or model too. It returns false
// when some are alike even then.
func byName(items []map[string]any, several map[string]bool) (namedList, bool) {
	l := namedList{items: make(map[string]any, len(items))}
	for _, item := range items {
		name := nameOf(item)
		if purpose := either(either(item["modelNamePattern"], item["modelName"]), item["targetModelName"]); several[name] && purpose != nil {
			name += ":" + fmt.Sprint(purpose)
		}
		if l.items[name] != nil {
			return l, false
		}
		l.items[name], l.names = item, append(l.names, name)
		l.ranked = l.ranked || item["modelNamePattern"] != nil
	}
	return l, true
}
