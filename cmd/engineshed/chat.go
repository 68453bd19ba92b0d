package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk"
	"github.com/engineshed/engineshed/sdk/gpdb"
)

func (p *program) chat() *cobra.Command {
	var system string
	cmd := p.clientCommand(&cobra.Command{
		Use:   "chat MODEL_SERVICE_ID [PROMPT]",
		Short: "Ask a model service something through the gateway",
		Long:  "Asks a model service and prints the answer as it arrives. Without PROMPT it is read from the standard input.",
		Args:  cobra.MinimumNArgs(1),
	}, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		messages, err := conversation(cmd.InOrStdin(), system, args[1:])
		if err != nil {
			return err
		}
		return chat(ctx, cmd.OutOrStdout(), c, args[0], messages)
	})
	cmd.Flags().StringVar(&system, "system", "", "how the model should behave")
	return cmd
}

func conversation(stdin io.Reader, system string, words []string) ([]sdk.Message, error) {
	prompt := strings.TrimSpace(strings.Join(words, " "))
	if len(words) == 0 {
		text, err := io.ReadAll(stdin)
		if err != nil {
			return nil, fmt.Errorf("read the prompt: %w", err)
		}
		prompt = strings.TrimSpace(string(text))
	}
	if prompt == "" {
		return nil, errors.New("there is nothing to ask: write the prompt after the id of the service")
	}
	messages := []sdk.Message{{Role: "user", Content: prompt}}
	if system != "" {
		messages = append([]sdk.Message{{Role: "system", Content: system}}, messages...)
	}
	return messages, nil
}

func chat(ctx context.Context, stdout io.Writer, c *client, id string, messages []sdk.Message) error {
	service, err := answering(ctx, c, id)
	if err != nil {
		return err
	}
	var answer strings.Builder
	err = c.Chat(ctx, service, messages, func(text string) error {
		answer.WriteString(text)
		if c.output == "json" {
			return nil
		}
		_, err := io.WriteString(stdout, text)
		return err
	})
	if c.output == "json" && err == nil {
		return printJSON(stdout, map[string]string{"model": service.ModelName, "content": answer.String()})
	}
	if answer.Len() > 0 && c.output != "json" {
		fmt.Fprintln(stdout)
	}
	return err
}

// answering returns the service if it can be asked by this caller.
func answering(ctx context.Context, c *client, id string) (*gpdb.DescribeModelServiceResponse, error) {
	instance, err := c.instance(ctx)
	if err != nil {
		return nil, err
	}
	service, err := c.DescribeModelService(ctx, gpdb.DescribeModelServiceRequest{DBInstanceId: instance, ModelServiceId: id})
	switch {
	case err != nil:
		return nil, err
	case service.Status != gpdb.Active && service.Status != gpdb.Degraded:
		return nil, fmt.Errorf("the model service %s is %s and cannot answer: %s", id, service.Status,
			or(service.StatusReason, "`engineshed model-service describe "+id+"` shows when it can"))
	case strings.HasPrefix(service.ApiKey, "****"):
		return nil, fmt.Errorf("this access key may not read the ApiKey of %s: ask for a policy that allows gpdb:GetModelServiceApiKey", id)
	}
	return service, nil
}
