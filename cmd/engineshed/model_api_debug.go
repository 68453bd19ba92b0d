package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/apig"
)

// debugWish is what the flags of debug say.
type debugWish struct {
	domain, model, system, body, consumer string
	params                                []string
	stream                                bool
}

func (p *program) debugModelAPI() *cobra.Command {
	var w debugWish
	cmd := &cobra.Command{
		Use: "debug NAME [PROMPT]", Short: "Ask a Model API something, and see where it goes and how long it takes", Args: cobra.MinimumNArgs(1),
		Long: `Sends a chat completion to a Model API through a gateway and prints where it goes, the answer as it comes, its times and
its tokens. For Model APIs of the scenario Text with OpenAI/v1. Without PROMPT it is in the body, or read from the
standard input.`,
		Example: `  engineshed model-api debug chat --stream --param temperature=0.2 "hello"`,
	}
	flags := cmd.Flags()
	flags.StringVar(&w.domain, "domain", "", "host to ask (default: one of the Model API's own)")
	flags.StringVar(&w.model, "model", "", "model to name")
	flags.StringVar(&w.system, "system", "", "how the model should behave")
	flags.BoolVar(&w.stream, "stream", false, "ask for the answer as it is made")
	flags.StringArrayVar(&w.params, "param", nil, "further member of the request, as name=value; the value is JSON or else a text; repeat for more")
	flags.StringVar(&w.body, "body", "", "JSON file with a whole request, which the rest is written into; - is the standard input")
	flags.StringVar(&w.consumer, "consumer-id", "", "consumer to be, where only consumers may call: cs-…")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		id, err := c.apiID(ctx, args[0])
		if err != nil {
			return err
		}
		request, err := w.request(cmd.InOrStdin(), args[1:])
		if err != nil {
			return err
		}
		if cmd.Flags().Changed("stream") {
			request.Stream = &w.stream
		}
		return c.debug(ctx, cmd, id, request)
	})
}

func (w debugWish) request(stdin io.Reader, words []string) (apig.DebugHttpApiRequest, error) {
	request := apig.DebugHttpApiRequest{
		Domain: unlessNone(w.domain), Model: unlessNone(w.model), ConsumerId: unlessNone(w.consumer),
	}
	if w.body != "" {
		text, err := readFile(stdin, w.body)
		if err != nil {
			return request, err
		}
		if err := json.Unmarshal(text, &request.Body); err != nil {
			return request, fmt.Errorf("%s is no JSON object: %w", w.body, err)
		}
	}
	if len(words) > 0 || w.body == "" {
		messages, err := conversation(stdin, w.system, words)
		if err != nil {
			return request, err
		}
		request.Messages = &[]map[string]any{}
		for _, m := range messages {
			*request.Messages = append(*request.Messages, map[string]any{"role": m.Role, "content": m.Content})
		}
	}
	params, err := readParams(w.params)
	if len(params) > 0 {
		request.Params = &params
	}
	return request, err
}

// readParams reads name=value, where a value that is no JSON is a text.
func readParams(pairs []string) (map[string]any, error) {
	params := map[string]any{}
	for _, pair := range pairs {
		name, text, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--param %s: write name=value", pair)
		}
		var value any
		if json.Unmarshal([]byte(text), &value) != nil {
			value = text
		}
		params[name] = value
	}
	return params, nil
}

// debugged is everything that a debug told, for programs.
type debugged struct {
	Decision  *apig.RouteDecision `json:"decision"`
	Content   string              `json:"content"`
	Reasoning string              `json:"reasoning,omitempty"`
	Result    *apig.DebugResult   `json:"result"`
}

// errDebug says that the request failed; why has been printed.
var errDebug = errors.New("the request failed")

func (c *client) debug(ctx context.Context, cmd *cobra.Command, id string, request apig.DebugHttpApiRequest) error {
	out := cmd.OutOrStdout()
	var all debugged
	err := c.DebugHttpApi(ctx, id, request, func(event apig.DebugEvent) error {
		all.take(event)
		if c.output == "json" {
			return nil
		}
		return show(out, event, all.Content != "")
	})
	if err != nil {
		return err
	}
	if c.output == "json" {
		if err := printJSON(out, all); err != nil {
			return err
		}
	}
	if all.Result.Error != nil {
		return errDebug
	}
	return nil
}

func (d *debugged) take(event apig.DebugEvent) {
	switch {
	case event.Decision != nil:
		d.Decision = event.Decision
	case event.Result != nil:
		d.Result = event.Result
	case event.Content != nil:
		d.Content += text(event.Content.Text)
		d.Reasoning += text(event.Content.Reasoning)
	}
}

func text(value *string) string {
	if value == nil {
		return ""
	}
	return *value
}

// show prints an event for people.
func show(out io.Writer, event apig.DebugEvent, answered bool) error {
	switch {
	case event.Decision != nil:
		return printTable(out, append(decisionRows(event.Decision), []string{""}))
	case event.Content != nil:
		_, err := io.WriteString(out, text(event.Content.Text))
		return err
	case event.Result == nil:
		return nil
	}
	if answered {
		fmt.Fprint(out, "\n\n")
	}
	return printTable(out, resultRows(event.Result))
}

func decisionRows(d *apig.RouteDecision) [][]string {
	var rows [][]string
	add := func(label string, parts ...string) { rows = append(rows, []string{label, strings.Join(parts, " ")}) }
	if d.HttpApi != nil {
		add("Model API", fmt.Sprintf("%s, revision %d", d.HttpApi.Name, d.HttpApi.Revision))
	}
	if d.Route != nil {
		add("Route", d.Route.Name, d.Path)
	}
	if d.Authorization != nil {
		add("Authorization", *d.Authorization)
	}
	if d.Service != nil {
		add("Service", d.Service.Name, text(d.UpstreamPath))
	}
	if d.Model != nil {
		add("Model", *d.Model)
	}
	if d.Shares != nil {
		for _, share := range *d.Shares {
			add(fmt.Sprintf("  %d %%", share.Weight), or(text(share.Name), share.ServiceId), text(share.Model))
		}
	}
	if d.Candidates != nil {
		add("Chosen by", text(d.Scene)+", of")
		for _, candidate := range *d.Candidates {
			add("  "+upTo(candidate.RateLimit), or(text(candidate.Name), candidate.ServiceId), text(candidate.Model))
		}
	}
	if d.Fallback != nil {
		add("Fallback", "after "+afterwards(d.Fallback.After))
		for i, next := range d.Fallback.Services {
			add(fmt.Sprintf("  %d", i+1), or(text(next.Name), next.ServiceId), or(text(next.UpstreamPath), "(passed over)"), text(next.Model))
		}
	}
	rows = append(rows, trafficRows(d.FirstByteTimeout, d.TrafficConfig)...)
	if len(d.Policies) > 0 {
		add("Policies", strings.Join(d.Policies, ", "))
	}
	if d.Code != nil {
		add("Refused", fmt.Sprintf("%d %s: %s", d.Status, *d.Code, d.Reason))
	}
	return rows
}

// afterwards says what leads to the next service, for people.
func afterwards(codes []string) string {
	said := make([]string, len(codes))
	for i, code := range codes {
		said[i] = or(map[string]string{
			"UpstreamCode": "a 4xx or 5xx", "ConnectFailure": "no connection", "Ejection": "too many failures lately",
			"BrokenAnswer": "a broken answer", "FirstByteTimeout": "a late first packet",
		}[code], code)
	}
	return strings.Join(said, ", ")
}

func resultRows(r *apig.DebugResult) [][]string {
	var rows [][]string
	add := func(label, value string) { rows = append(rows, []string{label, value}) }
	if r.Error != nil {
		add("Failed", *r.Error)
	}
	if r.Status != nil {
		add("Status", fmt.Sprint(*r.Status))
	}
	if r.FirstContentMs != nil {
		add("First content", fmt.Sprintf("%d ms", *r.FirstContentMs))
	}
	add("Total", fmt.Sprintf("%d ms", r.TotalMs))
	if r.TotalTokens != nil {
		add("Tokens", fmt.Sprintf("%d (%d asked, %d answered)", *r.TotalTokens, *r.PromptTokens, *r.CompletionTokens))
	}
	if r.FinishReason != nil {
		add("Finish", *r.FinishReason)
	}
	if r.RequestId != nil {
		add("Request", *r.RequestId)
	}
	return rows
}
