package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/ram"
)

func (p *program) ramUser() *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "Manage users: people and programs"}
	cmd.AddCommand(
		p.createUser(),
		p.clientCommand(&cobra.Command{
			Use: "list", Short: "List the users of the account", Args: cobra.NoArgs, Example: "  engineshed ram user list",
		}, listUsers),
		p.clientCommand(&cobra.Command{
			Use: "show NAME", Short: "Show a user with groups, policies and access keys", Args: cobra.ExactArgs(1),
			Example: "  engineshed ram user show alice",
		}, showUser),
		p.updateUser(),
		p.clientCommand(&cobra.Command{
			Use: "delete NAME", Short: "Delete a user who has no keys, groups and policies", Args: cobra.ExactArgs(1),
			Example: "  engineshed ram user delete alice",
		}, deleteUser),
	)
	return cmd
}

func (p *program) createUser() *cobra.Command {
	var policies []string
	var withKey bool
	var displayName, comments string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a user, with policies and an access key", Args: cobra.ExactArgs(1),
		Example: "  engineshed ram user create alice --policy AliyunGPDBReadOnlyAccess --access-key",
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&policies, "policy", nil, "attach this policy: NAME, system/NAME or custom/NAME; repeat for more")
	flags.BoolVar(&withKey, "access-key", false, "make an access key; its secret is shown this once")
	flags.StringVar(&displayName, "display-name", "", "how people call the user")
	flags.StringVar(&comments, "comments", "", "a note for people")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		request := ram.CreateUserRequest{UserName: args[0], DisplayName: unlessNone(displayName), Comments: unlessNone(comments)}
		return c.createUser(ctx, cmd, request, policies, withKey)
	})
}

// createUser makes a user. What it fails to add is said; what is there stays.
func (c *client) createUser(ctx context.Context, cmd *cobra.Command, request ram.CreateUserRequest, policies []string, withKey bool) error {
	name := request.UserName
	made, err := c.CreateUser(ctx, request)
	if err != nil {
		return err
	}
	for _, policy := range policies {
		if err := c.grant(ctx, policy, principal{ofUser, name}, ""); err != nil {
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
	return c.show(cmd, answer, rows)
}

func listUsers(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
	users, err := allPages(func(marker *string) ([]ram.User, string, bool, error) {
		page, err := c.ListUsers(ctx, ram.ListUsersRequest{Marker: marker})
		if err != nil {
			return nil, "", false, err
		}
		return page.Users.User, page.Marker, page.IsTruncated, nil
	})
	if err != nil {
		return err
	}
	return c.show(cmd, map[string]any{"Users": users}, table(users, func(u ram.User) []string {
		return []string{u.UserName, u.UserId, string(u.Source), u.DisplayName, u.Comments}
	}, "USER", "ID", "FROM", "DISPLAY NAME", "COMMENTS"))
}

func showUser(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	found, err := c.GetUser(ctx, ram.GetUserRequest{UserName: &args[0]})
	if err != nil {
		return err
	}
	has, err := c.holdingsOf(ctx, principal{ofUser, args[0]})
	if err != nil {
		return err
	}
	u := found.User
	value := map[string]any{"User": u, "Groups": has.groups, "PolicyAttachments": has.grants, "AccessKeys": has.keys}
	return c.show(cmd, value, [][]string{
		{"User", u.UserName},
		{"Id", u.UserId},
		{"Display name", u.DisplayName},
		{"Comments", u.Comments},
		{"E-mail", u.Email},
		{"Mobile phone", u.MobilePhone},
		{"From", string(u.Source)},
		{"Created", u.CreateDate},
	}, groupTable(has.groups), policiesTable(has.grants), keyTable(has.keys))
}

func (p *program) updateUser() *cobra.Command {
	cmd := &cobra.Command{
		Use: "update NAME", Short: "Change a user", Args: cobra.ExactArgs(1),
		Example: "  engineshed ram user update alice --comments 'builds the search'",
	}
	flags := cmd.Flags()
	flags.String("name", "", "a new name, and with it a new ARN")
	flags.String("display-name", "", "how people call the user")
	flags.String("comments", "", "a note for people")
	flags.String("email", "", "e-mail address")
	flags.String("mobile-phone", "", "telephone number")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		given, err := changes(cmd, "name", "display-name", "comments", "email", "mobile-phone")
		if err != nil {
			return err
		}
		changed, err := c.UpdateUser(ctx, ram.UpdateUserRequest{
			UserName: args[0], NewUserName: given["name"], NewDisplayName: given["display-name"], NewComments: given["comments"],
			NewEmail: given["email"], NewMobilePhone: given["mobile-phone"],
		})
		if err != nil {
			return err
		}
		return c.done(cmd, changed, "The user %s is changed.", changed.User.UserName)
	})
}

func deleteUser(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	deleted, err := c.DeleteUser(ctx, ram.DeleteUserRequest{UserName: args[0]})
	if err != nil {
		return c.heldUp(ctx, err, principal{ofUser, args[0]})
	}
	return c.done(cmd, deleted, "The user %s is deleted.", args[0])
}
