package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/sdk/ram"
	"github.com/engineshed/engineshed/sdk/sts"
)

func TestPolicyExplainNamesTheStatementThatDecides(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	c := startUp(t, dir, append(freePorts(t), "--trusted-proxy", "192.0.2.0/24")).client
	me, err := c.GetCallerIdentity(t.Context(), sts.GetCallerIdentityRequest{})
	require.NoError(t, err)
	_, err = c.CreateUser(t.Context(), ram.CreateUserRequest{UserName: "alice"})
	require.NoError(t, err)
	_, err = c.CreatePolicy(t.Context(), ram.CreatePolicyRequest{PolicyName: "Office", PolicyDocument: `{"Version":"1","Statement":[
		{"Effect":"Allow","Action":"gpdb:*","Resource":"acs:gpdb::` + me.AccountId + `:dbinstance/gp-a"},
		{"Effect":"Allow","Action":"apig:*","Resource":"*"},
		{"Effect":"Deny","Action":"gpdb:*","Resource":"*","Condition":{"NotIpAddress":{"acs:SourceIp":"203.0.113.0/24"}}}]}`})
	require.NoError(t, err)
	_, err = c.AttachPolicyToUser(t.Context(), ram.AttachPolicyToUserRequest{PolicyType: "Custom", PolicyName: "Office", UserName: "alice"})
	require.NoError(t, err)

	run := func(args ...string) string {
		t.Helper()
		out, complaint, err := verb(t, dir, append([]string{"policy", "explain"}, args...)...)
		require.NoError(t, err, complaint)
		return out
	}
	alice := []string{"--as", "alice", "--action", "gpdb:CreateModelService"}
	out := run(alice...)
	require.Contains(t, out, "acs:ram::"+me.AccountId+":user/alice: gpdb:CreateModelService on * is denied (ExplicitDeny)")
	require.Contains(t, out, "because of Statement[2] of the policy Office (Custom), at the stage AccountLevelIdentityBasedPolicy.")
	require.Contains(t, out, "another resource")
	require.NotContains(t, out, "Statement[1]", "it is about other actions")
	require.Contains(t, run(append(alice, "--all")...), "another action")

	out = run(append(alice, "--source-ip", "203.0.113.7")...)
	require.Contains(t, out, "is denied (ImplicitDeny)\nbecause no statement allows it")
	require.Contains(t, out, `NotIpAddress acs:SourceIp 203.0.113.0/24: the call says "203.0.113.7"`)
	out = run(append(alice, "--source-ip", "203.0.113.7", "--resource", "acs:gpdb:cn-hangzhou:"+me.AccountId+":dbinstance/gp-a")...)
	require.Contains(t, out, "is allowed\nbecause of Statement[0] of the policy Office")
	require.Contains(t, run("--action", "gpdb:X"), "because the account itself may do everything in the account.")
	require.Contains(t, run(append(alice, "-o", "json")...), `"NoPermissionType": "ExplicitDeny"`)

	_, complaint, err := verb(t, dir, "policy", "explain", "--as", "nobody", "--action", "gpdb:X")
	require.Error(t, err)
	require.Contains(t, complaint, "EntityNotExist.User")
}
