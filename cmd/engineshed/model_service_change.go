package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk"
	"github.com/engineshed/engineshed/sdk/gpdb"
)

// wish is what the flags of create say.
type wish struct {
	model, description, resourceGroup, ipList, token string
	nodes, params                                    []string
	replicas                                         int32
	public, noWait                                   bool
	timeout                                          time.Duration
}

func (p *program) createModelService() *cobra.Command {
	var w wish
	cmd := &cobra.Command{
		Use:     "create --model NAME",
		Short:   "Deploy a model and wait until it answers",
		Args:    cobra.NoArgs,
		Example: "  engineshed model-service create --model Qwen2.5-0.5B-Instruct --param max-model-len=4096",
	}
	flags := cmd.Flags()
	flags.StringVar(&w.model, "model", "", "model of the catalogue (required)")
	flags.StringSliceVar(&w.nodes, "ai-node", nil, "AI node to use, repeat for more (default: as many free ones as replicas)")
	flags.Int32Var(&w.replicas, "replicas", 1, "how many engines serve the model")
	flags.StringArrayVar(&w.params, "param", nil, "engine argument as NAME=VALUE, repeat for more")
	flags.StringVar(&w.description, "description", "", "a note for people")
	flags.StringVar(&w.resourceGroup, "resource-group-id", "", "resource group")
	flags.StringVar(&w.ipList, "security-ip-list", "", "addresses that may call it, separated by commas (default: the instance's)")
	flags.BoolVar(&w.public, "public", false, "serve it on the gateway's public listener too")
	flags.StringVar(&w.token, "client-token", "", "makes the call happen once (default: a new one)")
	flags.BoolVar(&w.noWait, "no-wait", false, "return as soon as it is accepted")
	flags.DurationVar(&w.timeout, "timeout", 30*time.Minute, "how long to wait")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		return c.create(ctx, cmd, w)
	})
}

func (c *client) create(ctx context.Context, cmd *cobra.Command, w wish) error {
	request, err := c.request(ctx, &w)
	if err != nil {
		return err
	}
	created, err := c.CreateModelService(ctx, *request)
	if err != nil {
		return mayHaveHappened(err, w)
	}
	if w.noWait {
		if c.output == "json" {
			return printJSON(cmd.OutOrStdout(), created)
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), created.ModelServiceId)
		return err
	}
	service, err := c.wait(ctx, cmd, request.DBInstanceId, created.ModelServiceId, w.timeout)
	if err != nil {
		return err
	}
	if c.output != "json" {
		fmt.Fprintf(cmd.ErrOrStderr(), "Try: engineshed chat %s \"hello\"\n\n", service.ModelServiceId)
	}
	return c.printService(cmd.OutOrStdout(), service)
}

func (c *client) request(ctx context.Context, w *wish) (*gpdb.CreateModelServiceRequest, error) {
	if w.model == "" {
		return nil, c.chooseModel(ctx)
	}
	params, err := engineArguments(w.params)
	if err != nil {
		return nil, err
	}
	instance, err := c.instance(ctx)
	if err != nil {
		return nil, err
	}
	if len(w.nodes) == 0 {
		if w.nodes, err = c.FreeAINodes(ctx, instance, int(max(w.replicas, 1))); err != nil {
			return nil, err
		}
	}
	w.token = or(w.token, rand.Text())
	return &gpdb.CreateModelServiceRequest{
		DBInstanceId: instance, ModelName: w.model, AiNodes: w.nodes, Replicas: &w.replicas, ModelParams: params,
		Description: given(w.description), ResourceGroupId: given(w.resourceGroup), SecurityIPList: given(w.ipList),
		EnablePublicConnection: &w.public, ClientToken: &w.token,
	}, nil
}

// chooseModel is the error of a create without --model: it names the models there are.
func (c *client) chooseModel(ctx context.Context) error {
	models, err := c.ListSupportModels(ctx, gpdb.ListSupportModelsRequest{})
	if err != nil {
		return err
	}
	return fmt.Errorf("say which model with --model: %s", strings.Join(models.ModelNames.ModelNames, ", "))
}

// engineArguments reads NAME=VALUE; a value that is JSON is meant as JSON.
func engineArguments(params []string) (*map[string]any, error) {
	if len(params) == 0 {
		return nil, nil
	}
	arguments := map[string]any{}
	for _, param := range params {
		name, text, ok := strings.Cut(param, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--param takes NAME=VALUE, not %q", param)
		}
		var value any
		if json.Unmarshal([]byte(text), &value) != nil {
			value = text
		}
		arguments[strings.TrimLeft(name, "-")] = value
	}
	return &arguments, nil
}

func given(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// mayHaveHappened adds to an error that leaves open what happened how to find out.
func mayHaveHappened(err error, w wish) error {
	if refused, ok := errors.AsType[*sdk.Error](err); ok && refused.StatusCode < 500 {
		return err
	}
	return fmt.Errorf("%w; it may have happened, so repeat the command with --client-token %s --ai-node %s", err, w.token, strings.Join(w.nodes, ","))
}

// wait shows the deployment on stderr until the service answers. Ctrl-C ends the waiting, not the deployment.
func (c *client) wait(ctx context.Context, cmd *cobra.Command, instance, id string, timeout time.Duration) (*gpdb.DescribeModelServiceResponse, error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	line := newProgress(cmd.ErrOrStderr())
	service, err := c.WaitModelService(ctx, instance, id, func(s *gpdb.DescribeModelServiceResponse) {
		line.show(id, string(s.Status), s.StatusReason)
	})
	line.end()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s goes on deploying; `engineshed model-service describe %s` shows how far it is", id, id)
	}
	return service, err
}

func (p *program) deleteModelService() *cobra.Command {
	var noWait bool
	cmd := &cobra.Command{Use: "delete MODEL_SERVICE_ID", Short: "Take a model service down and free its AI nodes", Args: cobra.ExactArgs(1)}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "return as soon as it is accepted")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		return c.delete(ctx, cmd, args[0], noWait)
	})
}

func (c *client) delete(ctx context.Context, cmd *cobra.Command, id string, noWait bool) error {
	instance, err := c.instance(ctx)
	if err != nil {
		return err
	}
	deleted, err := c.DeleteModelService(ctx, gpdb.DeleteModelServiceRequest{DBInstanceId: instance, ModelServiceId: id})
	if err != nil {
		return err
	}
	if !noWait {
		if err := c.waitGone(ctx, cmd, instance, id); err != nil {
			return err
		}
	}
	if c.output == "json" {
		return printJSON(cmd.OutOrStdout(), deleted)
	}
	return nil
}

func (c *client) waitGone(ctx context.Context, cmd *cobra.Command, instance, id string) error {
	line := newProgress(cmd.ErrOrStderr())
	err := c.WaitModelServiceGone(ctx, instance, id, func(s *gpdb.DescribeModelServiceResponse) {
		line.show(id, string(s.Status), s.StatusReason)
	})
	if err == nil {
		line.show(id, "deleted", "")
	}
	line.end()
	return err
}
