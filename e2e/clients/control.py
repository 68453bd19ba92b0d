"""The control plane through the official clients: small steps that tests are made of."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from alibabacloud_apig20240327 import models as apig
from alibabacloud_apig20240327.client import Client as ApigClient
from alibabacloud_gpdb20160503.client import Client as GpdbClient
from alibabacloud_tea_openapi.exceptions import ClientException
from alibabacloud_tea_openapi.utils_models import Config, OpenApiRequest, Params
from darabonba.runtime import RuntimeOptions

from installation import REGION, Installation


def config(installation: Installation) -> Config:
    return Config(
        access_key_id=installation.access_key_id, access_key_secret=installation.access_key_secret,
        endpoint=installation.endpoint.removeprefix("http://"), protocol="HTTP", region_id=REGION,
    )


def apig_client(installation: Installation) -> ApigClient:
    return ApigClient(config(installation))


def gpdb_client(installation: Installation) -> GpdbClient:
    return GpdbClient(config(installation))


def ok(answer: Any) -> Any:
    """The data of a successful answer of apig, whose envelope is looked at, too."""
    assert answer.status_code == 200
    assert answer.body.code == "Ok"
    assert answer.body.message == "success"
    assert answer.body.request_id
    return getattr(answer.body, "data", None)


@contextlib.contextmanager
def refused(status: int, code: str, *words: str) -> Iterator[None]:
    """Expects the error that the client makes of a refusal, with the words in what it says."""
    with pytest.raises(ClientException) as raised:
        yield
    assert (raised.value.status_code, raised.value.code) == (status, code), raised.value.message
    assert raised.value.request_id
    for word in words:
        assert word in raised.value.message


class ModelServiceConfig(apig.CreateServiceRequestServiceConfigs):
    """A service that is a model service of this installation: an extension that the client's own type has no member for."""

    def __init__(self, model_service_id: str, **members: Any) -> None:
        super().__init__(**members)
        self.model_service_id = model_service_id

    def to_map(self) -> dict[str, Any]:
        return {**super().to_map(), "modelServiceId": self.model_service_id}


def create_http_api(client: ApigClient, request: apig.CreateHttpApiRequest, **extensions: Any) -> apig.CreateHttpApiResponse:
    """Creates a Model API with members that the client's own type has none for, as the client would."""
    params = Params(
        action="CreateHttpApi", version="2024-03-27", protocol="HTTPS", pathname="/v1/http-apis", method="POST", auth_type="AK",
        style="ROA", req_body_type="json", body_type="json",
    )
    body = {**request.to_map(), **extensions}
    return apig.CreateHttpApiResponse().from_map(client.call_api(params, OpenApiRequest(body=body), RuntimeOptions()))


def deploy_config(
    gateway_id: str, environment_id: str, service_id: str, *, model: str | None = None, deploy: bool = True, **members: Any,
) -> apig.HttpApiDeployConfig:
    return apig.HttpApiDeployConfig(
        gateway_id=gateway_id, gateway_type="AI", environment_id=environment_id, auto_deploy=deploy, backend_scene="SingleService",
        service_configs=[apig.HttpApiDeployConfigServiceConfigs(service_id=service_id, model_name=model)], **members,
    )
