"""The user document, walked with the official client of apig: every step, every answer, and what is refused."""

import asyncio
import copy

import httpx
import pytest
from alibabacloud_apig20240327 import models as m

from control import apig_client, deploy_config, ok, refused
from installation import eventually
from publisher import UPSTREAM_KEY
from routes import DEFAULT_ROUTES

PAIRS = list(DEFAULT_ROUTES)
EVERYTHING = 500  # as a page


@pytest.fixture(scope="session")
def service(publisher, recorder) -> str:
    return publisher.ai_service(recorder.url)


@pytest.fixture
def create(apig, publisher, service):
    """Creates Model APIs that are deleted after the test unless the test does so."""
    made = []

    def one(category: str = "Text", protocol: str = "OpenAI/v1", *, deploy: bool = False, config: dict | None = None, **members) -> m.CreateHttpApiRequest:
        name = publisher.new_name("walk")
        request = m.CreateHttpApiRequest(**{
            "name": name, "type": "LLM", "model_category": category, "ai_protocols": [protocol], "base_path": "/" + name,
            "remove_base_path_on_forward": True, "protocols": ["HTTP", "HTTPS"],
            "deploy_configs": [deploy_config(publisher.gateway_id, publisher.environment_id, service, deploy=deploy, **(config or {}))],
            **members,
        })
        data = ok(apig.create_http_api(request))
        assert data.name == request.name
        made.append(data.http_api_id)
        request.http_api_id = data.http_api_id
        return request

    yield one
    for page in (apig.list_http_apis(m.ListHttpApisRequest(keyword=api_id)) for api_id in made):
        for item in ok(page).items:
            ok(apig.delete_http_api(item.versioned_http_apis[0].http_api_id, m.DeleteHttpApiRequest()))


@pytest.fixture
def show(apig):
    return lambda api_id: ok(apig.get_http_api(api_id, m.GetHttpApiRequest()))


@pytest.mark.parametrize(("category", "protocol"), PAIRS, ids=lambda word: word.replace("/", "-"))
def test_an_api_of_every_scenario_and_protocol_lives_its_life(apig, create, show, installation, publisher, service, category, protocol):
    made = create(category, protocol, description="first")
    api_id = made.http_api_id

    shown = show(api_id)
    assert (shown.name, shown.type, shown.model_category, shown.ai_protocols) == (made.name, "LLM", category, [protocol])
    assert (shown.base_path, shown.description, shown.protocols) == (made.base_path, "first", ["HTTP", "HTTPS"])
    assert (shown.gateway_id, shown.resource_group_id, shown.enable_auth) == (publisher.gateway_id, "rg-default", False)
    (config,) = shown.deploy_configs
    assert config.backend_scene == "SingleService"
    assert [s.service_id for s in config.service_configs] == [service]
    (environment,) = shown.environments
    assert (environment.environment_id, environment.deploy_status) == (publisher.environment_id, "NotDeployed")
    assert environment.sub_domains[0].name == publisher.environment_id + ".engineshed.localhost"

    listed = ok(apig.list_http_api_routes(api_id, m.ListHttpApiRoutesRequest(page_number=1, page_size=EVERYTHING)))
    found = {(r.match.path.value, tuple(r.match.methods), r.match.path.type) for r in listed.items}
    expected = DEFAULT_ROUTES[category, protocol]
    assert found == {(r.path, r.methods, r.type) for r in expected}
    assert listed.total_size == len(listed.items) == len(expected)
    assert {r.builtin for r in listed.items} == {"true"}
    assert all(r.description and r.deploy_status == "NotDeployed" for r in listed.items)
    one = ok(apig.get_http_api_route(api_id, listed.items[0].route_id))
    assert one.to_map() == listed.items[0].to_map()

    some = ok(apig.list_http_apis(m.ListHttpApisRequest(name=made.name, types="LLM", gateway_type="AI")))
    (item,) = some.items
    assert (item.name, item.type, item.gateway_id) == (made.name, "LLM", publisher.gateway_id)
    assert item.versioned_http_apis[0].to_map() == shown.to_map()

    ok(apig.update_http_api(api_id, m.UpdateHttpApiRequest(
        base_path=made.base_path + "-edited", description="second", deploy_configs=[
            deploy_config(publisher.gateway_id, publisher.environment_id, service, model="another", deploy=False)])))
    shown = show(api_id)
    assert (shown.base_path, shown.description) == (made.base_path + "-edited", "second")
    assert shown.deploy_configs[0].service_configs[0].model_name == "another"
    assert shown.environments[0].deploy_status == "NotDeployed"

    # Nobody calls its upstream for this: a method that a route lacks is refused by the gateway itself.
    path = shown.base_path + expected[0].path.replace("{", "").replace("}", "")
    other = next(method for method in ("OPTIONS", "HEAD") if method not in expected[0].methods)

    def asked() -> int:
        return httpx.request(other, installation.gateway + path).status_code

    assert asked() == 404
    assert ok(apig.deploy_http_api(api_id, m.DeployHttpApiRequest())).http_api_id == api_id
    assert show(api_id).environments[0].deploy_status == "Deployed"
    eventually("the gateway serves it", lambda: asked() == 405, 5)
    ok(apig.undeploy_http_api(api_id, m.UndeployHttpApiRequest(environment_id=publisher.environment_id)))
    assert show(api_id).environments[0].deploy_status == "NotDeployed"
    eventually("the gateway serves it no more", lambda: asked() == 404, 5)

    ok(apig.delete_http_api(api_id, m.DeleteHttpApiRequest()))
    with refused(404, "DatabaseError.RecordNotFound"):
        show(api_id)
    assert not ok(apig.list_http_apis(m.ListHttpApisRequest(name=made.name))).items


def test_an_api_of_several_protocols_has_the_routes_of_all(apig, create):
    made = create("Image", type="Ai", ai_protocols=["OpenAI/v1", "DashScopeImage", "ComfyUI"])
    listed = ok(apig.list_http_api_routes(made.http_api_id, m.ListHttpApiRoutesRequest(page_size=EVERYTHING)))
    expected = [route.path for (category, _), routes in DEFAULT_ROUTES.items() if category == "Image" for route in routes]
    assert sorted(r.match.path.value for r in listed.items) == sorted(expected)


def test_only_the_chosen_default_routes_are_made(apig, create):
    made = create(config={"builtin_route_names": ["chat-completions"]})
    listed = ok(apig.list_http_api_routes(made.http_api_id, m.ListHttpApiRoutesRequest()))
    assert [r.match.path.value for r in listed.items] == ["/v1/chat/completions"]
    assert not ok(apig.list_http_api_routes(create(config={"builtin_route_names": []}).http_api_id, m.ListHttpApiRoutesRequest())).items


def test_an_edit_of_a_deployed_api_is_served_unless_only_the_configuration_changes(apig, create, show, installation):
    made = create(deploy=True)
    chat = "/v1/chat/completions"

    def asked(base: str) -> int:
        return httpx.request("OPTIONS", installation.gateway + base + chat).status_code

    eventually("it is served", lambda: asked(made.base_path) == 405, 5)
    ok(apig.update_http_api(made.http_api_id, m.UpdateHttpApiRequest(base_path=made.base_path + "-later", only_change_config=True)))
    assert show(made.http_api_id).environments[0].deploy_status == "DeployedWithChanges"
    assert (asked(made.base_path), asked(made.base_path + "-later")) == (405, 404)
    ok(apig.update_http_api(made.http_api_id, m.UpdateHttpApiRequest(base_path=made.base_path + "-now")))
    assert show(made.http_api_id).environments[0].deploy_status == "Deployed"
    eventually("it moved", lambda: (asked(made.base_path), asked(made.base_path + "-now")) == (404, 405), 5)


def test_what_was_read_of_an_api_can_be_written_back(apig, create, show):
    """As clients do that change one thing: they read everything and send it all."""
    domain = ok(apig.create_domain(m.CreateDomainRequest(name="kept.example.com", protocol="HTTP"))).domain_id
    made = create(enable_auth=True, auth_config=m.AuthConfig(auth_type="Apikey", auth_mode="Custom"), config={
        "custom_domain_ids": [domain], "builtin_route_names": ["chat-completions"], "model": "the-target",
        "policy_configs": [m.HttpApiPolicyConfigs(type="AiStatistics", enable=False)]})
    before = show(made.http_api_id)
    ok(apig.update_http_api(made.http_api_id, m.UpdateHttpApiRequest(
        base_path=before.base_path, ai_protocols=before.ai_protocols, auth_config=before.auth_config, enable_auth=before.enable_auth,
        protocols=before.protocols, deploy_configs=before.deploy_configs, description="only this is new")))
    after = show(made.http_api_id)
    assert after.description == "only this is new"
    after.description = before.description
    assert after.to_map() == before.to_map()
    assert [d.name for d in after.environments[0].custom_domains] == ["kept.example.com"]
    ok(apig.delete_http_api(made.http_api_id, m.DeleteHttpApiRequest()))
    ok(apig.delete_domain(domain))


def test_what_was_read_of_a_consumer_can_be_written_back(apig, publisher):
    consumer = publisher.new_consumer(source="Header", value="X-Team-Key")
    before = ok(apig.get_consumer(consumer.consumer_id))
    ok(apig.update_consumer(consumer.consumer_id, m.UpdateConsumerRequest(
        enable=before.enable, description="only this is new", apikey_identity_config=before.api_key_identity_config)))
    after = ok(apig.get_consumer(consumer.consumer_id))
    assert after.description == "only this is new"
    assert after.api_key_identity_config.to_map() == before.api_key_identity_config.to_map()
    ok(apig.delete_consumer(consumer.consumer_id))


def test_lists_come_in_pages_that_hold_everything_once(apig, create, publisher):
    names = {create().name for _ in range(5)}
    found, page = [], 1
    while True:
        data = ok(apig.list_http_apis(m.ListHttpApisRequest(page_number=page, page_size=2, keyword="walk-", gateway_id=publisher.gateway_id)))
        assert (data.page_number, data.page_size, data.total_size) == (page, 2, 5)
        if not data.items:
            break
        assert len(data.items) <= 2
        found += [item.name for item in data.items]
        page += 1
    assert page == 4
    assert len(found) == 5 and set(found) == names
    assert found == [item.name for item in ok(apig.list_http_apis(m.ListHttpApisRequest(page_size=5, keyword="walk-"))).items]


def test_a_route_of_ones_own_is_added_changed_and_deleted(apig, create, installation):
    made = create(deploy=True)
    match = m.HttpRouteMatch(path=m.HttpRouteMatchPath(type="Exact", value="/v1/moderations"), methods=["POST"])
    route = ok(apig.create_http_api_route(made.http_api_id, m.CreateHttpApiRouteRequest(name="moderations", match=match, description="mine")))
    shown = ok(apig.get_http_api_route(made.http_api_id, route.route_id))
    assert (shown.name, shown.builtin, shown.description, shown.match.path.value) == ("moderations", "false", "mine", "/v1/moderations")
    with refused(409, "Conflict.HttpApiRouteNameDuplicate", "moderations"):
        apig.create_http_api_route(made.http_api_id, m.CreateHttpApiRouteRequest(name="moderations", match=match))

    match.path.value = "/v1/judgements"
    ok(apig.update_http_api_route(made.http_api_id, route.route_id, m.UpdateHttpApiRouteRequest(match=match, description="still mine")))
    some = ok(apig.list_http_api_routes(made.http_api_id, m.ListHttpApiRoutesRequest(path_like="judge")))
    assert [(r.route_id, r.match.path.value, r.description) for r in some.items] == [(route.route_id, "/v1/judgements", "still mine")]
    ok(apig.deploy_http_api(made.http_api_id, m.DeployHttpApiRequest()))
    eventually("the route is served", lambda: httpx.get(installation.gateway + made.base_path + "/v1/judgements").status_code == 405, 5)

    ok(apig.delete_http_api_route(made.http_api_id, route.route_id))
    with refused(404, "NotFound.RouteNotFound"):
        apig.get_http_api_route(made.http_api_id, route.route_id)


def test_a_name_that_is_taken_is_refused(create):
    made = create()
    with refused(409, "Conflict.HttpApiNameDuplicate", made.name):
        create(name=made.name, base_path="/elsewhere")


def test_a_domain_and_base_path_that_are_taken_are_refused_and_the_holder_named(create, apig):
    domain = ok(apig.create_domain(m.CreateDomainRequest(name="taken.example.com", protocol="HTTP", domain_scope="Dedicated", gateway_type="AI")))
    places = {"custom_domain_ids": [domain.domain_id], "env_domain_ids": []}
    holder = create(base_path="/both", config=places)
    with refused(409, "Conflict.ApiRouteConflict", holder.name, "taken.example.com", "/both"):
        create(base_path="/both", config=places)
    neighbour = create(base_path="/neither", config=places)
    with refused(409, "Conflict.ApiRouteConflict", holder.name):
        apig.update_http_api(neighbour.http_api_id, m.UpdateHttpApiRequest(base_path="/both"))
    with refused(409, "Conflict.DomainInUse"):
        apig.delete_domain(domain.domain_id)
    for api in (holder, neighbour):
        ok(apig.delete_http_api(api.http_api_id, m.DeleteHttpApiRequest()))
    ok(apig.delete_domain(domain.domain_id))


@pytest.mark.parametrize(("members", "code", "word"), [
    ({"name": "two words"}, "InvalidParameter.Name", "letters"),
    ({"name": "n" * 65}, "InvalidParameter.Name", "64"),
    ({"type": "Rest"}, "InvalidParameter.Type", "LLM"),
    ({"model_category": "Smell"}, "InvalidParameter.ModelCategory", "Text"),
    ({"ai_protocols": ["ComfyUI"]}, "InvalidParameter.AiProtocols", "OpenAI/v1"),
    ({"ai_protocols": ["OpenAI/v1", "Anthropic"]}, "InvalidParameter.AiProtocols", "one"),
    ({"base_path": "chat"}, "InvalidParameter.BasePath", "/"),
    ({"base_path": "/a b"}, "InvalidParameter.BasePath", ""),
    ({"deploy_configs": []}, "InvalidParameter.DeployConfigs", "exactly one"),
])
def test_what_cannot_be_an_api_is_refused_with_the_reason(create, members, code, word):
    with refused(400, code, word):
        create(**members)


def test_unknown_ids_are_refused_by_the_code_of_their_kind(apig):
    nothing = "0123456789abcdefghij"
    for code, ask in [
        ("DatabaseError.RecordNotFound", lambda: apig.get_http_api("api-" + nothing, m.GetHttpApiRequest())),
        ("DatabaseError.RecordNotFound", lambda: apig.update_http_api("api-" + nothing, m.UpdateHttpApiRequest(base_path="/"))),
        ("DatabaseError.RecordNotFound", lambda: apig.deploy_http_api("api-" + nothing, m.DeployHttpApiRequest())),
        ("DatabaseError.RecordNotFound", lambda: apig.undeploy_http_api("api-" + nothing, m.UndeployHttpApiRequest())),
        ("DatabaseError.RecordNotFound", lambda: apig.delete_http_api("api-" + nothing, m.DeleteHttpApiRequest())),
        ("DatabaseError.RecordNotFound", lambda: apig.list_http_api_routes("api-" + nothing, m.ListHttpApiRoutesRequest())),
        ("DatabaseError.RecordNotFound", lambda: apig.get_domain("d-" + nothing, m.GetDomainRequest())),
        ("NotFound.GatewayNotFound", lambda: apig.get_gateway("gw-" + nothing)),
        ("NotFound.EnvironmentNotFound", lambda: apig.get_environment("env-" + nothing, m.GetEnvironmentRequest())),
        ("NotFound.ServiceNotFound", lambda: apig.get_service("svc-" + nothing)),
        ("NotFound.ConsumerNotFound", lambda: apig.get_consumer("cs-" + nothing)),
        ("NotFound.ConsumerGroupNotFound", lambda: apig.get_consumer_group("csg-" + nothing, m.GetConsumerGroupRequest())),
        ("NotFound.ConsumerAuthorizationRuleNotFound", lambda: apig.remove_consumer_authorization_rule("car-" + nothing)),
    ]:
        with refused(404, code):
            ask()


def test_a_gateway_comes_with_an_environment_and_is_served(apig):
    made = ok(apig.create_gateway(m.CreateGatewayRequest(name="second", gateway_type="AI")))
    shown = eventually("it is served", lambda: (g := ok(apig.get_gateway(made.gateway_id))).status == "Running" and g)
    assert (shown.name, shown.gateway_type, shown.resource_group_id) == ("second", "AI", "rg-default")
    (environment,) = shown.environments
    assert environment.name == "default-" + made.gateway_id
    with refused(409, "Conflict.GatewayNameDuplicate", "second"):
        apig.create_gateway(m.CreateGatewayRequest(name="second", gateway_type="AI"))

    ok(apig.update_gateway_name(made.gateway_id, m.UpdateGatewayNameRequest(name="renamed")))
    listed = ok(apig.list_gateways(m.ListGatewaysRequest(keyword="renam", gateway_type="AI")))
    assert [(g.gateway_id, g.name) for g in listed.items] == [(made.gateway_id, "renamed")]
    assert ok(apig.list_gateways(m.ListGatewaysRequest())).total_size == 2

    staging = ok(apig.create_environment(m.CreateEnvironmentRequest(gateway_id=made.gateway_id, name="staging", alias="before", description="d")))
    seen = ok(apig.get_environment(staging.environment_id, m.GetEnvironmentRequest()))
    assert (seen.name, seen.alias, seen.description, seen.default) == ("staging", "before", "d", False)
    assert seen.sub_domain_infos[0].name == staging.environment_id + ".engineshed.localhost"
    ok(apig.update_environment(staging.environment_id, m.UpdateEnvironmentRequest(alias="just before", description="e")))
    listed = ok(apig.list_environments(m.ListEnvironmentsRequest(gateway_id=made.gateway_id, alias_like="just")))
    assert [e.environment_id for e in listed.items] == [staging.environment_id]
    with refused(409, "Conflict.EnvironmentIsDefault"):
        apig.delete_environment(environment.environment_id)
    ok(apig.delete_environment(staging.environment_id))

    ok(apig.delete_gateway(made.gateway_id))
    with refused(404, "NotFound.GatewayNotFound"):
        apig.get_gateway(made.gateway_id)


def test_a_domain_is_made_changed_listed_and_deleted(apig):
    made = ok(apig.create_domain(m.CreateDomainRequest(
        name="models.example.com", protocol="HTTP", domain_scope="Dedicated", gateway_type="AI", http_2option="Open")))
    shown = ok(apig.get_domain(made.domain_id, m.GetDomainRequest(with_statistics=True)))
    assert (shown.name, shown.protocol, shown.force_https) == ("models.example.com", "HTTP", False)
    with refused(409, "Conflict.DomainNameDuplicate", "models.example.com"):
        apig.create_domain(m.CreateDomainRequest(name="models.example.com", protocol="HTTP"))
    ok(apig.update_domain(made.domain_id, m.UpdateDomainRequest(protocol="HTTP", http_2option="Close")))
    assert ok(apig.get_domain(made.domain_id, m.GetDomainRequest())).http_2option == "Close"
    listed = ok(apig.list_domains(m.ListDomainsRequest(name_like="models.", gateway_type="AI", page_size=10)))
    assert [(d.domain_id, d.status) for d in listed.items] == [(made.domain_id, "Published")]
    ok(apig.delete_domain(made.domain_id))
    with refused(404, "DatabaseError.RecordNotFound"):
        apig.get_domain(made.domain_id, m.GetDomainRequest())


def test_a_services_key_is_shown_masked_and_kept_when_the_mask_comes_back(apig, publisher, recorder):
    made = publisher.ai_service(recorder.url)
    shown = ok(apig.get_service(made))
    assert (shown.gateway_id, shown.source_type, shown.ai_service_config.address) == (publisher.gateway_id, "AI", recorder.url)
    (mask,) = shown.ai_service_config.api_keys
    assert UPSTREAM_KEY not in str(shown.to_map()) and mask.endswith(UPSTREAM_KEY[-4:]) and "*" in mask
    shown.ai_service_config.default_model_name = "a-default"
    ok(apig.update_service(made, m.UpdateServiceRequest(ai_service_config=shown.ai_service_config)))
    again = ok(apig.get_service(made))
    assert again.ai_service_config.default_model_name == "a-default"
    assert again.ai_service_config.api_keys == [mask]
    listed = ok(apig.list_services(m.ListServicesRequest(gateway_id=publisher.gateway_id, source_type="AI", name=shown.name)))
    assert [s.service_id for s in listed.items] == [made]


def test_services_by_name_and_by_address_are_made_and_deleted(apig, publisher, recorder):
    port = recorder.port
    for source_type, addresses in [("DNS", [f"localhost:{port}"]), ("VIP", [f"127.0.0.1:{port}"])]:
        made = ok(apig.create_service(m.CreateServiceRequest(
            gateway_id=publisher.gateway_id, source_type=source_type, client_token=f"token-{source_type}",
            service_configs=[m.CreateServiceRequestServiceConfigs(name=f"by-{source_type}", addresses=addresses)])))
        (service_id,) = made.service_ids
        assert ok(apig.get_service(service_id)).addresses == addresses
        ok(apig.delete_service(service_id))
        with refused(404, "NotFound.ServiceNotFound"):
            apig.get_service(service_id)


def test_a_service_at_an_address_inside_is_refused_unless_the_operator_allowed_it(publisher):
    with refused(400, "InvalidParameter", "--allow-upstream"):
        publisher.ai_service("http://127.0.0.1:1")
    with refused(400, "InvalidParameter", "--allow-upstream"):
        publisher.dns_service("169.254.169.254:80")


def test_a_repeated_client_token_makes_one_service(apig, publisher):
    request = m.CreateServiceRequest(
        gateway_id=publisher.gateway_id, source_type="DNS", client_token="once",
        service_configs=[m.CreateServiceRequestServiceConfigs(name="once", addresses=["models.example.com:8000"])])
    first = ok(apig.create_service(request)).service_ids
    assert ok(apig.create_service(request)).service_ids == first
    ok(apig.delete_service(first[0]))


def test_a_service_that_an_api_uses_is_not_deleted(apig, create, service):
    create()
    with refused(409, "Conflict.ServiceInUse"):
        apig.delete_service(service)


def test_consumers_groups_and_rules_decide_who_may_call(apig, create, publisher, installation):
    made = create(deploy=True, enable_auth=True, auth_config=m.AuthConfig(auth_type="Apikey", auth_mode="Custom"))
    url = installation.gateway + made.base_path + "/v1/chat/completions"
    alice, bob = publisher.new_consumer(), publisher.new_consumer()

    def asked(key: str | None) -> int:
        headers = {"Authorization": "Bearer " + key} if key else {}
        return httpx.post(url, headers=headers, json={"model": "m", "messages": [{"role": "user", "content": "hello"}]}).status_code

    eventually("nobody may call without a key", lambda: asked(None) == 401, 5)
    assert asked("not-a-key") == 401
    assert (asked(alice.key), asked(bob.key)) == (403, 403), "no rule, nobody"

    rule = publisher.authorize(made.http_api_id, consumer_id=alice.consumer_id)
    eventually("alice may call", lambda: asked(alice.key) == 200, 5)
    assert asked(bob.key) == 403
    with refused(409, "Conflict.ConsumerAuthorizationForbidden"):
        publisher.authorize(made.http_api_id, consumer_id=alice.consumer_id)

    group = ok(apig.create_consumer_group(m.CreateConsumerGroupRequest(name="the-team", description="d", gateway_type="AI"))).consumer_group_id
    publisher.authorize(made.http_api_id, consumer_group_id=group)
    ok(apig.batch_add_consumer_group_consumers(group, m.BatchAddConsumerGroupConsumersRequest(consumer_ids=[bob.consumer_id])))
    eventually("bob may call as one of the group", lambda: asked(bob.key) == 200, 5)
    assert ok(apig.get_consumer_group(group, m.GetConsumerGroupRequest())).name == "the-team"
    members = ok(apig.list_consumer_group_consumers(group, m.ListConsumerGroupConsumersRequest(page_number=1, page_size=10)))
    assert [c.consumer_id for c in members.items] == [bob.consumer_id]
    ok(apig.update_consumer_group(group, m.UpdateConsumerGroupRequest(name="the-same-team", description="e")))
    assert [g.name for g in ok(apig.list_consumer_groups(m.ListConsumerGroupsRequest(name_like="same"))).items] == ["the-same-team"]

    rules = ok(apig.query_consumer_authorization_rules(m.QueryConsumerAuthorizationRulesRequest(resource_id=made.http_api_id, resource_type="LLM")))
    assert int(rules.total_size) == 2
    assert {(r.principal_type, r.consumer_id or r.consumer_group_id) for r in rules.items} == {
        ("Consumer", alice.consumer_id), ("ConsumerGroup", group)}

    ok(apig.batch_remove_consumer_group_consumers(group, m.BatchRemoveConsumerGroupConsumersRequest(consumer_ids=[bob.consumer_id])))
    eventually("bob may not call outside the group", lambda: asked(bob.key) == 403, 5)
    ok(apig.remove_consumer_authorization_rule(rule))
    eventually("alice may not call without the rule", lambda: asked(alice.key) == 403, 5)

    rule = publisher.authorize(made.http_api_id, consumer_id=alice.consumer_id)
    eventually("alice may call again", lambda: asked(alice.key) == 200, 5)
    ok(apig.update_consumer(alice.consumer_id, m.UpdateConsumerRequest(enable=False, description="away")))
    eventually("a disabled consumer may not", lambda: asked(alice.key) == 401, 5)
    shown = ok(apig.get_consumer(alice.consumer_id))
    assert (shown.enable, shown.description) == (False, "away")

    remaining = m.QueryConsumerAuthorizationRulesRequest(resource_id=made.http_api_id, resource_type="LLM")
    ids = [r.consumer_authorization_rule_id for r in ok(apig.query_consumer_authorization_rules(remaining)).items]
    assert len(ids) == 2 and rule in ids
    ok(apig.batch_delete_consumer_authorization_rule(
        m.BatchDeleteConsumerAuthorizationRuleRequest(consumer_authorization_rule_ids=",".join(ids))))
    assert not ok(apig.query_consumer_authorization_rules(remaining)).items

    ok(apig.delete_consumer_group(group, m.DeleteConsumerGroupRequest()))
    listed = ok(apig.list_consumers(m.ListConsumersRequest(name_like="consumer-", gateway_type="AI", page_size=100)))
    assert {alice.consumer_id, bob.consumer_id} <= {c.consumer_id for c in listed.items}
    for consumer in (alice, bob):
        ok(apig.delete_consumer(consumer.consumer_id))
        with refused(404, "NotFound.ConsumerNotFound"):
            apig.get_consumer(consumer.consumer_id)


def test_a_consumers_name_that_is_taken_is_refused(apig):
    request = m.CreateConsumerRequest(name="twin", enable=True, gateway_type="AI")
    made = ok(apig.create_consumer(request))
    with refused(409, "Conflict.ConsumerNameDuplicate", "twin"):
        apig.create_consumer(request)
    ok(apig.delete_consumer(made.consumer_id))


def test_the_asynchronous_client_creates_lists_and_deletes(apig, publisher, service):
    async def walk() -> None:
        made = ok(await apig.create_http_api_async(m.CreateHttpApiRequest(
            name="by-async", type="LLM", model_category="Text", ai_protocols=["OpenAI/v1"], base_path="/by-async",
            deploy_configs=[deploy_config(publisher.gateway_id, publisher.environment_id, service, deploy=False)])))
        listed = ok(await apig.list_http_apis_async(m.ListHttpApisRequest(name="by-async")))
        assert [item.versioned_http_apis[0].http_api_id for item in listed.items] == [made.http_api_id]
        ok(await apig.delete_http_api_async(made.http_api_id, m.DeleteHttpApiRequest()))

    asyncio.run(walk())


def test_a_call_signed_with_another_secret_is_refused(installation):
    stranger = copy.copy(installation)
    stranger.access_key_secret = "not-the-secret"
    with refused(403, "SignatureDoesNotMatch"):
        apig_client(stranger).list_gateways(m.ListGatewaysRequest())


def test_a_dry_run_is_refused_and_does_nothing(apig, create, show):
    made = create(description="as it was")
    for rehearse in (
        lambda: apig.delete_http_api(made.http_api_id, m.DeleteHttpApiRequest(dry_run=True)),
        lambda: apig.update_http_api(made.http_api_id, m.UpdateHttpApiRequest(base_path=made.base_path, description="changed", dry_run=True)),
        lambda: create(dry_run=True),
    ):
        with refused(400, "UnsupportedParameter", "dryRun"):
            rehearse()
    assert show(made.http_api_id).description == "as it was"
