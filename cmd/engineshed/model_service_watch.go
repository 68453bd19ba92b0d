package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk"
	"github.com/engineshed/engineshed/sdk/gpdb"
)

func (p *program) modifyModelService() *cobra.Command {
	var w wish
	var defaults, interrupt bool
	cmd := &cobra.Command{
		Use:   "modify MODEL_SERVICE_ID",
		Short: "Change a model service and wait until it is changed",
		Long: "Change a model service and wait until it is changed. What no flag names stays as it is.\n\n" +
			"Engines with other arguments, or on an AI node that is not named any more, are replaced one after the other while\n" +
			"the service answers.",
		Args: cobra.ExactArgs(1),
		Example: "  engineshed model-service modify ms-… --replicas 2\n" +
			"  engineshed model-service modify ms-… --replicas 3 --ai-node ai-a --ai-node ai-b --ai-node ai-c\n" +
			"  engineshed model-service modify ms-… --param max-model-len=8192",
	}
	flags := cmd.Flags()
	flags.Int32Var(&w.replicas, "replicas", 0, "how many engines serve the model")
	flags.StringSliceVar(&w.nodes, "ai-node", nil, "AI node that the service shall have, repeat for all of them (default: those it has, and free ones for more replicas)")
	flags.StringArrayVar(&w.params, "param", nil, "engine argument as NAME=VALUE, repeat for all of them")
	flags.BoolVar(&defaults, "no-params", false, "let every engine argument have its default again")
	flags.StringVar(&w.description, "description", "", "a note for people")
	flags.BoolVar(&interrupt, "allow-interruption", false, "let the only engine end before its successor answers, where no spare AI node is there")
	flags.StringVar(&w.token, "client-token", "", "makes the call happen once (default: a new one)")
	flags.BoolVar(&w.noWait, "no-wait", false, "return as soon as it is accepted")
	flags.DurationVar(&w.timeout, "timeout", 30*time.Minute, "how long to wait")
	cmd.MarkFlagsMutuallyExclusive("param", "no-params")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		instance, err := c.instance(ctx)
		if err != nil {
			return err
		}
		request := gpdb.ModifyModelServiceRequest{DBInstanceId: instance, ModelServiceId: args[0], AllowInterruption: &interrupt}
		if request.ModelParams, err = engineArguments(w.params); err != nil {
			return err
		}
		if defaults {
			request.ModelParams = &map[string]any{}
		}
		if flags.Changed("replicas") {
			request.Replicas = &w.replicas
		}
		switch {
		case flags.Changed("ai-node"):
			request.AiNodes = &w.nodes
		case flags.Changed("replicas"):
			if request.AiNodes, err = c.nodesFor(ctx, instance, args[0], int(w.replicas)); err != nil {
				return err
			}
		}
		if flags.Changed("description") {
			request.Description = &w.description
		}
		w.token = or(w.token, rand.Text())
		request.ClientToken = &w.token
		return c.modify(ctx, cmd, request, w)
	})
}

// nodesFor are the nodes of a service with as many free ones as it needs besides; nil: it has enough.
func (c *client) nodesFor(ctx context.Context, instance, id string, replicas int) (*[]string, error) {
	service, err := c.DescribeModelService(ctx, gpdb.DescribeModelServiceRequest{DBInstanceId: instance, ModelServiceId: id})
	if err != nil || len(service.AiNodes) >= replicas {
		return nil, err
	}
	free, err := c.FreeAINodes(ctx, instance, replicas-len(service.AiNodes))
	if err != nil {
		return nil, err
	}
	nodes := append(service.AiNodes, free...)
	return &nodes, nil
}

func (c *client) modify(ctx context.Context, cmd *cobra.Command, request gpdb.ModifyModelServiceRequest, w wish) error {
	changed, err := c.ModifyModelService(ctx, request)
	if err != nil {
		return err
	}
	if w.noWait {
		if c.output == "json" {
			return printJSON(cmd.OutOrStdout(), changed)
		}
		return nil
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	line := newProgress(cmd.ErrOrStderr())
	service, err := c.WaitModelServiceChanged(ctx, request.DBInstanceId, request.ModelServiceId, func(s *gpdb.DescribeModelServiceResponse) {
		line.show(request.ModelServiceId, string(s.Status), changing(s))
	})
	line.end()
	if ctx.Err() != nil {
		return fmt.Errorf("%[1]s goes on changing; `engineshed model-service watch %[1]s` shows how far it is", request.ModelServiceId)
	}
	if err != nil {
		return err
	}
	return c.printService(cmd.OutOrStdout(), service)
}

// changing says how far a change is.
func changing(s *gpdb.DescribeModelServiceResponse) string {
	done := 0
	for _, r := range s.Replicas {
		if sdk.ServesAsAsked(r) {
			done++
		}
	}
	text := fmt.Sprintf("%d of %d replicas are as asked for", done, s.ReplicaCount)
	if s.StatusReason != "" {
		text += "; " + s.StatusReason
	}
	return text
}

func (p *program) listModelServiceEvents() *cobra.Command {
	var limit int32
	cmd := &cobra.Command{Use: "events MODEL_SERVICE_ID", Short: "Show what happened to a model service, the newest last", Args: cobra.ExactArgs(1)}
	cmd.Flags().Int32Var(&limit, "limit", 100, "how many, at most 100")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		instance, err := c.instance(ctx)
		if err != nil {
			return err
		}
		page, err := c.ListModelServiceEvents(ctx, gpdb.ListModelServiceEventsRequest{DBInstanceId: instance, ModelServiceId: args[0], PageSize: &limit})
		if err != nil {
			return err
		}
		if c.output == "json" {
			return printJSON(cmd.OutOrStdout(), page)
		}
		slices.Reverse(page.Events)
		return printEvents(cmd.OutOrStdout(), page.Events)
	})
}

func printEvents(out io.Writer, events []gpdb.ModelServiceEvent) error {
	for _, e := range events {
		if _, err := fmt.Fprintf(out, "%s  %-9s  %s\n", e.Time, e.Kind, strings.ReplaceAll(e.Message, "\n", "\n    | ")); err != nil {
			return err
		}
	}
	return nil
}

// watchAgain is how often watch and logs --follow ask.
const watchAgain = time.Second

func (p *program) watchModelService() *cobra.Command {
	return p.clientCommand(&cobra.Command{
		Use: "watch MODEL_SERVICE_ID", Short: "Show what happens to a model service until it is gone or Ctrl-C", Args: cobra.ExactArgs(1),
	}, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		instance, err := c.instance(ctx)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		return c.watch(ctx, cmd.OutOrStdout(), instance, args[0])
	})
}

// watch prints events as they come, the last ones first.
func (c *client) watch(ctx context.Context, out io.Writer, instance, id string) error {
	last := int64(0)
	for size := int32(10); ; size = 100 {
		page, err := c.ListModelServiceEvents(ctx, gpdb.ListModelServiceEventsRequest{DBInstanceId: instance, ModelServiceId: id, PageSize: &size})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		news := newerThan(last, page.Events)
		if err := printEvents(out, news); err != nil {
			return err
		}
		if len(news) > 0 {
			last, _ = strconv.ParseInt(news[len(news)-1].EventId, 10, 64)
		}
		_, err = c.DescribeModelService(ctx, gpdb.DescribeModelServiceRequest{DBInstanceId: instance, ModelServiceId: id})
		gone, _ := errors.AsType[*sdk.Error](err)
		if gone != nil && gone.Code == "InvalidModelServiceId.NotFound" && len(news) == 0 || !pause(ctx) {
			return nil
		}
	}
}

// newerThan returns the events after the one with the id, the oldest first.
func newerThan(last int64, newestFirst []gpdb.ModelServiceEvent) (news []gpdb.ModelServiceEvent) {
	for _, e := range slices.Backward(newestFirst) {
		if id, err := strconv.ParseInt(e.EventId, 10, 64); err == nil && id > last {
			news = append(news, e)
		}
	}
	return news
}

// pause waits for the next question and reports whether there is one.
func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(watchAgain):
		return true
	}
}

func (p *program) modelServiceLogs() *cobra.Command {
	var follow bool
	var replica int32
	cmd := &cobra.Command{Use: "logs MODEL_SERVICE_ID", Short: "Show the end of an engine's log", Args: cobra.ExactArgs(1)}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes, until Ctrl-C")
	cmd.Flags().Int32Var(&replica, "replica", 0, "number of the replica; describe shows them (default: the lowest)")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		instance, err := c.instance(ctx)
		if err != nil {
			return err
		}
		request := gpdb.GetModelServiceLogsRequest{DBInstanceId: instance, ModelServiceId: args[0]}
		if cmd.Flags().Changed("replica") {
			request.Replica = &replica
		}
		if follow {
			ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
			defer stop()
			return c.followLog(ctx, cmd.OutOrStdout(), request)
		}
		log, err := c.GetModelServiceLogs(ctx, request)
		if err != nil {
			return err
		}
		if c.output == "json" {
			return printJSON(cmd.OutOrStdout(), log)
		}
		_, err = io.WriteString(cmd.OutOrStdout(), wholeLog(log))
		return err
	})
}

// wholeLog is the log of the engine before, if there was one, and of this one.
func wholeLog(log *gpdb.GetModelServiceLogsResponse) string {
	if log.PreviousLog == "" {
		return log.Log
	}
	return log.PreviousLog + "--- the engine was started again, or its log was cut ---\n" + log.Log
}

func (c *client) followLog(ctx context.Context, out io.Writer, request gpdb.GetModelServiceLogsRequest) error {
	var last *gpdb.GetModelServiceLogsResponse
	for {
		log, err := c.GetModelServiceLogs(ctx, request)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		text := wholeLog(log)
		if last != nil {
			text = newInLog(last, log)
		}
		if _, err := io.WriteString(out, text); err != nil {
			return err
		}
		last = log
		if !pause(ctx) {
			return nil
		}
	}
}

// newInLog is what an engine printed between two looks, as far as the second one still shows it.
func newInLog(before, now *gpdb.GetModelServiceLogsResponse) string {
	from, _ := strconv.ParseInt(before.LogOffset, 10, 64)
	to, _ := strconv.ParseInt(now.LogOffset, 10, 64)
	if before.EngineGeneration != now.EngineGeneration || to < from {
		return now.Log
	}
	return now.Log[len(now.Log)-int(min(to-from, int64(len(now.Log)))):]
}
