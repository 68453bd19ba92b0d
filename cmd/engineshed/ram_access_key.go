package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/ram"
)

func (p *program) ramAccessKey() *cobra.Command {
	cmd := &cobra.Command{
		Use: "access-key", Short: "Manage what users sign their calls with",
		Long: "A user has at most two access keys, so that one can take the place of the other. Where no user is named, the keys are the caller's own.",
	}
	cmd.AddCommand(
		p.clientCommand(&cobra.Command{
			Use: "create [USER]", Short: "Make an access key; its secret is shown this once", Args: cobra.MaximumNArgs(1),
			Example: "  engineshed ram access-key create alice -o json > alice.json",
		}, createAccessKey),
		p.clientCommand(&cobra.Command{
			Use: "list [USER]", Short: "List the access keys of a user", Args: cobra.MaximumNArgs(1),
			Example: "  engineshed ram access-key list alice",
		}, listAccessKeys),
		p.setAccessKey("activate", "Let an access key in", ram.Active),
		p.setAccessKey("deactivate", "Keep an access key out, at once, without forgetting it", ram.Inactive),
		p.deleteAccessKey(),
	)
	return cmd
}

// optional is the first argument, or nil without one.
func optional(args []string) *string {
	if len(args) == 0 {
		return nil
	}
	return &args[0]
}

func createAccessKey(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	made, err := c.CreateAccessKey(ctx, ram.CreateAccessKeyRequest{UserName: optional(args)})
	if err != nil {
		return err
	}
	return c.show(cmd, made, [][]string{
		{"AccessKeyId", made.AccessKey.AccessKeyId}, {"AccessKeySecret", made.AccessKey.AccessKeySecret}, {"Status", made.AccessKey.Status},
	})
}

func listAccessKeys(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	found, err := c.ListAccessKeys(ctx, ram.ListAccessKeysRequest{UserName: optional(args)})
	if err != nil {
		return err
	}
	keys := found.AccessKeys.AccessKey
	return c.show(cmd, map[string]any{"AccessKeys": keys}, keyTable(keys))
}

func keyTable(keys []ram.AccessKey) [][]string {
	return table(keys, func(k ram.AccessKey) []string {
		return []string{k.AccessKeyId, k.Status, string(k.Source), k.CreateDate}
	}, "ACCESS KEY", "STATUS", "FROM", "CREATED")
}

func (p *program) setAccessKey(verb, short string, status ram.UpdateAccessKeyRequestStatus) *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use: verb + " ACCESS_KEY_ID", Short: short, Args: cobra.ExactArgs(1),
		Example: "  engineshed ram access-key " + verb + " ESAKabcdefghijklmnopqrst --user alice",
	}
	cmd.Flags().StringVar(&user, "user", "", "whose key it is")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		done, err := c.UpdateAccessKey(ctx, ram.UpdateAccessKeyRequest{UserName: unlessNone(user), UserAccessKeyId: args[0], Status: status})
		if err != nil {
			return whoseKey(err, user)
		}
		return c.done(cmd, done, "The access key %s is %s.", args[0], status)
	})
}

func (p *program) deleteAccessKey() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use: "delete ACCESS_KEY_ID", Short: "Delete an access key", Args: cobra.ExactArgs(1),
		Example: "  engineshed ram access-key delete ESAKabcdefghijklmnopqrst --user alice",
	}
	cmd.Flags().StringVar(&user, "user", "", "whose key it is")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		done, err := c.DeleteAccessKey(ctx, ram.DeleteAccessKeyRequest{UserName: unlessNone(user), UserAccessKeyId: args[0]})
		if err != nil {
			return whoseKey(err, user)
		}
		return c.done(cmd, done, "The access key %s is deleted.", args[0])
	})
}

// whoseKey tells those who did not say whose key they mean that they may have to.
func whoseKey(err error, user string) error {
	if user == "" && refusedWith(err, "EntityNotExist.User.AccessKey") {
		return fmt.Errorf("%w\nYou have no such key: when it is another user's, say whose with --user", err)
	}
	return err
}
