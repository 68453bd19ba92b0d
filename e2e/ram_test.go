package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// The keys of the users in the policy files below.
var (
	aliceKey    = credentials{"ESAKalice", "secret-of-alice-1234"}
	carolKey    = credentials{"ESAKcarol", "secret-of-carol-1234"}
	strangerKey = credentials{"ESAKstranger", "secret-of-stranger-1"}
)

const accountsFile = `
accounts:
  - id: "` + rootAccount + `"
    name: root
    policies:
      - {name: OneInstance, document: one-instance.json}
      - {name: NoCreate, document: no-create.json}
    users:
      - name: alice
        accessKeys: [{id: ESAKalice, secret: secret-of-alice-1234}]
        policies: [{type: Custom, name: OneInstance}]
      - name: carol
        accessKeys: [{id: ESAKcarol, secret: secret-of-carol-1234}]
        policies: [{type: System, name: AdministratorAccess}, {type: Custom, name: NoCreate}]
  - id: "1000000000000002"
    name: stranger
    accessKeys: [{id: ESAKstranger, secret: secret-of-stranger-1}]
`

const noCreate = `{"Version":"1","Statement":[{"Effect":"Deny","Action":"gpdb:CreateModelService","Resource":"*"}]}`

// oneInstance allows model services on one instance, written the way the official documents write its ARN.
func oneInstance(instance string) string {
	return fmt.Sprintf(`{"Version":"1","Statement":[
		{"Effect":"Allow","Action":"gpdb:*","Resource":"acs:gpdb::%s:dbinstance/%s"},
		{"Effect":"Allow","Action":"gpdb:ListAINodePools","Resource":"*"}]}`, rootAccount, instance)
}

func (s *shed) writePolicies(files map[string]string) {
	s.t.Helper()
	s.policyDir = s.path("policies")
	require.NoError(s.t, os.MkdirAll(s.policyDir, 0o700))
	for name, text := range files {
		require.NoError(s.t, os.WriteFile(filepath.Join(s.policyDir, name), []byte(text), 0o600))
	}
}

func TestPolicyFilesDecide(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	bootstrap := s.controlPlane("both")
	root := newDarabonba(t, bootstrap.addr, rootKey)
	a, nodesA := newInstance(t, root, 2)
	b, nodesB := newInstance(t, root, 2)
	bootstrap.stop()
	s.writePolicies(map[string]string{
		"accounts.yaml": accountsFile, "no-create.json": noCreate, "one-instance.json": oneInstance(a),
	})
	first, second := s.controlPlane("both"), s.controlPlane("api")
	alice, carol := newDarabonba(t, first.addr, aliceKey), newDarabonba(t, first.addr, carolKey)

	made, err := alice.call("CreateModelService", createParams(a, nodesA[0]))
	require.NoError(t, err)
	service := made.text("ModelServiceId")
	_, err = alice.call("CreateModelService", createParams(b, nodesB[0]))
	denied := refused(t, err, 403, "Forbidden.RAM")
	require.Equal(t, "gpdb:CreateModelService", denied["AuthAction"])
	require.Equal(t, "SubUser", denied["AuthPrincipalType"])
	require.Equal(t, rootAccount, denied["AuthPrincipalOwnerId"])
	require.Equal(t, "ImplicitDeny", denied["NoPermissionType"])
	require.Equal(t, "AccountLevelIdentityBasedPolicy", denied["PolicyType"])
	require.NotEmpty(t, denied["AuthPrincipalDisplayName"])

	_, err = carol.call("DescribeModelService", map[string]string{"DBInstanceId": a, "ModelServiceId": service})
	require.NoError(t, err)
	_, err = carol.call("CreateModelService", createParams(a, nodesA[1]))
	denied = refused(t, err, 403, "Forbidden.RAM")
	require.Equal(t, "ExplicitDeny", denied["NoPermissionType"])
	s.requireRows(map[string]int{
		`SELECT count(*) FROM audit_event WHERE outcome = 'denied' AND action = 'gpdb:CreateModelService'`: 2,
		`SELECT count(*) FROM model_service`: 1,
	})

	t.Run("an edited file reloaded on one process is in force on the other at the next call", func(t *testing.T) {
		onSecond := newClassic(t, second.addr, aliceKey)
		_, err := onSecond.call("CreateModelService", createParams(b, nodesB[0]))
		refused(t, err, 403, "Forbidden.RAM")
		s.writePolicies(map[string]string{"one-instance.json": oneInstance(b)})
		var before, after int64
		epoch := `SELECT policy_epoch FROM account WHERE id = '` + rootAccount + `'`
		require.NoError(t, s.db.Owner.QueryRow(t.Context(), epoch).Scan(&before))
		require.NoError(t, first.cmd.Process.Signal(syscall.SIGHUP))
		eventually(t, 5*time.Second, "the files are applied", func() bool {
			return s.db.Owner.QueryRow(t.Context(), epoch).Scan(&after) == nil && after > before
		})
		_, err = onSecond.call("CreateModelService", createParams(b, nodesB[0]))
		require.NoError(t, err)
		_, err = onSecond.call("DescribeModelService", map[string]string{"DBInstanceId": a, "ModelServiceId": service})
		refused(t, err, 403, "Forbidden.RAM")
	})
	t.Run("a stranger's id answers as an unknown one", func(t *testing.T) {
		strangersIDs(t, newDarabonba(t, first.addr, strangerKey), a, service, nodesA)
	})
}

// strangersIDs asks for another account's things in every operation that takes an id, and for things that do not exist.
func strangersIDs(t *testing.T, stranger caller, instance, service string, nodes []string) {
	t.Helper()
	const unknownInstance, unknownService = "gp-00000000000000000000", "ms-00000000000000000000"
	own, _ := newInstance(t, stranger, 1)
	type ask struct {
		action          string
		theirs, unknown map[string]string
	}
	ofInstance := func(action string, with map[string]string) ask {
		theirs, unknown := maps.Clone(with), maps.Clone(with)
		if with == nil {
			theirs, unknown = map[string]string{}, map[string]string{}
		}
		theirs["DBInstanceId"], unknown["DBInstanceId"] = instance, unknownInstance
		return ask{action, theirs, unknown}
	}
	for name, c := range map[string]ask{
		"CreateModelService, instance": {
			"CreateModelService", createParams(instance, nodes[1]), createParams(unknownInstance, nodes[1]),
		},
		"CreateModelService, node": {
			"CreateModelService", createParams(own, nodes[1]), createParams(own, "ai-00000000000000000000"),
		},
		"DescribeModelService": {
			"DescribeModelService",
			map[string]string{"DBInstanceId": instance, "ModelServiceId": service},
			map[string]string{"DBInstanceId": unknownInstance, "ModelServiceId": unknownService},
		},
		"DescribeModelService in an own instance": {
			"DescribeModelService",
			map[string]string{"DBInstanceId": own, "ModelServiceId": service},
			map[string]string{"DBInstanceId": own, "ModelServiceId": unknownService},
		},
		"DeleteModelService": {
			"DeleteModelService",
			map[string]string{"DBInstanceId": instance, "ModelServiceId": service},
			map[string]string{"DBInstanceId": unknownInstance, "ModelServiceId": unknownService},
		},
		"ListModelServices": {
			"ListModelServices", map[string]string{"DBInstanceId": instance}, map[string]string{"DBInstanceId": unknownInstance},
		},
		"ListAINodePools": {
			"ListAINodePools", map[string]string{"DBInstanceId": instance}, map[string]string{"DBInstanceId": unknownInstance},
		},
		"DeleteAINode, node": {
			"DeleteAINode",
			map[string]string{"DBInstanceId": own, "AINodeNum": "1", "NodeNames.1": nodes[1]},
			map[string]string{"DBInstanceId": own, "AINodeNum": "1", "NodeNames.1": "ai-00000000000000000000"},
		},
		"ModifySecurityIps, model service": {
			"ModifySecurityIps",
			map[string]string{"DBInstanceId": own, "DBInstanceIPArrayName": service, "SecurityIPList": "10.0.0.1"},
			map[string]string{"DBInstanceId": own, "DBInstanceIPArrayName": unknownService, "SecurityIPList": "10.0.0.1"},
		},
		"AddAINode":                     ofInstance("AddAINode", map[string]string{"AINodeSpecInfos.1.NodeSpec": "ADB.AILarge.1", "AINodeSpecInfos.1.NodeNum": "1"}),
		"DeleteAINode":                  ofInstance("DeleteAINode", map[string]string{"AINodeNum": "1"}),
		"DescribeDBInstanceAttribute":   ofInstance("DescribeDBInstanceAttribute", nil),
		"DeleteDBInstance":              ofInstance("DeleteDBInstance", nil),
		"ModifyDBInstanceResourceGroup": ofInstance("ModifyDBInstanceResourceGroup", map[string]string{"NewResourceGroupId": "rg-default"}),
		"ModifySecurityIps":             ofInstance("ModifySecurityIps", map[string]string{"SecurityIPList": "10.0.0.1"}),
		"DescribeDBInstanceIPArrayList": ofInstance("DescribeDBInstanceIPArrayList", nil),
	} {
		t.Run(name, func(t *testing.T) {
			_, theirs := stranger.call(c.action, c.theirs)
			_, unknown := stranger.call(c.action, c.unknown)
			var r *refusal
			require.ErrorAs(t, theirs, &r)
			require.Equal(t, 404, r.status)
			require.EqualError(t, theirs, unknown.Error())
		})
	}
	listed, err := stranger.call("DescribeDBInstances", map[string]string{"RegionId": region, "DBInstanceIds": instance})
	require.NoError(t, err)
	require.Empty(t, listed["Items"].(map[string]any)["DBInstance"])
}

func TestAReadOnlyUserSeesNoKey(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	s.writePolicies(map[string]string{"accounts.yaml": `
accounts:
  - id: "` + rootAccount + `"
    name: root
    users:
      - name: alice
        accessKeys: [{id: ESAKalice, secret: secret-of-alice-1234}]
        policies: [{type: System, name: AliyunGPDBReadOnlyAccess}]
`})
	control := s.controlPlane("both")
	root, alice := newDarabonba(t, control.addr, rootKey), newDarabonba(t, control.addr, aliceKey)
	instance, nodes := newInstance(t, root, 1)
	made, err := root.call("CreateModelService", createParams(instance, nodes...))
	require.NoError(t, err)
	ids := map[string]string{"DBInstanceId": instance, "ModelServiceId": made.text("ModelServiceId")}
	full, err := root.call("DescribeModelService", ids)
	require.NoError(t, err)
	masked, err := alice.call("DescribeModelService", ids)
	require.NoError(t, err)
	key := full.text("ApiKey")
	require.NotEqual(t, key, masked.text("ApiKey"))
	require.Contains(t, masked.text("ApiKey"), key[len(key)-4:])
	_, err = alice.call("DeleteModelService", ids)
	refused(t, err, 403, "Forbidden.RAM")
	require.Subset(t, slices.Collect(maps.Keys(full)), []string{"RequestId", "Status", "AiNodes", "SecurityIpList", "CreateTime"})
}
