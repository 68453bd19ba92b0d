package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/engineshed/engineshed/sdk/apig"
)

func (p *program) modelAPI() *cobra.Command {
	cmd := &cobra.Command{Use: "model-api", Short: "Publish models under a path of the gateway, see the Model APIs, take them down"}
	cmd.AddCommand(
		p.createModelAPI(),
		p.clientCommand(&cobra.Command{Use: "list", Short: "List the Model APIs", Args: cobra.NoArgs}, listModelAPIs),
		p.clientCommand(&cobra.Command{Use: "get NAME", Short: "Show one Model API", Args: cobra.ExactArgs(1)}, getModelAPI),
		p.clientCommand(&cobra.Command{
			Use: "deploy NAME", Short: "Make gateways serve a Model API as it is configured now", Args: cobra.ExactArgs(1),
		}, deployModelAPI),
		p.clientCommand(&cobra.Command{
			Use: "undeploy NAME", Short: "Make gateways stop serving a Model API", Args: cobra.ExactArgs(1),
		}, undeployModelAPI),
		p.decisionOfModelAPI(),
		p.debugModelAPI(),
		p.editModelAPI(),
		p.clientCommand(&cobra.Command{
			Use: "revisions NAME", Short: "List what was deployed of a Model API, and which gateways serve it", Args: cobra.ExactArgs(1),
		}, listRevisions),
		p.diffModelAPI(),
		p.clientCommand(&cobra.Command{
			Use: "rollback NAME REVISION", Short: "Deploy an earlier revision of a Model API", Args: cobra.ExactArgs(2),
		}, rollbackModelAPI),
		p.exportModelAPI(),
		p.importModelAPI(),
		p.deleteModelAPI(),
	)
	return cmd
}

// apiWish is what the flags of create say.
type apiWish struct {
	scenario, protocol, basePath, gateway, model, description string
	observe                                                   string
	services, routes                                          []string
	keepBasePath, auth, noDeploy                              bool
	recording                                                 recording
	traffic                                                   traffic
}

func (p *program) createModelAPI() *cobra.Command {
	var w apiWish
	cmd := &cobra.Command{
		Use: "create NAME --service ID", Short: "Make a Model API over services and deploy it", Args: cobra.ExactArgs(1),
		Long: `Makes a Model API with the default routes of its scenario and protocol, over one service: a model service of ours
(ms-…) or an upstream service (svc-…). Over several services, requests are shared out in proportion, with --service
SERVICE[/MODEL]=WEIGHT for each, where weights add up to 100; or the model that a request names decides, with --route
PATTERN=SERVICE[/MODEL] for each: the first pattern that matches is taken, * stands for any characters and ? for one.
With --observe, each gateway process chooses by what it observes of its own requests, where --service SERVICE[/MODEL]=80%
gets at most that share. MODEL is written over the one the request names.`,
		Example: `  engineshed model-api create chat --scenario Text --protocol OpenAI/v1 --service ms-…
  engineshed model-api create chat --service ms-…=70 --service svc-…/qwen-plus=30
  engineshed model-api create chat --route 'qwen-*=ms-…' --route 'gpt-4?=svc-…/gpt-4o' --route '*=svc-…'
  engineshed model-api create chat --observe LeastBusy --service ms-… --service svc-…/qwen-plus=20%
  engineshed model-api create chat --service ms-… --fallback svc-…/qwen-plus --first-packet-timeout 3s`,
	}
	flags := cmd.Flags()
	flags.StringVar(&w.scenario, "scenario", "Text", "Text, Image, Video, Audio, Embedding, Rerank or Others")
	flags.StringVar(&w.protocol, "protocol", "OpenAI/v1", "OpenAI/v1, Anthropic, DashScope, vLLM or ComfyUI, as the scenario allows")
	flags.StringArrayVar(&w.services, "service", nil, "where requests go: ms-… or svc-…; with =WEIGHT and repeated, in proportion")
	flags.StringArrayVar(&w.routes, "route", nil, "where requests go by the model they name, as PATTERN=SERVICE[/MODEL]; repeat for more, in order")
	flags.StringVar(&w.observe, "observe", "", "choose between the services by LeastBusy, LeastFirstTokenLatency or LeastTotalLatency")
	flags.StringVar(&w.model, "model", "", "model written over the one a request names (default: passed through)")
	flags.StringVar(&w.basePath, "base-path", "", "path the API begins at (default: /NAME)")
	flags.BoolVar(&w.keepBasePath, "keep-base-path", false, "leave the base path in what the service is asked for")
	flags.StringVar(&w.gateway, "gateway-id", "", "gateway (default: the first one)")
	flags.StringVar(&w.description, "description", "", "a note for people")
	flags.BoolVar(&w.auth, "auth", false, "only consumers with a rule may call")
	flags.BoolVar(&w.noDeploy, "no-deploy", false, "do not serve it yet")
	addTrafficFlags(flags)
	addRecordingFlags(flags)
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) (err error) {
		w.recording = readRecording(cmd)
		if w.traffic, err = readTraffic(cmd); err != nil {
			return err
		}
		return c.createAPI(ctx, cmd, args[0], w)
	})
}

func (c *client) createAPI(ctx context.Context, cmd *cobra.Command, name string, w apiWish) error {
	b, err := readBackend(w.services, w.routes, w.observe, w.model)
	if err != nil {
		return err
	}
	gateway, err := c.gateway(ctx, w.gateway)
	if err != nil {
		return err
	}
	if err := c.resolve(ctx, gateway.GatewayId, &b); err != nil {
		return err
	}
	request := w.request(name, gateway, b)
	if w.traffic.fallsBack() {
		config := &(*request.DeployConfigs)[0]
		if config.PolicyConfigs, err = c.fallback(ctx, gateway.GatewayId, config.PolicyConfigs, w.traffic); err != nil {
			return err
		}
	}
	created, err := c.CreateHttpApi(ctx, request)
	if err != nil {
		return err
	}
	return c.showChanged(ctx, cmd, created.HttpApiId)
}

func (w apiWish) request(name string, gateway *apig.Gateway, b backend) apig.CreateHttpApiRequest {
	basePath := or(w.basePath, "/"+name)
	remove, deploy := !w.keepBasePath, !w.noDeploy
	request := apig.CreateHttpApiRequest{
		Name: name, Type: "LLM", ModelCategory: &w.scenario, AiProtocols: &apig.AiProtocols{w.protocol}, BasePath: &basePath,
		RemoveBasePathOnForward: &remove, Description: &w.description,
		FirstByteTimeout: w.traffic.firstPacket, TrafficConfig: w.traffic.config(nil),
		DeployConfigs: &apig.HttpApiDeployConfigs{{
			GatewayId: &gateway.GatewayId, EnvironmentId: &gateway.Environments[0].EnvironmentId, AutoDeploy: &deploy,
			BackendScene: &b.scene, ServiceConfigs: &b.services,
		}},
	}
	if w.recording.some() {
		(*request.DeployConfigs)[0].PolicyConfigs = w.recording.policies(nil)
	}
	if w.auth {
		authType, authMode := "Apikey", "Custom"
		request.EnableAuth, request.AuthConfig = &w.auth, &apig.AuthConfig{AuthType: &authType, AuthMode: &authMode}
	}
	return request
}

// gateway returns the gateway that was named, or the first one.
func (c *client) gateway(ctx context.Context, id string) (*apig.Gateway, error) {
	params := apig.ListGatewaysParams{}
	if id != "" {
		params.GatewayId = &id
	}
	page, err := c.ListGateways(ctx, params)
	if err != nil {
		return nil, err
	}
	if len(page.Items) == 0 || len(page.Items[0].Environments) == 0 {
		return nil, errors.New("there is no such gateway with an environment: make one with CreateGateway")
	}
	return &page.Items[0], nil
}

// upstream returns the id of an upstream service. For a model service of ours it is the one that stands for it, made if
// there is none yet.
func (c *client) upstream(ctx context.Context, gatewayID, id string) (string, error) {
	if !strings.HasPrefix(id, "ms-") {
		return id, nil
	}
	page, err := c.ListServices(ctx, apig.ListServicesParams{GatewayId: &gatewayID, Name: &id})
	if err != nil {
		return "", err
	}
	if len(page.Items) > 0 {
		return page.Items[0].ServiceId, nil
	}
	created, err := c.CreateService(ctx, "", apig.CreateServiceRequest{
		GatewayId: gatewayID, SourceType: "ModelService", ServiceConfigs: []apig.ServiceConfig{{Name: id, ModelServiceId: &id}},
	})
	if err != nil {
		return "", err
	}
	return created.ServiceIds[0], nil
}

// apiID returns the id of a Model API that is named by its name or its id.
func (c *client) apiID(ctx context.Context, name string) (string, error) {
	page, err := c.ListHttpApis(ctx, apig.ListHttpApisParams{Name: &name})
	if err != nil {
		return "", err
	}
	if len(page.Items) == 0 || len(page.Items[0].VersionedHttpApis) == 0 {
		return name, nil // an id, or the API says that there is no such thing
	}
	return page.Items[0].VersionedHttpApis[0].HttpApiId, nil
}

func (c *client) print(out io.Writer, api *apig.HttpApiApiInfo) error {
	if c.output == "json" {
		return printJSON(out, api)
	}
	rows := [][]string{
		{"Model API", api.Name},
		{"Id", api.HttpApiId},
		{"Scenario", api.ModelCategory},
		{"Protocol", strings.Join(api.AiProtocols, ", ")},
		{"Base path", api.BasePath},
		{"Authentication", authentication(api)},
		{"Revision", strconv.FormatInt(api.DeployedRevision, 10)},
	}
	for _, e := range api.Environments {
		rows = append(rows, []string{"Status", e.DeployStatus}, []string{"Gateway", e.GatewayInfo.GatewayId})
		for _, d := range e.SubDomains {
			rows = append(rows, []string{"Host", d.Name})
		}
		for _, d := range e.CustomDomains {
			rows = append(rows, []string{"Host", d.Name})
		}
		rows = append(rows, backendRows(e)...)
	}
	rows = append(rows, fallbackRows(api.DeployConfigs)...)
	rows = append(rows, trafficRows(&api.FirstByteTimeout, &api.TrafficConfig)...)
	return printTable(out, append(rows, servingRows(api)...))
}

// servingRows say which gateway processes serve which revision.
func servingRows(api *apig.HttpApiApiInfo) [][]string {
	if api.Serving == nil {
		return nil
	}
	everywhere := "not by every gateway process"
	switch {
	case len(*api.Serving) == 0:
		everywhere = "no gateway process reports"
	case api.ServedEverywhere != nil && *api.ServedEverywhere:
		everywhere = "by every gateway process"
	}
	rows := [][]string{{"Newest served", everywhere}}
	for _, s := range *api.Serving {
		serves := "an earlier revision"
		if s.Revision != nil {
			serves = "revision " + strconv.FormatInt(*s.Revision, 10)
		}
		if s.Revision != nil && *s.Revision == 0 {
			serves = "nothing"
		}
		rows = append(rows, []string{"  " + s.ProcessId, serves})
	}
	return rows
}

func authentication(api *apig.HttpApiApiInfo) string {
	if api.EnableAuth {
		return "consumers only, by " + authType(api.AuthConfig)
	}
	return "none"
}

// authType is what the consumers of an API prove themselves with, API keys unless it says otherwise.
func authType(config *apig.AuthConfig) string {
	if config == nil || config.AuthType == nil || *config.AuthType == "" {
		return "Apikey"
	}
	return *config.AuthType
}

func getModelAPI(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	id, err := c.apiID(ctx, args[0])
	if err != nil {
		return err
	}
	api, err := c.GetHttpApi(ctx, id)
	if err != nil {
		return err
	}
	return c.print(cmd.OutOrStdout(), api)
}

func deployModelAPI(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	id, err := c.apiID(ctx, args[0])
	if err != nil {
		return err
	}
	if _, err := c.DeployHttpApi(ctx, id); err != nil {
		return err
	}
	return c.showChanged(ctx, cmd, id)
}

func undeployModelAPI(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	id, err := c.apiID(ctx, args[0])
	if err != nil {
		return err
	}
	if err := c.UndeployHttpApi(ctx, id); err != nil {
		return err
	}
	return c.showChanged(ctx, cmd, id)
}

func listModelAPIs(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
	size := apig.PageSizeParam(100)
	var all []apig.HttpApiInfoByName
	for number := apig.PageNumberParam(1); ; number++ {
		page, err := c.ListHttpApis(ctx, apig.ListHttpApisParams{PageNumber: &number, PageSize: &size})
		if err != nil {
			return err
		}
		all = append(all, page.Items...)
		if len(page.Items) < int(size) {
			break
		}
	}
	if c.output == "json" {
		return printJSON(cmd.OutOrStdout(), all)
	}
	rows := [][]string{{"MODEL API", "SCENARIO", "PROTOCOL", "BASE PATH", "STATUS", "AGE", "ID"}}
	for _, item := range all {
		for _, api := range item.VersionedHttpApis {
			status := "-"
			if len(api.Environments) > 0 {
				status = api.Environments[0].DeployStatus
			}
			rows = append(rows, []string{
				api.Name, api.ModelCategory, strings.Join(api.AiProtocols, ","), api.BasePath, status,
				short(time.Since(time.UnixMilli(api.CreateTimestamp))), api.HttpApiId,
			})
		}
	}
	return printTable(cmd.OutOrStdout(), rows)
}

func (p *program) deleteModelAPI() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{Use: "delete NAME", Short: "Delete a Model API; asks for its name again", Args: cobra.ExactArgs(1)}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		id, err := c.apiID(ctx, args[0])
		if err != nil {
			return err
		}
		if !yes {
			if err := confirm(cmd, args[0]); err != nil {
				return err
			}
		}
		if err := c.DeleteHttpApi(ctx, id); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s deleted\n", args[0])
		return err
	})
}

// confirm asks a person to type the name again. A program says --yes.
func confirm(cmd *cobra.Command, name string) error {
	in := cmd.InOrStdin()
	if f, ok := in.(*os.File); ok && !term.IsTerminal(int(f.Fd())) {
		return errors.New("deleting takes the API down at once: say --yes where nobody can be asked")
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Type %s again to delete it: ", name)
	typed, err := bufio.NewReader(in).ReadString('\n')
	if err != nil || strings.TrimSpace(typed) != name {
		return errors.New("nothing was deleted: the name was not repeated")
	}
	return nil
}
