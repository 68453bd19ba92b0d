package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/internal/up"
	"github.com/engineshed/engineshed/sdk"
	"github.com/engineshed/engineshed/sdk/apig"
	"github.com/engineshed/engineshed/sdk/gpdb"
)

// demoKnobs let the stand-in engine answer at the pace of a real one.
const demoKnobs = "--sim-startup-delay 300ms --sim-time-to-first-token 150ms --sim-inter-token-latency 15ms"

// How long the demo waits for each thing. A real engine loads a model in the first one.
const (
	deployTimeout = 30 * time.Minute
	routeTimeout  = 10 * time.Second
	deleteTimeout = time.Minute
	demoInterval  = 50 * time.Millisecond
)

func (p *program) demo() *cobra.Command {
	var dir, model, prompt string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Start everything, deploy a model through the signed API, publish it, talk to it, clean up",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signal.Ignore(syscall.SIGPIPE) // a reader who leaves must not keep it from cleaning up
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return p.runDemo(ctx, dir, model, prompt)
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "where to keep everything (default: a temporary directory, removed at the end)")
	cmd.Flags().StringVar(&model, "model", "Qwen2.5-0.5B-Instruct", "model to deploy")
	cmd.Flags().StringVar(&prompt, "prompt", "What does an engine shed house?", "what to ask it")
	return cmd
}

// demo is the main job, step by step.
type demo struct {
	console *console
	model   string
	prompt  string

	installation *up.Installation
	client       *sdk.Client
	request      gpdb.CreateModelServiceRequest
	service      *gpdb.DescribeModelServiceResponse
	upstream     string // the upstream service that stands for the model service
	api          string // the Model API
}

func (p *program) runDemo(ctx context.Context, dir, model, prompt string) error {
	began := time.Now()
	if dir == "" {
		temporary, err := os.MkdirTemp("", "engineshed-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temporary)
		if err := os.Chmod(temporary, 0o711); err != nil { // Postgres and engines of root's demo pass through
			return err
		}
		dir = temporary
	}
	d := &demo{console: newConsole(p.stdout), model: model, prompt: prompt}
	d.console.print("Engineshed: from nothing to a model that answers, through the signed API.\n\n")
	if err := p.demoStart(ctx, d, dir); err != nil {
		return err
	}
	err := d.mainJob(ctx)
	err = errors.Join(err, d.console.Step("Everything stopped", func() (string, error) {
		d.installation.Stop()
		return "gateway, control plane, Postgres", nil
	}))
	if err == nil {
		d.console.print("\nDone in %.1f s. `engineshed up` starts the same and stays.\n", time.Since(began).Seconds())
	}
	return err
}

// demoStart runs on free ports, beside whatever else this machine serves.
func (p *program) demoStart(ctx context.Context, d *demo, dir string) (err error) {
	config := up.Config{
		APIAddr: "127.0.0.1:0", GatewayAddr: "127.0.0.1:0", PublicAddr: "127.0.0.1:0",
		Region: "cn-hangzhou", SimKnobs: demoKnobs, Console: d.console,
	}
	if err := p.complete(&config); err != nil {
		return err
	}
	config.DataDir, config.DatabaseURL = dir, "" // a temporary directory forgets the passwords of the roles it makes
	d.installation, err = up.Start(ctx, config)
	return err
}

func (d *demo) mainJob(ctx context.Context) error {
	c := d.installation.Credentials
	var err error
	d.client, err = sdk.New(sdk.Config{Endpoint: c.Endpoint, AccessKeyID: c.AccessKeyID, AccessKeySecret: c.AccessKeySecret})
	if err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) (string, error)
	}{
		{"CreateModelService", d.create},
		{"Same ClientToken again", d.createAgain},
		{"Deployed", d.deploy},
		{"Answered", d.ask},
		{"CreateHttpApi", d.publish},
		{"Answered again", d.askAPI},
		{"DeleteHttpApi", d.unpublish},
		{"DeleteModelService", d.delete},
	} {
		if err := d.console.Step(step.name, func() (string, error) { return step.do(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) create(ctx context.Context) (string, error) {
	instance := d.installation.Credentials.DBInstanceID
	nodes, err := d.client.FreeAINodes(ctx, instance, 1)
	if err != nil {
		return "", err
	}
	token := fmt.Sprintf("demo-%d", time.Now().UnixNano())
	d.request = gpdb.CreateModelServiceRequest{DBInstanceId: instance, ModelName: d.model, AiNodes: nodes, ClientToken: &token}
	created, err := d.client.CreateModelService(ctx, d.request)
	if err != nil {
		return "", err
	}
	d.service = &gpdb.DescribeModelServiceResponse{ModelServiceId: created.ModelServiceId}
	return fmt.Sprintf("%s: %s on %s, signed with ACS3-HMAC-SHA256", created.ModelServiceId, d.model, nodes[0]), nil
}

func (d *demo) createAgain(ctx context.Context) (string, error) {
	again, err := d.client.CreateModelService(ctx, d.request)
	if err != nil {
		return "", err
	}
	if again.ModelServiceId != d.service.ModelServiceId {
		return "", fmt.Errorf("a second service was made: %s", again.ModelServiceId)
	}
	return "the same service, not a second one", nil
}

func (d *demo) deploy(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, deployTimeout)
	defer cancel()
	began := time.Now()
	service, err := d.client.WaitModelService(ctx, d.request.DBInstanceId, d.service.ModelServiceId,
		func(now *gpdb.DescribeModelServiceResponse) {
			d.console.update("Deployed", fmt.Sprintf("%s, %.0f s %s", now.Status, time.Since(began).Seconds(), now.StatusReason))
		})
	if err != nil {
		return "", err
	}
	d.service = service
	engines, err := d.installation.Engines()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("active; engine process %s", strings.Trim(fmt.Sprint(engines), "[]")), nil
}

func (d *demo) ask(ctx context.Context) (string, error) {
	if err := d.awaitRoute(ctx); err != nil {
		return "", err
	}
	return d.chat(ctx, sdk.Endpoint{BaseURL: d.service.PrivateConnectUrl, APIKey: d.service.ApiKey, Model: d.service.ModelName})
}

// chat streams the answer to the console as it arrives.
func (d *demo) chat(ctx context.Context, at sdk.Endpoint) (string, error) {
	d.console.end(fmt.Sprintf("\n    you    %s", d.prompt))
	d.console.print("    model  ")
	began := time.Now()
	var first time.Duration
	pieces := 0
	err := d.client.ChatAt(ctx, at, []sdk.Message{{Role: "user", Content: d.prompt}}, func(text string) error {
		if pieces++; pieces == 1 {
			first = time.Since(began)
		}
		d.console.print("%s", text)
		return nil
	})
	d.console.print("\n\n")
	if err == nil && pieces == 0 {
		err = errors.New("the model answered nothing")
	}
	return fmt.Sprintf("streamed in %d pieces, the first after %.2f s, through %s", pieces, first.Seconds(), at.BaseURL), err
}

// The Model API of the demo, and what its callers may call every model.
const (
	demoAPI   = "demo"
	demoModel = "house-model"
)

// publish makes a Model API over the model service, as `engineshed model-api create` does.
func (d *demo) publish(ctx context.Context) (string, error) {
	c := &client{Client: d.client}
	gateway, err := c.gateway(ctx, "")
	if err != nil {
		return "", err
	}
	if d.upstream, err = c.upstream(ctx, gateway.GatewayId, d.service.ModelServiceId); err != nil {
		return "", err
	}
	wish := apiWish{scenario: "Text", protocol: "OpenAI/v1"}
	created, err := d.client.CreateHttpApi(ctx, wish.request(demoAPI, gateway, backend{singleService, []apig.HttpApiServiceConfig{
		{ServiceId: d.upstream, ModelName: &d.service.ModelName},
	}}))
	if err != nil {
		return "", err
	}
	d.api = created.HttpApiId
	return fmt.Sprintf("%s: a Model API of OpenAI/v1 at /%s, whatever model a caller names", d.api, demoAPI), nil
}

func (d *demo) askAPI(ctx context.Context) (string, error) {
	return d.chat(ctx, sdk.Endpoint{BaseURL: d.installation.Credentials.Gateway + "/" + demoAPI + "/v1", Model: demoModel})
}

func (d *demo) unpublish(ctx context.Context) (string, error) {
	if err := d.client.DeleteHttpApi(ctx, d.api); err != nil {
		return "", err
	}
	return "with its routes", d.client.DeleteService(ctx, d.upstream)
}

// awaitRoute waits until the gateway serves what is active: it hears of it a moment after the API says so.
func (d *demo) awaitRoute(ctx context.Context) error {
	return until(ctx, routeTimeout, "the gateway does not serve the model service", func() (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.service.PrivateConnectUrl+"/models", nil)
		if err != nil {
			return false, err
		}
		request.Header.Set("Authorization", "Bearer "+d.service.ApiKey)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, err
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK, nil
	})
}

func (d *demo) delete(ctx context.Context) (string, error) {
	id := gpdb.DeleteModelServiceRequest{DBInstanceId: d.request.DBInstanceId, ModelServiceId: d.service.ModelServiceId}
	if _, err := d.client.DeleteModelService(ctx, id); err != nil {
		return "", err
	}
	err := until(ctx, deleteTimeout, "the model service is still there", func() (bool, error) {
		_, err := d.client.DescribeModelService(ctx, gpdb.DescribeModelServiceRequest(id))
		if refusal, ok := errors.AsType[*sdk.Error](err); ok && refusal.StatusCode == http.StatusNotFound {
			return true, nil
		}
		return false, err
	})
	if err != nil {
		return "", err
	}
	engines, err := d.installation.Engines()
	if err == nil && len(engines) > 0 {
		err = fmt.Errorf("the engine processes %v are left", engines)
	}
	return "no row and no engine process left", err
}

// until asks done again and again, and complains when the time is over.
func until(ctx context.Context, patience time.Duration, complaint string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(demoInterval)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s after %s", complaint, patience)
		case <-ticker.C:
		}
	}
}
