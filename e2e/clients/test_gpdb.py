"""The official client of gpdb: a model service from its creation to its end."""

import httpx
import pytest
from alibabacloud_gpdb20160503 import models as m
from alibabacloud_tea_openapi.exceptions import ClientException

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


def test_the_supported_models_are_listed(gpdb):
    models = gpdb.list_support_models(m.ListSupportModelsRequest(region_id=REGION)).body.to_map()
    assert MODEL in str(models)


def test_a_node_that_does_not_exist_is_refused(gpdb, installation):
    with pytest.raises(ClientException) as raised:
        gpdb.create_model_service(m.CreateModelServiceRequest(dbinstance_id=installation.instance, model_name=MODEL, ai_nodes=["no-such-node"]))
    assert (raised.value.status_code, raised.value.code) == (404, "InvalidAiNode.NotFound")
    assert "no-such-node" in raised.value.message
