"""The official client of gpdb: a model service from its creation to its end."""

import datetime
import pathlib

import httpx
import openai
import pytest
from alibabacloud_gpdb20160503 import models as m
from alibabacloud_tea_openapi.exceptions import ClientException

from control import refused
from installation import REGION, eventually

MODEL = "Qwen2.5-0.5B-Instruct"


@pytest.fixture
def node(unbound_nodes) -> str:
    return unbound_nodes()[-1]


def test_a_model_service_is_created_once_answers_and_is_deleted(gpdb, installation, node):
    request = m.CreateModelServiceRequest(
        dbinstance_id=installation.instance, model_name=MODEL, ai_nodes=[node], client_token="the-one-service", inference_engine="vllm",
        description="of the tests", replicas=1, enable_public_connection=False, security_iplist="127.0.0.0/8",
        model_params={"max-model-len": 4096},
    )
    others = installation.engines()
    service = gpdb.create_model_service(request).body.model_service_id
    assert service.startswith("ms-")
    assert gpdb.create_model_service(request).body.model_service_id == service, "a repeated ClientToken makes nothing new"
    request.description = "something else"
    with pytest.raises(ClientException) as raised:
        gpdb.create_model_service(request)
    assert raised.value.code == "IdempotentParameterMismatch", raised.value

    asked = m.DescribeModelServiceRequest(dbinstance_id=installation.instance, model_service_id=service)

    def active():
        shown = gpdb.describe_model_service(asked).body
        return shown if shown.status == "active" else None

    shown = eventually("the model service is active", active, 40)
    assert (shown.model_name, shown.description, shown.ai_nodes) == (MODEL, "of the tests", [node])
    assert shown.model_params == {"max-model-len": 4096}
    (engine,) = installation.engines() - others
    assert "--max-model-len=4096" in pathlib.Path(f"/proc/{engine}/cmdline").read_text().split("\0")
    listed = gpdb.list_model_services(m.ListModelServicesRequest(
        dbinstance_id=installation.instance, region_id=REGION, page_number=1, page_size=20)).body
    found = {s.model_service_id: s for s in listed.model_services}
    assert (found[service].status, found[service].api_key) == ("active", "****" + shown.api_key[-4:]), "a list shows no key"
    assert listed.total_record_count == len(found)

    chat = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}

    def answers() -> bool:
        response = httpx.post(shown.private_connect_url + "/chat/completions", json=chat, headers={"Authorization": "Bearer " + shown.api_key})
        return response.status_code == 200 and "simulated" in response.json()["choices"][0]["message"]["content"]

    eventually("the engine answers over the gateway", answers, 5)

    gpdb.delete_model_service(m.DeleteModelServiceRequest(dbinstance_id=installation.instance, model_service_id=service))

    def gone() -> bool:
        try:
            gpdb.describe_model_service(asked)
        except ClientException as e:
            assert (e.status_code, e.code) == (404, "InvalidModelServiceId.NotFound"), e
            return True
        return False

    eventually("the model service is gone", gone)
    assert installation.engines() == others, "its process is gone, and no other"


def test_the_supported_models_are_listed(gpdb):
    models = gpdb.list_support_models(m.ListSupportModelsRequest(region_id=REGION)).body.to_map()
    assert MODEL in str(models)


def test_a_node_that_does_not_exist_is_refused(gpdb, installation):
    with pytest.raises(ClientException) as raised:
        gpdb.create_model_service(m.CreateModelServiceRequest(dbinstance_id=installation.instance, model_name=MODEL, ai_nodes=["no-such-node"]))
    assert (raised.value.status_code, raised.value.code) == (404, "InvalidAiNode.NotFound")
    assert "no-such-node" in raised.value.message


@pytest.fixture
def instance(gpdb):
    """An instance of the test's own, without nodes."""
    made = gpdb.create_dbinstance(m.CreateDBInstanceRequest(
        region_id=REGION, dbinstance_description="of the tests", tag=[m.CreateDBInstanceRequestTag(key="team", value="search")],
        engine="gpdb", engine_version="7.0", zone_id="z", vpcid="vpc-1", v_switch_id="vsw-1")).body
    yield made.dbinstance_id
    with_services = gpdb.list_model_services(m.ListModelServicesRequest(dbinstance_id=made.dbinstance_id)).body.model_services
    for service in with_services:
        gpdb.delete_model_service(m.DeleteModelServiceRequest(dbinstance_id=made.dbinstance_id, model_service_id=service.model_service_id))

    def deleted() -> bool:
        try:
            gpdb.delete_dbinstance(m.DeleteDBInstanceRequest(dbinstance_id=made.dbinstance_id, client_token=made.dbinstance_id))
        except ClientException as e:
            assert e.code == "OperationDenied.ModelServiceExists", e
            return False
        return True

    eventually("the instance is deleted", deleted)
    with refused(404, "InvalidDBInstanceId.NotFound"):
        gpdb.describe_dbinstance_attribute(m.DescribeDBInstanceAttributeRequest(dbinstance_id=made.dbinstance_id))


def add_nodes(gpdb, instance: str, number: int) -> list[str]:
    answer = gpdb.add_ainode(m.AddAINodeRequest(
        dbinstance_id=instance, ainode_spec_infos=[m.AddAINodeRequestAINodeSpecInfos(node_spec="ADB.AILarge.1", node_num=str(number))])).body
    assert answer.order_id == instance
    return nodes_of(gpdb, instance)


def nodes_of(gpdb, instance: str) -> list[str]:
    pools = gpdb.list_ainode_pools(m.ListAINodePoolsRequest(dbinstance_id=instance)).body.ainode_pool_infos
    return [node.node_name for pool in pools for node in pool.ainode_infos]


def serve(gpdb, instance: str, node: str, **members):
    """A model service on the node, once it is active."""
    service = gpdb.create_model_service(m.CreateModelServiceRequest(
        dbinstance_id=instance, model_name=MODEL, ai_nodes=[node], **members)).body.model_service_id
    asked = m.DescribeModelServiceRequest(dbinstance_id=instance, model_service_id=service)
    eventually("the model service is active", lambda: gpdb.describe_model_service(asked).body.status == "active", 40)
    return gpdb.describe_model_service(asked).body


def status_of(url: str, key: str, source: str = "127.0.0.1", **headers: str) -> int:
    """What the gateway answers to a request from one of this machine's own addresses."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address=source)) as client:
        return client.get(url + "/models", headers={"Authorization": "Bearer " + key, **headers}).status_code


def test_an_instance_is_described_listed_and_moved(gpdb, instance):
    shown = gpdb.describe_dbinstance_attribute(m.DescribeDBInstanceAttributeRequest(dbinstance_id=instance, owner_id=1)).body
    (attributes,) = shown.items.dbinstance_attribute
    assert (attributes.dbinstance_id, attributes.dbinstance_description, attributes.dbinstance_status) == (instance, "of the tests", "Running")
    assert (attributes.region_id, attributes.resource_group_id, attributes.security_iplist) == (REGION, "rg-default", "127.0.0.1")
    assert [(tag.key, tag.value) for tag in attributes.tags.tag] == [("team", "search")]
    listed = gpdb.describe_dbinstances(m.DescribeDBInstancesRequest(
        region_id=REGION, tag=[m.DescribeDBInstancesRequestTag(key="team", value="search")])).body
    assert [found.dbinstance_id for found in listed.items.dbinstance] == [instance]
    gpdb.modify_dbinstance_resource_group(m.ModifyDBInstanceResourceGroupRequest(dbinstance_id=instance, new_resource_group_id="rg-default"))
    with refused(404, "InvalidResourceGroupId.NotFound", "rg-nope"):
        gpdb.modify_dbinstance_resource_group(m.ModifyDBInstanceResourceGroupRequest(dbinstance_id=instance, new_resource_group_id="rg-nope"))


def test_the_region_and_its_zones_are_listed(gpdb, installation, unbound_nodes):
    (region,) = gpdb.describe_regions(m.DescribeRegionsRequest()).body.regions.region
    assert region.region_id == REGION
    pools = gpdb.list_ainode_pools(m.ListAINodePoolsRequest(dbinstance_id=installation.instance)).body.ainode_pool_infos
    assert {zone.zone_id for zone in region.zones.zone} == {node.zone_id for pool in pools for node in pool.ainode_infos}


def test_nodes_are_added_bound_and_deleted(gpdb, instance):
    nodes = add_nodes(gpdb, instance, 3)
    assert len(nodes) == 3
    serve(gpdb, instance, nodes[0])
    with refused(409, "OperationDenied.AiNodeBound", nodes[0]):
        gpdb.delete_ainode(m.DeleteAINodeRequest(dbinstance_id=instance, ainode_num=1, node_names=[nodes[0]]))
    gpdb.delete_ainode(m.DeleteAINodeRequest(dbinstance_id=instance, ainode_num=1, node_names=[nodes[1]]))
    assert nodes_of(gpdb, instance) == [nodes[0], nodes[2]]
    gpdb.delete_ainode(m.DeleteAINodeRequest(dbinstance_id=instance, ainode_num=1))
    assert nodes_of(gpdb, instance) == [nodes[0]]
    with refused(404, "InvalidAINodePoolId.NotFound"):
        gpdb.add_ainode(m.AddAINodeRequest(
            dbinstance_id=instance, ainode_pool_id="aipool-00000000000000000000",
            ainode_spec_infos=[m.AddAINodeRequestAINodeSpecInfos(node_spec="ADB.AILarge.1", node_num="1")]))
    with refused(409, "OperationDenied.ModelServiceExists", "DeleteModelService"):
        gpdb.delete_dbinstance(m.DeleteDBInstanceRequest(dbinstance_id=instance))


def test_who_may_call_is_changed_and_in_force_within_a_second(gpdb, instance):
    node = add_nodes(gpdb, instance, 1)[0]
    shown = serve(gpdb, instance, node)
    url, key = shown.private_connect_url, shown.api_key
    eventually("the service is served", lambda: status_of(url, key) == 200, 5)
    assert status_of(url, key, "127.0.0.2") == 403

    def modify(mode: str, entries: str, array: str | None = None) -> None:
        gpdb.modify_security_ips(m.ModifySecurityIpsRequest(
            dbinstance_id=instance, modify_mode=mode, security_iplist=entries, dbinstance_iparray_name=array))

    modify("Append", "127.0.0.2")
    eventually("appended", lambda: status_of(url, key, "127.0.0.2") == 200, 1)
    modify("Delete", "127.0.0.2", "default")
    eventually("deleted", lambda: status_of(url, key, "127.0.0.2") == 403, 1)
    assert status_of(url, key, "127.0.0.2", **{"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"}) == 403, "a claim changes nothing"
    modify("Cover", "127.0.0.2", shown.model_service_id)
    eventually("its own array decides alone", lambda: (status_of(url, key), status_of(url, key, "127.0.0.2")) == (403, 200), 1)
    arrays = gpdb.describe_dbinstance_iparray_list(m.DescribeDBInstanceIPArrayListRequest(dbinstance_id=instance)).body.items.dbinstance_iparray
    assert {array.dbinstance_iparray_name: array.security_iplist for array in arrays} == {
        "default": "127.0.0.1", shown.model_service_id: "127.0.0.2"}
    for entries, code in (("nonsense", "InvalidSecurityIPList.Malformed"), ("10.0.0.1,10.0.0.1", "InvalidSecurityIPList.Duplicate"),
                          ("10.0.0.1," * 1000 + "10.0.0.2", "InvalidSecurityIPListLength.Malformed")):
        with refused(400, code):
            modify("Cover", entries)


def test_a_model_operator_key_opens_the_services_of_the_account(gpdb, instance):
    node = add_nodes(gpdb, instance, 1)[0]
    service = serve(gpdb, instance, node).model_service_id
    pages = gpdb.list_model_operator_services(m.ListModelOperatorServicesRequest(page_number=1, page_size=100)).body
    assert service in [found.service_id for found in pages.services]
    number = gpdb.create_model_operator_api_key(m.CreateModelOperatorApiKeyRequest(description="notebooks")).body.api_key_id
    shown = gpdb.describe_model_operator_api_key(m.DescribeModelOperatorApiKeyRequest(api_key_id=number)).body
    assert (shown.api_key_id, shown.description) == (number, "notebooks")
    listed = gpdb.list_model_operator_api_keys(m.ListModelOperatorApiKeysRequest(page_number=1, page_size=100)).body
    assert {key.api_key_id: key.endpoint for key in listed.api_keys}[number] == shown.endpoint
    assert shown.api_key not in str(listed.to_map())
    with refused(404, "InvalidApiKeyId.NotFound"):
        gpdb.describe_model_operator_api_key(m.DescribeModelOperatorApiKeyRequest(api_key_id=2_000_000_000))

    client = openai.OpenAI(base_url=shown.endpoint, api_key=shown.api_key, max_retries=0)

    def known() -> bool:
        try:
            return service in [model.id for model in client.models.list()]
        except openai.AuthenticationError:
            return False

    eventually("the gateway knows the key", known, 2)
    chat = [{"role": "user", "content": "hello"}]
    tokens = client.chat.completions.create(model=service, messages=chat).usage.total_tokens
    pieces = list(client.chat.completions.create(model=service, messages=chat, stream=True))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="no-such-model", messages=chat)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=shown.endpoint, api_key="sk-wrong", max_retries=0).models.list()

    now = datetime.datetime.now(datetime.timezone.utc)
    asked = m.DescribeModelOperatorUsageRequest(
        api_key_ids=[number], keys=["request_count", "success_count", "error_count", "total_token"], group_by="model,api_key", period=60,
        model_names=[MODEL], start_time=(now - datetime.timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%MZ"),
        end_time=(now + datetime.timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%MZ"))

    def used() -> dict[str, int]:
        answer = gpdb.describe_model_operator_usage(asked).body
        assert answer.period == 60
        for key in answer.keys:
            assert all((series.name, series.role, series.api_key_id) == (MODEL, "model,api_key", number) for series in key.series)
        return {key.name: sum(int(value.point[1]) for series in key.series for value in series.values) for key in answer.keys}

    eventually("what was used is told, of the stream as well", lambda: used() == {
        "request_count": 2, "success_count": 2, "error_count": 0, "total_token": 2 * tokens}, 10)
    for wrong in ({"period": 7}, {"start_time": "yesterday"}, {"group_by": "day"}):
        with refused(400, "InvalidParameter"):
            gpdb.describe_model_operator_usage(m.DescribeModelOperatorUsageRequest(**wrong))
