package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/ram"
	"github.com/engineshed/engineshed/sdk/sts"
)

func (p *program) ramRole() *cobra.Command {
	cmd := &cobra.Command{
		Use: "role", Short: "Manage roles: rights that are lent for a time",
		Long: `The trust policy of a role says who may assume it, with "engineshed assume-role"; its policies say what can be done then.`,
	}
	cmd.AddCommand(
		p.createRole(),
		p.clientCommand(&cobra.Command{
			Use: "list", Short: "List the roles of the account", Args: cobra.NoArgs, Example: "  engineshed ram role list",
		}, listRoles),
		p.clientCommand(&cobra.Command{
			Use: "show NAME", Short: "Show a role with its trust policy and policies", Args: cobra.ExactArgs(1),
			Example: "  engineshed ram role show deployer",
		}, showRole),
		p.updateRole(),
		p.clientCommand(&cobra.Command{
			Use: "delete NAME", Short: "Delete a role that has no policies; its sessions end at once", Args: cobra.ExactArgs(1),
			Example: "  engineshed ram role delete deployer",
		}, deleteRole),
	)
	return cmd
}

// roleWish is what the flags of create and update say.
type roleWish struct {
	description string
	trusted     []string
	trustFile   string
	seconds     int32
}

func (w *roleWish) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&w.description, "description", "", "a note for people")
	flags.StringArrayVar(&w.trusted, "trust", nil, "who may assume the role: user/NAME, role/NAME, an account (16 digits) or an ARN; repeat for more")
	flags.StringVar(&w.trustFile, "trust-policy", "", "file with the trust policy, instead of --trust; - is the standard input")
	flags.Int32Var(&w.seconds, "max-session-seconds", 0, "how long a session may last at most, 3600 to 43200")
}

// trustPolicy is the trust policy that the flags say, or nil.
func (w *roleWish) trustPolicy(ctx context.Context, cmd *cobra.Command, c *client) (*string, error) {
	switch {
	case w.trustFile != "" && w.trusted != nil:
		return nil, errors.New("give --trust or --trust-policy, not both")
	case w.trustFile != "":
		document, err := readPolicy(cmd, "trust-policy", w.trustFile)
		return &document, err
	case w.trusted == nil:
		return nil, nil
	}
	var arns []string
	for _, who := range w.trusted {
		arn, err := c.principalARN(ctx, who)
		if err != nil {
			return nil, err
		}
		arns = append(arns, arn)
	}
	principals, err := json.Marshal(arns)
	document := `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"RAM":` + string(principals) + `}}]}`
	return &document, err
}

// readPolicy reads the file that a flag names.
func readPolicy(cmd *cobra.Command, flag, path string) (string, error) {
	read := func() ([]byte, error) { return os.ReadFile(path) }
	if path == "-" {
		read = func() ([]byte, error) { return io.ReadAll(cmd.InOrStdin()) }
	}
	text, err := read()
	if err != nil {
		return "", fmt.Errorf("--%s: %w", flag, err)
	}
	return string(text), nil
}

// principalARN is the ARN of somebody: an ARN stays what it is, 16 digits are an account, and user/NAME, role/NAME or the
// name of a user are of the caller's account.
func (c *client) principalARN(ctx context.Context, who string) (string, error) {
	if strings.HasPrefix(who, "acs:") {
		return who, nil
	}
	if _, err := strconv.ParseUint(who, 10, 64); err == nil && len(who) == 16 {
		return "acs:ram::" + who + ":root", nil
	}
	me, err := c.GetCallerIdentity(ctx, sts.GetCallerIdentityRequest{})
	if err != nil {
		return "", fmt.Errorf("find out whose account it is: %w", err)
	}
	if !strings.Contains(who, "/") {
		who = "user/" + who
	}
	return "acs:ram::" + me.AccountId + ":" + who, nil
}

func (p *program) createRole() *cobra.Command {
	var w roleWish
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a role, and say who may assume it", Args: cobra.ExactArgs(1),
		Example: "  engineshed ram role create deployer --trust user/alice",
	}
	w.addFlags(cmd)
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		trust, err := w.trustPolicy(ctx, cmd, c)
		if err != nil {
			return err
		}
		if trust == nil {
			return errors.New("say who may assume the role, with --trust or --trust-policy")
		}
		made, err := c.CreateRole(ctx, ram.CreateRoleRequest{
			RoleName: args[0], AssumeRolePolicyDocument: *trust, Description: unlessNone(w.description), MaxSessionDuration: unlessNone(w.seconds),
		})
		if err != nil {
			return err
		}
		return c.show(cmd, made, [][]string{{"Role", made.Role.RoleName}, {"Id", made.Role.RoleId}, {"Arn", made.Role.Arn}})
	})
}

func listRoles(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
	roles, err := allPages(func(marker *string) ([]ram.Role, string, bool, error) {
		page, err := c.ListRoles(ctx, ram.ListRolesRequest{Marker: marker})
		if err != nil {
			return nil, "", false, err
		}
		return page.Roles.Role, page.Marker, page.IsTruncated, nil
	})
	if err != nil {
		return err
	}
	return c.show(cmd, map[string]any{"Roles": roles}, table(roles, func(r ram.Role) []string {
		return []string{r.RoleName, r.Arn, sessionTime(r), string(r.Source), r.Description}
	}, "ROLE", "ARN", "SESSIONS UP TO", "FROM", "DESCRIPTION"))
}

func sessionTime(r ram.Role) string { return strconv.FormatInt(r.MaxSessionDuration, 10) + " s" }

func showRole(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	found, err := c.GetRole(ctx, ram.GetRoleRequest{RoleName: args[0]})
	if err != nil {
		return err
	}
	has, err := c.holdingsOf(ctx, principal{ofRole, args[0]})
	if err != nil {
		return err
	}
	r := found.Role
	err = c.show(cmd, map[string]any{"Role": r, "PolicyAttachments": has.grants}, [][]string{
		{"Role", r.RoleName},
		{"Id", r.RoleId},
		{"Arn", r.Arn},
		{"Description", r.Description},
		{"Sessions up to", sessionTime(r)},
		{"From", string(r.Source)},
		{"Created", r.CreateDate},
	}, policiesTable(has.grants))
	if err != nil || c.output == "json" {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "\nTrust policy\n%s\n", pretty(r.AssumeRolePolicyDocument))
	return err
}

func (p *program) updateRole() *cobra.Command {
	var w roleWish
	cmd := &cobra.Command{
		Use: "update NAME", Short: "Change a role: its trust policy, note or how long sessions last", Args: cobra.ExactArgs(1),
		Long: `--trust and --trust-policy replace the whole trust policy. Sessions that are under way go on; deleting the role, or detaching its
policies, ends what they may do.`,
		Example: "  engineshed ram role update deployer --trust user/alice --trust user/bob",
	}
	w.addFlags(cmd)
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		trust, err := w.trustPolicy(ctx, cmd, c)
		if err != nil {
			return err
		}
		request := ram.UpdateRoleRequest{RoleName: args[0], NewAssumeRolePolicyDocument: trust, NewMaxSessionDuration: unlessNone(w.seconds)}
		if cmd.Flags().Changed("description") {
			request.NewDescription = &w.description
		}
		if trust == nil && request.NewMaxSessionDuration == nil && request.NewDescription == nil {
			return errors.New("say what to change: --trust, --trust-policy, --description, --max-session-seconds")
		}
		changed, err := c.UpdateRole(ctx, request)
		if err != nil {
			return err
		}
		return c.done(cmd, changed, "The role %s is changed.", args[0])
	})
}

func deleteRole(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	deleted, err := c.DeleteRole(ctx, ram.DeleteRoleRequest{RoleName: args[0]})
	if err != nil {
		return c.heldUp(ctx, err, principal{ofRole, args[0]})
	}
	return c.done(cmd, deleted, "The role %s is deleted.", args[0])
}
