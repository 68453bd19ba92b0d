package consumer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/postgres"
)

// CreateRules authorizes all of the specs or none, and returns the ids of the rules in their order.
func (c *Consumers) CreateRules(ctx context.Context, accountID string, specs []RuleSpec) ([]string, error) {
	if err := checkRules(specs); err != nil {
		return nil, err
	}
	ruleIDs := make([]string, len(specs))
	for n := range specs {
		ruleIDs[n] = ids.New(ids.AuthorizationRule)
	}
	err := pgx.BeginFunc(ctx, c.db, func(tx pgx.Tx) error {
		environments, err := lockAPIs(ctx, tx, accountID, specs)
		if err != nil {
			return err
		}
		reached, err := lockPrincipals(ctx, tx, accountID, specs)
		if err != nil {
			return err
		}
		for n, spec := range specs {
			if spec.EnvironmentID == "" {
				spec.EnvironmentID = environments[spec.APIID]
			}
			if err := insertRule(ctx, tx, accountID, ruleIDs[n], spec); err != nil {
				return err
			}
		}
		if err := c.touch(ctx, tx, reached); err != nil {
			return err
		}
		return record(ctx, tx, strings.Join(ruleIDs, ","))
	})
	if err != nil {
		return nil, err
	}
	return ruleIDs, nil
}

func checkRules(specs []RuleSpec) error {
	if err := checkCount("authorizationRules", len(specs)); err != nil {
		return err
	}
	for _, spec := range specs {
		switch {
		case (spec.ConsumerID == "") == (spec.GroupID == ""):
			return fault.InvalidParameter("authorizationRules", "a rule names a consumerId or a consumerGroupId, and not both.")
		case spec.ResourceType != ModelAPI:
			return fault.ErrUnsupported.Withf("The parameter resourceType has a value that is not supported: only LLM, a Model API, is.")
		case spec.APIID == "":
			return fault.MissingParameter("resourceIdentifier.resourceId")
		case spec.ExpireMode != "" && spec.ExpireMode != "LongTerm":
			return fault.ErrUnsupported.Withf("The parameter expireMode has a value that is not supported: only LongTerm is. Delete the rule to revoke it.")
		}
	}
	return nil
}

// lockAPIs holds the Model APIs that the rules name against being deleted, and returns the environment of each.
func lockAPIs(ctx context.Context, tx pgx.Tx, accountID string, specs []RuleSpec) (map[string]string, error) {
	wanted := make([]string, len(specs))
	for n, spec := range specs {
		wanted[n] = spec.APIID
	}
	rows, err := tx.Query(ctx, `
		SELECT id, environment_id FROM http_api WHERE id = ANY ($1) AND account_id = $2 ORDER BY id FOR KEY SHARE`, wanted, accountID)
	if err != nil {
		return nil, err
	}
	environments := make(map[string]string, len(specs))
	var id, environment string
	if _, err := pgx.ForEachRow(rows, []any{&id, &environment}, func() error {
		environments[id] = environment
		return nil
	}); err != nil {
		return nil, fmt.Errorf("lock the Model APIs: %w", err)
	}
	for _, spec := range specs {
		switch in, found := environments[spec.APIID]; {
		case !found:
			return nil, ErrAPINotFound.Withf("The Model API %.64q does not exist. Call ListHttpApis for the ids of this account.", spec.APIID)
		case spec.EnvironmentID != "" && spec.EnvironmentID != in:
			return nil, ErrEnvironmentNotFound.Withf("The Model API %s is in the environment %s, not in %.64q.", spec.APIID, in, spec.EnvironmentID)
		}
	}
	return environments, nil
}

// lockPrincipals locks whom the rules name and returns the consumers that they reach.
func lockPrincipals(ctx context.Context, tx pgx.Tx, accountID string, specs []RuleSpec) ([]string, error) {
	var consumerIDs, groupIDs []string
	for _, spec := range specs {
		if spec.GroupID != "" {
			groupIDs = append(groupIDs, spec.GroupID)
		} else {
			consumerIDs = append(consumerIDs, spec.ConsumerID)
		}
	}
	if err := lockGroups(ctx, tx, accountID, groupIDs); err != nil {
		return nil, err
	}
	return lockReached(ctx, tx, accountID, consumerIDs, groupIDs)
}

func insertRule(ctx context.Context, tx pgx.Tx, accountID, id string, spec RuleSpec) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO authorization_rule (id, account_id, consumer_id, group_id, http_api_id, environment_id)
		VALUES ($1, $2, nullif($3, ''), nullif($4, ''), $5, $6)`,
		id, accountID, spec.ConsumerID, spec.GroupID, spec.APIID, spec.EnvironmentID)
	if postgres.IsUniqueViolation(err, "authorization_rule_pair") {
		return ErrRuleExists.Withf("%s%s may call the Model API %s already.", spec.ConsumerID, spec.GroupID, spec.APIID)
	}
	if err != nil {
		return fmt.Errorf("insert the authorization rule: %w", err)
	}
	return nil
}

// ListRules returns one page of the account's rules, oldest first, and how many there are in all.
func (c *Consumers) ListRules(ctx context.Context, accountID string, f RuleFilter) ([]Rule, int, error) {
	found, total, err := list(ctx, c.db, `
		r.id, coalesce(r.consumer_id, ''), coalesce(c.name, ''), coalesce(c.enabled, false), coalesce(r.group_id, ''),
		coalesce(g.name, ''), a.id, a.name, e.id, e.name, e.alias, w.id, w.name, r.created_at, r.updated_at`, `
		FROM authorization_rule r
		LEFT JOIN consumer c ON c.id = r.consumer_id
		LEFT JOIN consumer_group g ON g.id = r.group_id
		JOIN http_api a ON a.id = r.http_api_id
		JOIN environment e ON e.id = r.environment_id
		JOIN gateway w ON w.id = e.gateway_id
		WHERE r.account_id = $1 AND ($2 = '' OR r.consumer_id = $2) AND ($3 = '' OR r.group_id = $3)
			AND ($4 = '' OR $4 = CASE WHEN r.group_id IS NULL THEN 'Consumer' ELSE 'ConsumerGroup' END)
			AND ($5 = '' OR strpos(c.name, $5) > 0) AND ($6 = '' OR strpos(a.name, $6) > 0)
			AND ($7 = '' OR r.http_api_id = $7) AND ($8 = '' OR r.environment_id = $8)`,
		`r.created_at, r.id`, f.Page,
		[]any{
			accountID, f.ConsumerID, f.GroupID, f.PrincipalType, f.ConsumerNameLike, f.APINameLike, f.APIID, f.EnvironmentID,
		}, scanRule)
	if err != nil {
		return nil, 0, fmt.Errorf("list the authorization rules: %w", err)
	}
	return found, total, nil
}

func scanRule(row pgx.CollectableRow) (r Rule, err error) {
	return r, row.Scan(&r.ID, &r.ConsumerID, &r.ConsumerName, &r.ConsumerEnabled, &r.GroupID, &r.GroupName,
		&r.APIID, &r.APIName, &r.EnvironmentID, &r.EnvironmentName, &r.EnvironmentAlias, &r.GatewayID, &r.GatewayName,
		&r.CreatedAt, &r.UpdatedAt)
}

// DeleteRules revokes all of the account's named rules or none.
func (c *Consumers) DeleteRules(ctx context.Context, accountID string, ruleIDs []string) error {
	if err := checkCount("consumerAuthorizationRuleIds", len(ruleIDs)); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, c.db, func(tx pgx.Tx) error {
		principals, err := rulePrincipals(ctx, tx, accountID, ruleIDs)
		if err != nil {
			return err
		}
		reached, err := lockPrincipals(ctx, tx, accountID, principals)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM authorization_rule WHERE id = ANY ($1)`, ruleIDs); err != nil {
			return fmt.Errorf("delete the authorization rules: %w", err)
		}
		if err := c.touch(ctx, tx, reached); err != nil {
			return err
		}
		return record(ctx, tx, strings.Join(ruleIDs, ","))
	})
}

// rulePrincipals returns whom the rules are of and holds their Model APIs against being deleted.
func rulePrincipals(ctx context.Context, tx pgx.Tx, accountID string, ruleIDs []string) ([]RuleSpec, error) {
	rows, err := tx.Query(ctx, `
		SELECT r.id, coalesce(r.consumer_id, ''), coalesce(r.group_id, '')
		FROM authorization_rule r JOIN http_api a ON a.id = r.http_api_id
		WHERE r.id = ANY ($1) AND r.account_id = $2
		ORDER BY a.id FOR KEY SHARE OF a`, ruleIDs, accountID)
	if err != nil {
		return nil, err
	}
	var found []string
	principals, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p RuleSpec, err error) {
		var id string
		err = row.Scan(&id, &p.ConsumerID, &p.GroupID)
		found = append(found, id)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("find the authorization rules: %w", err)
	}
	return principals, allFound(found, ruleIDs, func(id string) error {
		return ErrRuleNotFound.Withf("The authorization rule %.64q does not exist. Call QueryConsumerAuthorizationRules for the ids of this account.", id)
	})
}

// SetRules makes exactly these consumers and groups may call the API, which the caller's transaction has locked.
func (c *Consumers) SetRules(ctx context.Context, tx pgx.Tx, accountID, apiID string, consumerIDs, groupIDs []string) error {
	var wanted []RuleSpec
	for _, id := range consumerIDs {
		wanted = append(wanted, RuleSpec{ConsumerID: id, ResourceType: ModelAPI, APIID: apiID})
	}
	for _, id := range groupIDs {
		wanted = append(wanted, RuleSpec{GroupID: id, ResourceType: ModelAPI, APIID: apiID})
	}
	environments, err := lockAPIs(ctx, tx, accountID, []RuleSpec{{APIID: apiID}})
	if err != nil {
		return err
	}
	existing, err := rulesOf(ctx, tx, apiID)
	if err != nil {
		return err
	}
	var changed []RuleSpec
	var gone []string
	for id, rule := range existing {
		if rule.EnvironmentID != environments[apiID] || !slices.ContainsFunc(wanted, rule.samePrincipal) {
			gone, changed = append(gone, id), append(changed, rule)
			delete(existing, id)
		}
	}
	kept := slices.Collect(maps.Values(existing))
	added := slices.DeleteFunc(wanted, func(spec RuleSpec) bool { return slices.ContainsFunc(kept, spec.samePrincipal) })
	reached, err := lockPrincipals(ctx, tx, accountID, append(changed, added...))
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM authorization_rule WHERE id = ANY ($1)`, gone); err != nil {
		return fmt.Errorf("delete the authorization rules: %w", err)
	}
	for _, spec := range added {
		spec.EnvironmentID = environments[apiID]
		if err := insertRule(ctx, tx, accountID, ids.New(ids.AuthorizationRule), spec); err != nil {
			return err
		}
	}
	return c.touch(ctx, tx, reached)
}

func (s RuleSpec) samePrincipal(other RuleSpec) bool {
	return s.ConsumerID == other.ConsumerID && s.GroupID == other.GroupID
}

// rulesOf returns the rules of an API by their ids.
func rulesOf(ctx context.Context, tx pgx.Tx, apiID string) (map[string]RuleSpec, error) {
	rows, err := tx.Query(ctx, `
		SELECT id, coalesce(consumer_id, ''), coalesce(group_id, ''), http_api_id, environment_id
		FROM authorization_rule WHERE http_api_id = $1`, apiID)
	if err != nil {
		return nil, err
	}
	found := map[string]RuleSpec{}
	var id string
	var rule RuleSpec
	_, err = pgx.ForEachRow(rows, []any{&id, &rule.ConsumerID, &rule.GroupID, &rule.APIID, &rule.EnvironmentID}, func() error {
		found[id] = rule
		return nil
	})
	return found, err
}
