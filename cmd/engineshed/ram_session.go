package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/sts"
)

func (p *program) whoami() *cobra.Command {
	cmd := &cobra.Command{Use: "whoami", Short: "Show as whom the access key calls", Args: cobra.NoArgs}
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		who, err := c.GetCallerIdentity(ctx, sts.GetCallerIdentityRequest{})
		if err != nil {
			return err
		}
		if c.output == "json" {
			return printJSON(cmd.OutOrStdout(), who)
		}
		return printTable(cmd.OutOrStdout(), [][]string{
			{"Identity", string(who.IdentityType)}, {"Account", who.AccountId}, {"Arn", who.Arn}, {"Id", who.PrincipalId},
		})
	})
}

// assumption is what the flags of assume-role say.
type assumption struct {
	session, policyFile, externalID string
	seconds                         int32
}

func (p *program) assumeRole() *cobra.Command {
	var a assumption
	cmd := &cobra.Command{
		Use: "assume-role ROLE", Args: cobra.ExactArgs(1), Short: "Borrow the rights of a role: prints variables to export",
		Long: "Borrow the rights of a role of the account, or of another one by its ARN, and print what the shell takes:\n\n" +
			"  eval \"$(engineshed assume-role deployer)\"",
	}
	flags := cmd.Flags()
	flags.StringVar(&a.session, "session", "engineshed-cli", "name of the session in the audit trail")
	flags.StringVar(&a.policyFile, "policy", "", "file with a session policy: the session may do what both it and the role allow")
	flags.StringVar(&a.externalID, "external-id", "", "what the trust policy of the role may ask for")
	flags.Int32Var(&a.seconds, "seconds", 3600, "how long the session lasts")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		request, err := c.assumeRequest(ctx, args[0], a)
		if err != nil {
			return err
		}
		lent, err := c.AssumeRole(ctx, request)
		if err != nil {
			return err
		}
		if c.output == "json" {
			return printJSON(cmd.OutOrStdout(), lent)
		}
		for _, v := range [][2]string{
			{"ENDPOINT", c.credentials.Endpoint},
			{"ACCESS_KEY_ID", lent.Credentials.AccessKeyId},
			{"ACCESS_KEY_SECRET", lent.Credentials.AccessKeySecret},
			{"SECURITY_TOKEN", lent.Credentials.SecurityToken},
		} {
			fmt.Fprintf(cmd.OutOrStdout(), "export ENGINESHED_%s='%s'\n", v[0], v[1])
		}
		fmt.Fprintf(cmd.OutOrStdout(), "# %s, until %s\n", lent.AssumedRoleUser.Arn, lent.Credentials.Expiration)
		return nil
	})
}

func (c *client) assumeRequest(ctx context.Context, role string, a assumption) (sts.AssumeRoleRequest, error) {
	request := sts.AssumeRoleRequest{RoleArn: role, RoleSessionName: a.session, DurationSeconds: &a.seconds}
	if a.externalID != "" {
		request.ExternalId = &a.externalID
	}
	if a.policyFile != "" {
		policy, err := os.ReadFile(a.policyFile)
		if err != nil {
			return request, fmt.Errorf("--policy: %w", err)
		}
		text := string(policy)
		request.Policy = &text
	}
	if len(role) > 4 && role[:4] == "acs:" {
		return request, nil
	}
	who, err := c.GetCallerIdentity(ctx, sts.GetCallerIdentityRequest{})
	if err != nil {
		return request, err
	}
	request.RoleArn = "acs:ram::" + who.AccountId + ":role/" + role
	return request, nil
}
