package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/internal/up"
	"github.com/engineshed/engineshed/sdk"
	"github.com/engineshed/engineshed/sdk/gpdb"
)

// client is what every verb that calls the API has in common: where, who, and how to print.
type client struct {
	*sdk.Client
	given           up.Credentials // by flags and variables
	credentialsFile string
	dataDir         string
	securityToken   string // goes with the access key that was given
	output          string

	credentials up.Credentials // what is used
}

// clientCommand is a verb that calls the API as c.
func (p *program) clientCommand(cmd *cobra.Command, run func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error) *cobra.Command {
	c := &client{}
	flags := cmd.Flags()
	flags.StringVar(&c.given.Endpoint, "endpoint", "", "URL of the OpenAPI endpoint")
	flags.StringVar(&c.given.AccessKeyID, "access-key-id", "", "access key id")
	flags.StringVar(&c.given.AccessKeySecret, "access-key-secret", "", "access key secret; other users of this machine see flags, so better use the variable")
	flags.StringVar(&c.securityToken, "security-token", "", "security token of a session; better use the variable, which assume-role prints")
	flags.StringVar(&c.given.DBInstanceID, "db-instance-id", "", "DB instance (default: the one of the credentials file, or the only one there is)")
	flags.StringVar(&c.given.RegionID, "region", "", "region of the endpoint")
	flags.StringVar(&c.credentialsFile, "credentials", "", "file with what is not given otherwise (default: credentials.json in the data directory)")
	flags.StringVar(&c.dataDir, "data-dir", "", "data directory of engineshed up")
	flags.StringVarP(&c.output, "output", "o", "table", "table for people, json for programs")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := c.connect(p.getenv); err != nil {
			return err
		}
		return explain(run(cmd.Context(), cmd, c, args), c.credentials)
	}
	return cmd
}

func (c *client) connect(getenv func(string) string) error {
	if c.output != "table" && c.output != "json" {
		return fmt.Errorf("--output takes table or json, not %q", c.output)
	}
	var err error
	if c.credentials, err = c.read(getenv); err != nil {
		return err
	}
	config := sdk.Config{
		Endpoint: c.credentials.Endpoint, AccessKeyID: c.credentials.AccessKeyID, AccessKeySecret: c.credentials.AccessKeySecret,
	}
	if c.given.AccessKeyID != "" {
		config.SecurityToken = c.securityToken
	}
	c.Client, err = sdk.New(config)
	return err
}

// read completes what was given with the credentials file. The file is not asked for when nothing of it is needed.
func (c *client) read(getenv func(string) string) (up.Credentials, error) {
	path := c.credentialsFile
	complete := c.given.Endpoint != "" && c.given.AccessKeyID != "" && c.given.AccessKeySecret != ""
	if path == "" && complete {
		return c.given, nil
	}
	if path == "" {
		dir := c.dataDir
		if dir == "" {
			var err error
			if dir, err = up.DefaultDataDir(getenv); err != nil {
				return c.given, err
			}
		}
		path = filepath.Join(dir, "credentials.json")
	}
	file, err := readCredentials(path)
	if err != nil {
		return c.given, err
	}
	return merge(c.given, file), nil
}

func readCredentials(path string) (up.Credentials, error) {
	var credentials up.Credentials
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return credentials, fmt.Errorf("there is no %s: start `engineshed up`, or say where with --credentials, "+
			"or set ENGINESHED_ENDPOINT, ENGINESHED_ACCESS_KEY_ID and ENGINESHED_ACCESS_KEY_SECRET", path)
	case err != nil:
		return credentials, fmt.Errorf("read the credentials: %w", err)
	}
	if err := json.Unmarshal(text, &credentials); err != nil {
		return credentials, fmt.Errorf("read the credentials in %s: %w", path, err)
	}
	return credentials, nil
}

// merge prefers what was given. An access key is given whole: an id with another key's secret signs nothing.
func merge(given, file up.Credentials) up.Credentials {
	if given.AccessKeyID == "" && given.AccessKeySecret == "" {
		given.AccessKeyID, given.AccessKeySecret = file.AccessKeyID, file.AccessKeySecret
	}
	given.Endpoint = or(given.Endpoint, file.Endpoint)
	given.DBInstanceID = or(given.DBInstanceID, file.DBInstanceID)
	given.RegionID = or(given.RegionID, file.RegionID)
	return given
}

// instance returns the DB instance to work on.
func (c *client) instance(ctx context.Context) (string, error) {
	if c.credentials.DBInstanceID != "" {
		return c.credentials.DBInstanceID, nil
	}
	found, err := c.DescribeDBInstances(ctx, gpdb.DescribeDBInstancesRequest{RegionId: c.credentials.RegionID})
	if err != nil {
		return "", err
	}
	var ids []string
	for _, instance := range found.Items.DBInstance {
		ids = append(ids, instance.DBInstanceId)
	}
	if len(ids) != 1 || found.TotalRecordCount != 1 {
		return "", fmt.Errorf("say which DB instance with --db-instance-id; this account has %d: %s", found.TotalRecordCount, or(strings.Join(ids, ", "), "none"))
	}
	return ids[0], nil
}

// explain makes an error one sentence that says what to do.
func explain(err error, credentials up.Credentials) error {
	if refused, ok := errors.AsType[*sdk.Error](err); ok {
		switch refused.Code {
		case "SignatureDoesNotMatch", "InvalidAccessKeyId.NotFound", "InvalidAccessKeyId.Inactive":
			return fmt.Errorf("the endpoint %s does not accept the access key %s: check the key and its secret (%s, request %s)",
				credentials.Endpoint, credentials.AccessKeyID, refused.Code, refused.RequestID)
		}
		if strings.Contains(err.Error(), "\n") || strings.Contains(refused.Message, refused.Recommend) {
			return err // what to do next is said
		}
		return fmt.Errorf("%w. %s", err, refused.Recommend)
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("nothing answers at %s; is `engineshed up` running? (%w)", credentials.Endpoint, err)
	}
	return err
}
