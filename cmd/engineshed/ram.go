package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk"
	"github.com/engineshed/engineshed/sdk/ram"
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

func (p *program) ram() *cobra.Command {
	cmd := &cobra.Command{Use: "ram", Short: "Manage who may do what in the account"}
	user := &cobra.Command{Use: "user", Short: "Manage users"}
	var policies []string
	var withKey bool
	create := &cobra.Command{Use: "create NAME", Short: "Make a user, with policies and an access key", Args: cobra.ExactArgs(1)}
	create.Flags().StringArrayVar(&policies, "policy", nil, "attach this system or custom policy, repeat for more")
	create.Flags().BoolVar(&withKey, "access-key", false, "make an access key; its secret is shown this once")
	user.AddCommand(
		p.clientCommand(create, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			return c.createUser(ctx, cmd, args[0], policies, withKey)
		}),
		p.clientCommand(&cobra.Command{Use: "list", Short: "List the users of the account", Args: cobra.NoArgs}, listUsers),
		p.clientCommand(&cobra.Command{
			Use: "delete NAME", Short: "Delete a user who has no keys, groups and policies", Args: cobra.ExactArgs(1),
		}, deleteUser),
	)
	cmd.AddCommand(user)
	return cmd
}

// createUser makes a user. What it fails to add is said; what is there stays.
func (c *client) createUser(ctx context.Context, cmd *cobra.Command, name string, policies []string, withKey bool) error {
	out := cmd.OutOrStdout()
	made, err := c.CreateUser(ctx, ram.CreateUserRequest{UserName: name})
	if err != nil {
		return err
	}
	for _, policy := range policies {
		if err := c.attachToUser(ctx, name, policy); err != nil {
			return fmt.Errorf("the user %s is made, but not given %s: %w", name, policy, err)
		}
	}
	rows := [][]string{{"User", made.User.UserName}, {"Id", made.User.UserId}}
	answer := map[string]any{"User": made.User}
	if withKey {
		key, err := c.CreateAccessKey(ctx, ram.CreateAccessKeyRequest{UserName: &name})
		if err != nil {
			return fmt.Errorf("the user %s is made, but has no access key: %w", name, err)
		}
		rows = append(rows, []string{"AccessKeyId", key.AccessKey.AccessKeyId}, []string{"AccessKeySecret", key.AccessKey.AccessKeySecret})
		answer["AccessKey"] = key.AccessKey
	}
	if c.output == "json" {
		return printJSON(out, answer)
	}
	return printTable(out, rows)
}

// attachToUser attaches the system policy of the name or, where there is none, the account's own.
func (c *client) attachToUser(ctx context.Context, user, policy string) error {
	ofType := ram.AttachPolicyToUserRequestPolicyTypeSystem
	_, err := c.GetPolicy(ctx, ram.GetPolicyRequest{PolicyType: ram.GetPolicyRequestPolicyTypeSystem, PolicyName: policy})
	if refused, ok := errors.AsType[*sdk.Error](err); ok && refused.Code == "EntityNotExist.Policy" {
		ofType, err = ram.AttachPolicyToUserRequestPolicyTypeCustom, nil
	}
	if err == nil {
		_, err = c.AttachPolicyToUser(ctx, ram.AttachPolicyToUserRequest{PolicyType: ofType, PolicyName: policy, UserName: user})
	}
	return err
}

func listUsers(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
	users, marker := []ram.User{}, ""
	for more := true; more; {
		request := ram.ListUsersRequest{}
		if marker != "" {
			request.Marker = &marker
		}
		page, err := c.ListUsers(ctx, request)
		if err != nil {
			return err
		}
		users = append(users, page.Users.User...)
		marker, more = page.Marker, page.IsTruncated
	}
	if c.output == "json" {
		return printJSON(cmd.OutOrStdout(), map[string]any{"Users": users})
	}
	rows := [][]string{{"USER", "ID", "FROM", "COMMENTS"}}
	for _, u := range users {
		rows = append(rows, []string{u.UserName, u.UserId, string(u.Source), u.Comments})
	}
	return printTable(cmd.OutOrStdout(), rows)
}

func deleteUser(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	deleted, err := c.DeleteUser(ctx, ram.DeleteUserRequest{UserName: args[0]})
	if err != nil || c.output != "json" {
		return err
	}
	return printJSON(cmd.OutOrStdout(), deleted)
}
