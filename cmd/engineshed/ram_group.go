package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/ram"
)

func (p *program) ramGroup() *cobra.Command {
	cmd := &cobra.Command{Use: "group", Short: "Manage groups: users who share policies"}
	cmd.AddCommand(
		p.createGroup(),
		p.clientCommand(&cobra.Command{
			Use: "list", Short: "List the groups of the account", Args: cobra.NoArgs, Example: "  engineshed ram group list",
		}, listGroups),
		p.clientCommand(&cobra.Command{
			Use: "show NAME", Short: "Show a group with its users and policies", Args: cobra.ExactArgs(1),
			Example: "  engineshed ram group show search",
		}, showGroup),
		p.updateGroup(),
		p.clientCommand(&cobra.Command{
			Use: "delete NAME", Short: "Delete a group that has no users and policies", Args: cobra.ExactArgs(1),
			Example: "  engineshed ram group delete search",
		}, deleteGroup),
		p.clientCommand(&cobra.Command{
			Use: "add-user GROUP USER...", Short: "Put users into a group", Args: cobra.MinimumNArgs(2),
			Example: "  engineshed ram group add-user search alice bob",
		}, addUsers),
		p.clientCommand(&cobra.Command{
			Use: "remove-user GROUP USER...", Short: "Take users out of a group", Args: cobra.MinimumNArgs(2),
			Example: "  engineshed ram group remove-user search alice",
		}, removeUsers),
	)
	return cmd
}

func (p *program) createGroup() *cobra.Command {
	var comments string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a group", Args: cobra.ExactArgs(1),
		Example: "  engineshed ram group create search --comments 'everybody who works on search'",
	}
	cmd.Flags().StringVar(&comments, "comments", "", "a note for people")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		made, err := c.CreateGroup(ctx, ram.CreateGroupRequest{GroupName: args[0], Comments: unlessNone(comments)})
		if err != nil {
			return err
		}
		return c.show(cmd, made, [][]string{{"Group", made.Group.GroupName}, {"Id", made.Group.GroupId}})
	})
}

func listGroups(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
	groups, err := allPages(func(marker *string) ([]ram.Group, string, bool, error) {
		page, err := c.ListGroups(ctx, ram.ListGroupsRequest{Marker: marker})
		if err != nil {
			return nil, "", false, err
		}
		return page.Groups.Group, page.Marker, page.IsTruncated, nil
	})
	if err != nil {
		return err
	}
	return c.show(cmd, map[string]any{"Groups": groups}, groupTable(groups))
}

func groupTable(groups []ram.Group) [][]string {
	return table(groups, func(g ram.Group) []string { return []string{g.GroupName, g.GroupId, string(g.Source), g.Comments} }, "GROUP", "ID", "FROM", "COMMENTS")
}

// members returns the users of a group.
func (c *client) members(ctx context.Context, group string) ([]ram.User, error) {
	return allPages(func(marker *string) ([]ram.User, string, bool, error) {
		page, err := c.ListUsersForGroup(ctx, ram.ListUsersForGroupRequest{GroupName: group, Marker: marker})
		if err != nil {
			return nil, "", false, err
		}
		return page.Users.User, page.Marker, page.IsTruncated, nil
	})
}

func showGroup(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	found, err := c.GetGroup(ctx, ram.GetGroupRequest{GroupName: args[0]})
	if err != nil {
		return err
	}
	has, err := c.holdingsOf(ctx, principal{ofGroup, args[0]})
	if err != nil {
		return err
	}
	g := found.Group
	members := table(has.users, func(u ram.User) []string { return []string{u.UserName, u.DisplayName, *u.JoinDate} }, "USER", "DISPLAY NAME", "SINCE")
	return c.show(cmd, map[string]any{"Group": g, "Users": has.users, "PolicyAttachments": has.grants}, [][]string{
		{"Group", g.GroupName}, {"Id", g.GroupId}, {"Comments", g.Comments}, {"From", string(g.Source)}, {"Created", g.CreateDate},
	}, members, policiesTable(has.grants))
}

func (p *program) updateGroup() *cobra.Command {
	cmd := &cobra.Command{
		Use: "update NAME", Short: "Change a group", Args: cobra.ExactArgs(1), Example: "  engineshed ram group update search --name ranking",
	}
	cmd.Flags().String("name", "", "a new name, and with it a new ARN")
	cmd.Flags().String("comments", "", "a note for people")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		given, err := changes(cmd, "name", "comments")
		if err != nil {
			return err
		}
		changed, err := c.UpdateGroup(ctx, ram.UpdateGroupRequest{GroupName: args[0], NewGroupName: given["name"], NewComments: given["comments"]})
		if err != nil {
			return err
		}
		return c.done(cmd, changed, "The group %s is changed.", changed.Group.GroupName)
	})
}

func deleteGroup(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	deleted, err := c.DeleteGroup(ctx, ram.DeleteGroupRequest{GroupName: args[0]})
	if err != nil {
		return c.heldUp(ctx, err, principal{ofGroup, args[0]})
	}
	return c.done(cmd, deleted, "The group %s is deleted.", args[0])
}

func addUsers(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	for _, user := range args[1:] {
		done, err := c.AddUserToGroup(ctx, ram.AddUserToGroupRequest{GroupName: args[0], UserName: user})
		if err != nil {
			return fmt.Errorf("put %s into the group: %w", user, err)
		}
		if err := c.done(cmd, done, "The user %s is in the group %s.", user, args[0]); err != nil {
			return err
		}
	}
	return nil
}

func removeUsers(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	for _, user := range args[1:] {
		done, err := c.RemoveUserFromGroup(ctx, ram.RemoveUserFromGroupRequest{GroupName: args[0], UserName: user})
		if err != nil {
			return fmt.Errorf("take %s out of the group: %w", user, err)
		}
		if err := c.done(cmd, done, "The user %s is not in the group %s any more.", user, args[0]); err != nil {
			return err
		}
	}
	return nil
}
