package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/apig"
)

// decisionWish is what the flags of decision say.
type decisionWish struct {
	domain, method, model, consumer string
	headers                         []string
}

func (p *program) decisionOfModelAPI() *cobra.Command {
	var w decisionWish
	cmd := &cobra.Command{
		Use: "decision NAME PATH", Short: "Show where a request to a Model API goes, and why, without sending it", Args: cobra.ExactArgs(2),
		Long: `Shows what gateways do with a request to a Model API: its route, the service and what that is asked for, where the request
goes when that fails, and the limits in force; or what it is refused with. PATH is below the base path.`,
		Example: "  engineshed model-api decision chat /v1/chat/completions --model gpt-4o",
	}
	flags := cmd.Flags()
	flags.StringVar(&w.domain, "domain", "", "host to ask (default: one of the Model API's own)")
	flags.StringVar(&w.method, "method", "POST", "method of the request")
	flags.StringVar(&w.model, "model", "", "model that the request names")
	flags.StringVar(&w.consumer, "consumer-id", "", "consumer whose key the request carries: cs-…")
	flags.StringArrayVar(&w.headers, "header", nil, "header that a route looks at, as name=value; repeat for more")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		id, err := c.apiID(ctx, args[0])
		if err != nil {
			return err
		}
		api, err := c.GetHttpApi(ctx, id)
		if err != nil {
			return err
		}
		question, err := w.question(api, args[1])
		if err != nil {
			return err
		}
		decision, err := c.DescribeRouteDecision(ctx, question)
		if err != nil {
			return err
		}
		return c.printDecision(cmd, decision)
	})
}

func (w decisionWish) question(api *apig.HttpApiApiInfo, path string) (apig.DescribeRouteDecisionRequest, error) {
	question := apig.DescribeRouteDecisionRequest{
		Host: or(w.domain, hostOf(api)), Method: &w.method, Path: strings.TrimSuffix(api.BasePath, "/") + path,
		Model: unlessNone(w.model), ConsumerId: unlessNone(w.consumer), Headers: &map[string]string{},
	}
	if !slices.Contains(api.Protocols, "HTTP") {
		scheme := apig.DescribeRouteDecisionRequestScheme("https")
		question.Scheme = &scheme
	}
	if question.Host == "" {
		return question, errors.New("the Model API has no host of its own: name one with --domain")
	}
	for _, header := range w.headers {
		name, value, ok := strings.Cut(header, "=")
		if !ok || name == "" {
			return question, fmt.Errorf("--header %s: write name=value", header)
		}
		(*question.Headers)[name] = value
	}
	return question, nil
}

// hostOf is one of the hosts that the API answers on, "" if it has none or they are wildcards.
func hostOf(api *apig.HttpApiApiInfo) string {
	for _, e := range api.Environments {
		for _, d := range e.CustomDomains {
			if !strings.HasPrefix(d.Name, "*") {
				return d.Name
			}
		}
		for _, d := range e.SubDomains {
			return d.Name
		}
	}
	return ""
}

func (c *client) printDecision(cmd *cobra.Command, decision *apig.RouteDecision) error {
	if c.output == "json" {
		return printJSON(cmd.OutOrStdout(), decision)
	}
	rows := decisionRows(decision)
	if decision.Code == nil {
		rows = append(rows, []string{"Why", decision.Reason})
	}
	return printTable(cmd.OutOrStdout(), rows)
}
