"""The official clients of ram, sts and resourcemanager: who may do what, and for how long."""

import json

import pytest
from alibabacloud_gpdb20160503 import models as gm
from alibabacloud_gpdb20160503.client import Client as GpdbClient
from alibabacloud_ram20150501 import models as m
from alibabacloud_ram20150501.client import Client as RamClient
from alibabacloud_resourcemanager20200331 import models as rm
from alibabacloud_resourcemanager20200331.client import Client as ResourceManagerClient
from alibabacloud_sts20150401 import models as sm
from alibabacloud_sts20150401.client import Client as StsClient

from control import config, refused
from installation import REGION


def allow(*actions: str) -> str:
    return json.dumps({"Version": "1", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]})


@pytest.fixture
def ram(installation) -> RamClient:
    return RamClient(config(installation))


def as_user(installation, key):
    """The configuration of clients that call with this key: of a user, or of a session with its token."""
    c = config(installation)
    c.access_key_id, c.access_key_secret = key.access_key_id, key.access_key_secret
    c.security_token = getattr(key, "security_token", None)
    return c


def describe(gpdb: GpdbClient) -> None:
    gpdb.describe_dbinstances(gm.DescribeDBInstancesRequest(region_id=REGION))


@pytest.fixture
def alice(ram):
    """A key of the user alice, who is in the group readers and may describe and assume roles by its policy."""
    ram.create_user(m.CreateUserRequest(user_name="alice", display_name="Alice"))
    key = ram.create_access_key(m.CreateAccessKeyRequest(user_name="alice")).body.access_key
    ram.create_group(m.CreateGroupRequest(group_name="readers"))
    ram.add_user_to_group(m.AddUserToGroupRequest(user_name="alice", group_name="readers"))
    ram.create_policy(m.CreatePolicyRequest(policy_name="Readers", policy_document=allow("gpdb:Describe*", "sts:AssumeRole")))
    attached = {"policy_type": "Custom", "policy_name": "Readers", "group_name": "readers"}
    ram.attach_policy_to_group(m.AttachPolicyToGroupRequest(**attached))
    yield key
    ram.detach_policy_from_group(m.DetachPolicyFromGroupRequest(**attached))
    ram.delete_policy(m.DeletePolicyRequest(policy_name="Readers"))
    ram.remove_user_from_group(m.RemoveUserFromGroupRequest(user_name="alice", group_name="readers"))
    ram.delete_group(m.DeleteGroupRequest(group_name="readers"))
    ram.delete_access_key(m.DeleteAccessKeyRequest(user_name="alice", user_access_key_id=key.access_key_id))
    ram.delete_user(m.DeleteUserRequest(user_name="alice"))


def test_a_user_may_do_what_its_group_may(ram, installation, alice):
    gpdb = GpdbClient(as_user(installation, alice))
    describe(gpdb)
    with refused(403, "Forbidden.RAM"):
        gpdb.list_support_models(gm.ListSupportModelsRequest(region_id=REGION))
    made = ram.create_policy_version(m.CreatePolicyVersionRequest(
        policy_name="Readers", policy_document=allow("gpdb:List*"), set_as_default=True)).body.policy_version
    assert (made.version_id, made.is_default_version) == ("v2", True)
    with refused(403, "Forbidden.RAM"):
        describe(gpdb)
    ram.set_default_policy_version(m.SetDefaultPolicyVersionRequest(policy_name="Readers", version_id="v1"))
    describe(gpdb)
    ram.delete_policy_version(m.DeletePolicyVersionRequest(policy_name="Readers", version_id="v2"))
    have = ram.list_entities_for_policy(m.ListEntitiesForPolicyRequest(policy_type="Custom", policy_name="Readers")).body
    assert [g.group_name for g in have.groups.group] == ["readers"]
    with refused(409, "EntityAlreadyExists.User", "alice"):
        ram.create_user(m.CreateUserRequest(user_name="alice"))
    with refused(409, "DeleteConflict.User.Group"):
        ram.delete_user(m.DeleteUserRequest(user_name="alice"))
    with refused(400, "MalformedPolicyDocument", "Version"):
        ram.create_policy(m.CreatePolicyRequest(policy_name="Empty", policy_document="{}"))


def test_lists_come_in_pages(ram, alice):
    for n in range(3):
        ram.create_user(m.CreateUserRequest(user_name=f"page-{n}"))
    names, marker, more = [], None, True
    while more:
        page = ram.list_users(m.ListUsersRequest(marker=marker, max_items=1)).body
        assert len(page.users.user) == 1
        names, marker, more = names + [page.users.user[0].user_name], page.marker, page.is_truncated
    assert names == ["alice", "page-0", "page-1", "page-2"]
    for n in range(3):
        ram.delete_user(m.DeleteUserRequest(user_name=f"page-{n}"))


def test_a_session_may_do_less_than_its_role_and_ends_with_it(ram, installation, alice):
    account = StsClient(as_user(installation, alice)).get_caller_identity().body
    assert (account.identity_type, account.arn) == ("RAMUser", f"acs:ram::{account.account_id}:user/alice")
    trust = json.dumps({"Version": "1", "Statement": [
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"RAM": [f"acs:ram::{account.account_id}:root"]}}]})
    role = ram.create_role(m.CreateRoleRequest(role_name="worker", assume_role_policy_document=trust)).body.role
    attached = {"policy_type": "System", "policy_name": "ReadOnlyAccess", "role_name": "worker"}
    ram.attach_policy_to_role(m.AttachPolicyToRoleRequest(**attached))
    lender = StsClient(as_user(installation, alice))
    lent = lender.assume_role(sm.AssumeRoleRequest(
        role_arn=role.arn, role_session_name="laptop", duration_seconds=900, policy=allow("gpdb:Describe*"))).body
    assert lent.assumed_role_user.arn == f"{role.arn}/laptop"
    session = GpdbClient(as_user(installation, lent.credentials))
    describe(session)
    with refused(403, "Forbidden.RAM"):
        session.list_support_models(gm.ListSupportModelsRequest(region_id=REGION))
    with refused(400, "InvalidParameter.DurationSeconds", "900"):
        lender.assume_role(sm.AssumeRoleRequest(role_arn=role.arn, role_session_name="laptop", duration_seconds=10))
    with refused(409, "DeleteConflict.Role.Policy"):
        ram.delete_role(m.DeleteRoleRequest(role_name="worker"))
    ram.detach_policy_from_role(m.DetachPolicyFromRoleRequest(**attached))
    with refused(403, "Forbidden.RAM"):
        describe(session)
    ram.delete_role(m.DeleteRoleRequest(role_name="worker"))
    with refused(404, "InvalidAccessKeyId.NotFound"):
        describe(session)


def test_a_policy_counts_in_its_resource_group(ram, installation, alice):
    manager = ResourceManagerClient(config(installation))
    group = manager.create_resource_group(rm.CreateResourceGroupRequest(name="search", display_name="Search")).body.resource_group
    ram.create_policy(m.CreatePolicyRequest(policy_name="Models", policy_document=allow("gpdb:ListModelServices")))
    scope = {"resource_group_id": group.id, "policy_type": "Custom", "policy_name": "Models", "principal_type": "IMSUser"}
    manager.attach_policy(rm.AttachPolicyRequest(**scope, principal_name="alice"))
    services = GpdbClient(as_user(installation, alice))
    asked = gm.ListModelServicesRequest(dbinstance_id=installation.instance, region_id=REGION)
    with refused(403, "Forbidden.RAM"):
        services.list_model_services(asked)

    def move(to: str) -> None:
        (moved,) = manager.move_resources(rm.MoveResourcesRequest(resource_group_id=to, resources=[rm.MoveResourcesRequestResources(
            service="gpdb", resource_type="dbinstance", resource_id=installation.instance, region_id=REGION)])).body.responses
        assert moved.status == "SUCCESS", moved

    move(group.id)
    services.list_model_services(asked)
    with refused(409, "DeleteConflict.ResourceGroup.Resource"):
        manager.delete_resource_group(rm.DeleteResourceGroupRequest(resource_group_id=group.id))
    move("rg-default")
    with refused(403, "Forbidden.RAM"):
        services.list_model_services(asked)
    manager.detach_policy(rm.DetachPolicyRequest(**scope, principal_name="alice"))
    ram.delete_policy(m.DeletePolicyRequest(policy_name="Models"))
    manager.delete_resource_group(rm.DeleteResourceGroupRequest(resource_group_id=group.id))
