package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/ram"
)

// explainWish is what the flags of explain say.
type explainWish struct {
	as, action, resource, group, sourceIP string
	secure, all                           bool
	context                               []string
}

func (p *program) explainPolicy() *cobra.Command {
	var w explainWish
	cmd := &cobra.Command{
		Use: "explain", Short: "Explain whether somebody may do something, and which statement of which policy decides", Args: cobra.NoArgs,
		Long: `Nothing is done. Without --as the question is about the caller. A statement counts when its action, its resource and all of its
conditions match; of those that do not count, what does not match is shown.`,
		Example: "  engineshed policy explain --as alice --action gpdb:CreateModelService --resource 'acs:gpdb::1000000000000001:dbinstance/gp-0123456789abcdefghij'",
	}
	flags := cmd.Flags()
	flags.StringVar(&w.as, "as", "", "who would call: the name of a user, role/NAME, or an ARN")
	flags.StringVar(&w.action, "action", "", "PRODUCT:OPERATION")
	flags.StringVar(&w.resource, "resource", "*", "ARN of the resource")
	flags.StringVar(&w.group, "resource-group-id", "", "group that contains the resource")
	flags.StringVar(&w.sourceIP, "source-ip", "", "address that the call would come from (default: yours)")
	flags.BoolVar(&w.secure, "secure", false, "the call would come over TLS (default: as this one does)")
	flags.StringArrayVar(&w.context, "context", nil, "value of another condition key, as KEY=VALUE such as acs:ResourceTag/team=search; repeat for more")
	flags.BoolVar(&w.all, "all", false, "show statements about other actions, too")
	_ = cmd.MarkFlagRequired("action") // the flag is there
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		question, err := w.question(ctx, cmd, c)
		if err != nil {
			return err
		}
		answer, err := c.ExplainAuthorization(ctx, question)
		if err != nil {
			return err
		}
		if c.output == "json" {
			return printJSON(cmd.OutOrStdout(), answer.Explanation)
		}
		return w.print(cmd.OutOrStdout(), answer.Explanation)
	})
}

func (w explainWish) question(ctx context.Context, cmd *cobra.Command, c *client) (ram.ExplainAuthorizationRequest, error) {
	question := ram.ExplainAuthorizationRequest{
		AuthAction: w.action, AuthResource: &w.resource, ResourceGroupId: unlessNone(w.group), AuthSourceIp: unlessNone(w.sourceIP),
	}
	if cmd.Flags().Changed("secure") {
		question.AuthSecureTransport = &w.secure
	}
	context := map[string]string{}
	for _, fact := range w.context {
		key, value, ok := strings.Cut(fact, "=")
		if !ok || key == "" {
			return question, fmt.Errorf("--context %s: write KEY=VALUE", fact)
		}
		context[key] = value
	}
	if len(context) > 0 {
		question.AuthContext = &context
	}
	if w.as == "" {
		return question, nil
	}
	principal, err := c.principalARN(ctx, w.as)
	question.AuthPrincipal = &principal
	return question, err
}

func (w explainWish) print(out io.Writer, e ram.Explanation) error {
	verdict := "allowed"
	if !e.Allowed {
		verdict = "denied (" + e.NoPermissionType + ")"
	}
	fmt.Fprintf(out, "%s: %s on %s is %s\n%s\n", e.Principal, e.Action, e.Resources[0], verdict, because(e))
	rows := [][]string{{"STAGE", "POLICY", "STATEMENT", "EFFECT", "COUNTS", ""}}
	for _, stage := range e.Stages {
		for _, s := range stage.Statements {
			if !w.all && !s.ActionMatches {
				continue
			}
			counts, note := "yes", strings.Join(misses(s), "; ")
			switch {
			case s.Decides:
				note = "decides"
			case !s.Matches:
				counts = "no"
			case stage.Result == "NotAsked":
				note = "not asked: an earlier stage decides"
			}
			rows = append(rows, []string{stage.Stage, s.PolicyName + " (" + s.PolicyType + ")", s.Statement, s.Effect, counts, note})
		}
	}
	if len(rows) == 1 {
		return nil
	}
	fmt.Fprintln(out)
	return printTable(out, rows)
}

// because is why the decision is as it is, in a sentence.
func because(e ram.Explanation) string {
	for _, stage := range e.Stages {
		for _, s := range stage.Statements {
			if s.Decides {
				return fmt.Sprintf("because of %s of the policy %s (%s), at the stage %s.", s.Statement, s.PolicyName, s.PolicyType, stage.Stage)
			}
		}
	}
	if e.DecidedBy == "" {
		return "because the account itself may do everything in the account."
	}
	return fmt.Sprintf("because no statement allows it, at the stage %s.", e.DecidedBy)
}

// misses is what of a statement does not match the call.
func misses(s ram.ExplainedStatement) (all []string) {
	if !s.ActionMatches {
		all = append(all, "another action")
	}
	if !s.ResourceMatches {
		all = append(all, "another resource")
	}
	for _, c := range s.Conditions {
		if c.Holds {
			continue
		}
		got := "nothing"
		if c.Present {
			got = fmt.Sprintf("%q", c.Value)
		}
		all = append(all, fmt.Sprintf("%s %s %s: the call says %s", c.Operator, c.Key, strings.Join(c.Values, " or "), got))
	}
	return all
}
