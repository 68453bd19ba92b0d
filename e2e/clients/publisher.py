"""Model APIs for the tests that call through the gateway."""

import dataclasses
import http.client
import itertools
from typing import Any

import httpx
from alibabacloud_apig20240327 import models as apig
from alibabacloud_apig20240327.client import Client

from control import ModelServiceConfig, create_http_api, deploy_config, ok
from installation import Installation, eventually
from routes import DEFAULT_ROUTES, Route

UPSTREAM_KEY = "sk-of-the-service-0123456789"
UPSTREAM_MODEL = "the-upstreams-model"


@dataclasses.dataclass(frozen=True)
class Consumer:
    consumer_id: str
    key: str


@dataclasses.dataclass(frozen=True)
class Published:
    """A Model API that the gateway serves."""

    api_id: str
    url: str  # its base path at the gateway
    path: str


class Publisher:
    """Publishes Model APIs on the seeded gateway for one consumer, and takes them down at the end."""

    def __init__(self, installation: Installation, client: Client) -> None:
        self.installation, self.client = installation, client
        gateway = ok(client.list_gateways(apig.ListGatewaysRequest())).items[0]
        self.gateway_id: str = gateway.gateway_id
        self.environment_id: str = ok(client.get_gateway(self.gateway_id)).environments[0].environment_id
        self._names = itertools.count(1)
        self._apis: list[str] = []
        self._services: list[str] = []
        self.consumer = self.new_consumer()

    def new_name(self, of: str) -> str:
        return f"{of}-{next(self._names)}"

    def new_consumer(self, **source: str) -> Consumer:
        """A consumer whose key the installation makes."""
        made = ok(self.client.create_consumer(apig.CreateConsumerRequest(
            name=self.new_name("consumer"), enable=True, gateway_type="AI",
            apikey_identity_config=apig.ApiKeyIdentityConfig(
                type="Apikey",
                apikey_source=apig.ApiKeyIdentityConfigApikeySource(**(source or {"source": "Default", "value": "Authorization"})),
                credentials=[apig.ApiKeyIdentityConfigCredentials(generate_mode="System")],
            ),
        )))
        shown = ok(self.client.get_consumer(made.consumer_id))
        return Consumer(made.consumer_id, shown.api_key_identity_config.credentials[0].apikey)

    def ai_service(self, address: str, provider: str = "custom", **members: Any) -> str:
        """A service of a provider at an address that is not the provider's."""
        return self._service("AI", apig.CreateServiceRequestServiceConfigs(
            name=self.new_name("service"),
            ai_service_config=apig.AiServiceConfig(provider=provider, address=address, api_keys=[UPSTREAM_KEY], **members),
        ))

    def dns_service(self, *addresses: str) -> str:
        return self._service("DNS", apig.CreateServiceRequestServiceConfigs(name=self.new_name("service"), addresses=list(addresses)))

    def model_service(self, model_service_id: str) -> str:
        return self._service("ModelService", ModelServiceConfig(model_service_id, name=self.new_name("service")))

    def _service(self, source_type: str, config: apig.CreateServiceRequestServiceConfigs) -> str:
        made = ok(self.client.create_service(apig.CreateServiceRequest(
            gateway_id=self.gateway_id, source_type=source_type, service_configs=[config])))
        (service_id,) = made.service_ids
        self._services.append(service_id)
        return service_id

    def publish(
        self, category: str, protocol: str, service_id: str, model: str | None = UPSTREAM_MODEL, *, first_byte_timeout: int | None = None,
        idle_timeout: int = 0, **members: Any,
    ) -> Published:
        """Publishes an API that only the consumer may call, and waits until the gateway serves it so. Times are in milliseconds,
        the members those of its deployment."""
        name = self.new_name(category.lower())
        path = "/" + name
        made = ok(create_http_api(self.client, apig.CreateHttpApiRequest(
            name=name, type="LLM", model_category=category, ai_protocols=[protocol], base_path=path, remove_base_path_on_forward=True,
            protocols=["HTTP", "HTTPS"], enable_auth=True, auth_config=apig.AuthConfig(auth_type="Apikey", auth_mode="Custom"),
            first_byte_timeout=first_byte_timeout,
            deploy_configs=[deploy_config(self.gateway_id, self.environment_id, service_id, model=model, **members)],
        ), trafficConfig={"idleTimeout": idle_timeout}))
        self._apis.append(made.http_api_id)
        self.authorize(made.http_api_id, consumer_id=self.consumer.consumer_id)
        api = Published(made.http_api_id, self.installation.gateway + path, path)
        self.wait_served(api, DEFAULT_ROUTES[category, protocol][0])
        return api

    def authorize(self, api_id: str, **principal: str) -> str:
        made = ok(self.client.create_consumer_authorization_rules(apig.CreateConsumerAuthorizationRulesRequest(authorization_rules=[
            apig.CreateConsumerAuthorizationRulesRequestAuthorizationRules(
                resource_type="LLM", expire_mode="LongTerm",
                principal_type="ConsumerGroup" if "consumer_group_id" in principal else "Consumer", **principal,
                resource_identifier=apig.CreateConsumerAuthorizationRulesRequestAuthorizationRulesResourceIdentifier(
                    resource_id=api_id, environment_id=self.environment_id),
            )])))
        (rule_id,) = made.consumer_authorization_rule_ids
        return rule_id

    def wait_served(self, api: Published, route: Route) -> None:
        """The gateway asks nobody for a body that is too large, and says so only to a consumer that may call."""
        headers = {"Authorization": "Bearer " + self.consumer.key, "Content-Length": str(1 << 40)}
        eventually(f"{api.path} is served", lambda: status_of_announced(route.methods[0], api.url + route.path, headers) == 413, 10)

    def close(self) -> None:
        for api_id in self._apis:
            ok(self.client.delete_http_api(api_id, apig.DeleteHttpApiRequest()))
        for service_id in self._services:
            ok(self.client.delete_service(service_id))


def status_of_announced(method: str, url: str, headers: dict[str, str]) -> int:
    """The status of the answer to a body that is announced and never sent."""
    at = httpx.URL(url)
    connection = http.client.HTTPConnection(at.host, at.port, timeout=5)
    try:
        connection.putrequest(method, at.raw_path.decode())
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()
