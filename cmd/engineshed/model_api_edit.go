package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/apig"
)

// apiEdit is what the flags of edit say; nil stays as it is.
type apiEdit struct {
	basePath, description, service, model *string
	keepBasePath, auth                    *bool
	recording                             recording
	traffic                               traffic
	noDeploy                              bool
}

func (p *program) editModelAPI() *cobra.Command {
	cmd := &cobra.Command{
		Use: "edit NAME", Short: "Change a Model API, by flags or in an editor", Args: cobra.ExactArgs(1),
		Long: `Changes a Model API and deploys it if it is deployed. Without a flag its document opens in $VISUAL, $EDITOR or vi; what is
saved is imported.`,
		Example: "  engineshed model-api edit chat --model qwen-plus",
	}
	flags := cmd.Flags()
	flags.String("base-path", "", "path the API begins at")
	flags.String("description", "", "a note for people")
	flags.String("service", "", "where requests go: ms-… or svc-…")
	flags.String("model", "", "model written over the one a request names; empty passes it through")
	flags.Bool("keep-base-path", false, "leave the base path in what the service is asked for")
	flags.Bool("auth", false, "only consumers with a rule may call; --auth=false lets everybody")
	addTrafficFlags(flags)
	addRecordingFlags(flags)
	flags.Bool("no-deploy", false, "with other flags: gateways go on serving the revision before")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		id, err := c.apiID(ctx, args[0])
		if err != nil {
			return err
		}
		change, some, err := readEdit(cmd)
		switch {
		case err != nil:
			return err
		case some:
			return c.editAPI(ctx, cmd, id, change)
		case change.noDeploy:
			return errors.New("--no-deploy goes with the flags that say what to change; in an editor, set autoDeploy to false")
		}
		return c.editDocument(ctx, cmd, id, or(or(p.getenv("VISUAL"), p.getenv("EDITOR")), "vi"))
	})
}

// readEdit returns what the flags say, and whether they change anything.
func readEdit(cmd *cobra.Command) (change apiEdit, some bool, err error) {
	flags := cmd.Flags()
	text := func(name string) *string {
		if !flags.Changed(name) {
			return nil
		}
		some = true
		value, _ := flags.GetString(name)
		return &value
	}
	truth := func(name string) *bool {
		if !flags.Changed(name) {
			return nil
		}
		some = true
		value, _ := flags.GetBool(name)
		return &value
	}
	change = apiEdit{
		basePath: text("base-path"), description: text("description"), service: text("service"), model: text("model"),
		keepBasePath: truth("keep-base-path"), auth: truth("auth"),
	}
	change.recording = readRecording(cmd)
	change.traffic, err = readTraffic(cmd)
	change.noDeploy, _ = flags.GetBool("no-deploy")
	return change, some || change.recording.some() || change.traffic.some(), err
}

func (c *client) editAPI(ctx context.Context, cmd *cobra.Command, id string, change apiEdit) error {
	api, err := c.GetHttpApi(ctx, id)
	if err != nil {
		return err
	}
	request := apig.UpdateHttpApiRequest{
		BasePath: api.BasePath, Description: change.description, EnableAuth: change.auth, OnlyChangeConfig: &change.noDeploy,
		FirstByteTimeout: change.traffic.firstPacket, TrafficConfig: change.traffic.config(&api.TrafficConfig),
	}
	if change.basePath != nil {
		request.BasePath = *change.basePath
	}
	if change.keepBasePath != nil {
		remove := !*change.keepBasePath
		request.RemoveBasePathOnForward = &remove
	}
	if change.auth != nil && *change.auth {
		authType, authMode := authType(api.AuthConfig), "Custom"
		request.AuthConfig = &apig.AuthConfig{AuthType: &authType, AuthMode: &authMode}
	}
	if change.service != nil || change.model != nil || change.recording.some() || change.traffic.fallsBack() {
		if request.DeployConfigs, err = c.reconfigure(ctx, api, change); err != nil {
			return err
		}
	}
	if err := c.UpdateHttpApi(ctx, id, request); err != nil {
		return err
	}
	return c.showChanged(ctx, cmd, id)
}

// reconfigure is the deployConfigs of the API with another service, model or policy.
func (c *client) reconfigure(ctx context.Context, api *apig.HttpApiApiInfo, change apiEdit) (*apig.HttpApiDeployConfigs, error) {
	if len(api.DeployConfigs) != 1 {
		return nil, errors.New("the Model API has not exactly one deployConfig: edit it without flags")
	}
	config := api.DeployConfigs[0]
	if change.recording.some() {
		config.PolicyConfigs = change.recording.policies(config.PolicyConfigs)
	}
	if change.traffic.fallsBack() {
		var err error
		if config.PolicyConfigs, err = c.fallback(ctx, api.GatewayId, config.PolicyConfigs, change.traffic); err != nil {
			return nil, err
		}
	}
	if change.service == nil && change.model == nil {
		return &apig.HttpApiDeployConfigs{config}, nil
	}
	if config.ServiceConfigs == nil || len(*config.ServiceConfigs) != 1 {
		return nil, errors.New("the Model API has not exactly one service, so that --service and --model do not say which is meant: edit it without flags")
	}
	target := (*config.ServiceConfigs)[0]
	if change.service != nil {
		id, err := c.upstream(ctx, api.GatewayId, *change.service)
		if err != nil {
			return nil, err
		}
		target.ServiceId = id
	}
	if change.model != nil {
		target.ModelName = unlessNone(*change.model)
	}
	config.ServiceConfigs = &[]apig.HttpApiServiceConfig{target}
	return &apig.HttpApiDeployConfigs{config}, nil
}

// editDocument opens the document in the editor and imports what was saved. Who may call is no part of it.
func (c *client) editDocument(ctx context.Context, cmd *cobra.Command, id, editor string) error {
	document, err := c.ExportHttpApi(ctx, id, apig.ExportHttpApiParams{})
	if err != nil {
		return err
	}
	document.Consumers, document.ConsumerGroups = nil, nil
	dir, err := os.MkdirTemp("", "engineshed-edit-")
	if err != nil {
		return err
	}
	file := filepath.Join(dir, document.Name+".json")
	edited, err := edit(ctx, cmd, editor, file, document)
	if err == nil && edited != nil {
		err = c.importDocument(ctx, cmd, *edited, false)
	}
	if err != nil && edited != nil {
		return fmt.Errorf("%w\nWhat you wrote is in %s", err, file)
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// edit returns the document as it was saved, nil when it was left as it is.
func edit(ctx context.Context, cmd *cobra.Command, editor, file string, document *apig.HttpApiDocument) (*apig.HttpApiDocument, error) {
	var before bytes.Buffer
	if err := printJSON(&before, document); err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, before.Bytes(), 0o600); err != nil {
		return nil, err
	}
	run := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, "sh", file) // $EDITOR may carry arguments
	run.Stdin, run.Stdout, run.Stderr = cmd.InOrStdin(), cmd.ErrOrStderr(), cmd.ErrOrStderr()
	if err := run.Run(); err != nil {
		return nil, fmt.Errorf("the editor %s: %w; nothing was changed", editor, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(text, before.Bytes()) {
		_, err := fmt.Fprintln(cmd.ErrOrStderr(), "nothing was changed")
		return nil, err
	}
	edited, err := readDocument(text)
	if err == nil && edited.Name != document.Name {
		err = fmt.Errorf("the name of a Model API never changes: it is %s", document.Name)
	}
	return &edited, err
}
