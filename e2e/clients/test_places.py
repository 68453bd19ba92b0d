"""Where an API is found, what its service is called by, and where a consumer carries its key."""

import ssl

import httpx
import openai
import pytest
from alibabacloud_apig20240327 import models as m

from answers import SAID
from control import deploy_config, ok
from installation import CERTIFICATE, SECURE_DOMAIN, eventually
from publisher import UPSTREAM_KEY, UPSTREAM_MODEL

QUESTION = [{"role": "user", "content": "hello"}]
CHAT = {"model": "any", "messages": QUESTION}


def test_documents_are_reranked_by_vllms_route(recorded, publisher, upstream):
    answer = httpx.post(
        recorded("Rerank", "vLLM").url + "/v1/rerank", headers={"Authorization": "Bearer " + publisher.consumer.key},
        json={"model": "any", "query": "q", "documents": ["a", "b"], "top_n": 2})
    assert [result["index"] for result in answer.json()["results"]] == [1, 0]
    got = upstream.only()
    assert (got.method, got.path, got.header("Authorization")) == ("POST", "/v1/rerank", "Bearer " + UPSTREAM_KEY)
    assert got.json == {"model": UPSTREAM_MODEL, "query": "q", "documents": ["a", "b"], "top_n": 2}


def test_an_api_is_served_on_its_own_domain_and_nowhere_else(apig, publisher, recorder, upstream):
    domain = ok(apig.create_domain(m.CreateDomainRequest(name="chat.example.com", protocol="HTTP"))).domain_id
    api = publisher.publish("Text", "OpenAI/v1", publisher.ai_service(recorder.url))
    ok(apig.update_http_api(api.api_id, m.UpdateHttpApiRequest(base_path="/", deploy_configs=[
        deploy_config(publisher.gateway_id, publisher.environment_id, publisher.ai_service(recorder.url), model=UPSTREAM_MODEL,
                      custom_domain_ids=[domain], env_domain_ids=[])])))

    def at(host: str | None, path: str = "/v1/chat/completions") -> int:
        headers = {"Authorization": "Bearer " + publisher.consumer.key, **({"Host": host} if host else {})}
        return httpx.post(publisher.installation.gateway + path, json=CHAT, headers=headers).status_code

    eventually("the domain answers", lambda: at("chat.example.com") == 200, 5)
    recorder.forget()
    with openai.OpenAI(
        base_url=publisher.installation.gateway + "/v1", api_key=publisher.consumer.key, max_retries=0,
        default_headers={"Host": "CHAT.example.com"},
    ) as client:
        assert client.chat.completions.create(**CHAT).choices[0].message.content == SAID
    assert upstream.only().header("Host") == recorder.authority
    assert {at(None), at("other.example.com"), at(publisher.environment_id + ".engineshed.localhost"), at(None, api.path + "/v1/chat/completions")} == {404}
    shown = ok(apig.get_http_api(api.api_id, m.GetHttpApiRequest())).environments[0]
    assert [d.name for d in shown.custom_domains] == ["chat.example.com"]


def test_a_domain_is_served_with_its_certificate_and_redirects_plain_http(apig, publisher, installation, recorder, upstream):
    domain = ok(apig.create_domain(m.CreateDomainRequest(
        name=SECURE_DOMAIN, protocol="HTTPS", cert_identifier=CERTIFICATE, force_https=True, http_2option="Open", tls_min="TLS1.2"))).domain_id
    shown = ok(apig.get_domain(domain, m.GetDomainRequest()))
    assert (shown.protocol, shown.force_https, shown.cert_identifier) == ("HTTPS", True, CERTIFICATE)
    api = publisher.publish("Text", "OpenAI/v1", publisher.ai_service(recorder.url), custom_domain_ids=[domain])
    plain = installation.gateway + api.path + "/v1/chat/completions"
    redirected = eventually("plain HTTP is redirected", lambda: (
        r := httpx.post(plain, json=CHAT, headers={"Host": SECURE_DOMAIN})).status_code == 308 and r, 5)
    port = installation.https.rpartition(":")[2]
    assert redirected.headers["Location"] == f"https://{SECURE_DOMAIN}:{port}{api.path}/v1/chat/completions"

    def name_it(request: httpx.Request) -> None:
        request.extensions["sni_hostname"] = SECURE_DOMAIN  # the name is not in the DNS, and the certificate is checked for it

    trusting = httpx.Client(verify=ssl.create_default_context(cafile=installation.trusted), event_hooks={"request": [name_it]})
    upstream.forget()
    with openai.OpenAI(
        base_url=f"https://{installation.https}{api.path}/v1", api_key=publisher.consumer.key, max_retries=0, http_client=trusting,
        default_headers={"Host": SECURE_DOMAIN},
    ) as client, client.chat.completions.create(**CHAT, stream=True) as stream:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == SAID
    assert upstream.only().json["model"] == UPSTREAM_MODEL


def test_an_environments_own_host_name_answers(recorded, publisher, upstream):
    api = recorded("Text", "OpenAI/v1")
    headers = {"Authorization": "Bearer " + publisher.consumer.key, "Host": publisher.environment_id + ".engineshed.localhost"}
    assert httpx.post(api.url + "/v1/chat/completions", json=CHAT, headers=headers).status_code == 200
    assert upstream.only().path == "/v1/chat/completions"


def test_a_base_path_that_is_not_removed_reaches_the_upstream(apig, publisher, recorder, upstream):
    api = publisher.publish("Embedding", "OpenAI/v1", publisher.ai_service(recorder.url))
    ok(apig.update_http_api(api.api_id, m.UpdateHttpApiRequest(base_path=api.path, remove_base_path_on_forward=False)))

    def arrives() -> bool:
        httpx.post(api.url + "/v1/embeddings", json={"model": "any", "input": "a"}, headers={"Authorization": "Bearer " + publisher.consumer.key})
        return upstream.last().path == api.path + "/v1/embeddings"

    eventually("the whole path arrives", arrives, 5)


def test_a_service_found_by_name_is_called_without_a_key(publisher, recorder):
    api = publisher.publish("Text", "OpenAI/v1", publisher.dns_service(f"localhost:{recorder.port}"))
    recorder.forget()
    with openai.OpenAI(base_url=api.url + "/v1", api_key=publisher.consumer.key, max_retries=0) as client:
        assert client.chat.completions.create(**CHAT).choices[0].message.content == SAID
    got = recorder.only()
    assert got.header("Authorization") is None and not got.holds(publisher.consumer.key)
    assert got.json["model"] == UPSTREAM_MODEL


@pytest.mark.parametrize(("source", "value"), [("Header", "X-Team-Key"), ("QueryString", "team_key")])
def test_a_consumer_carries_its_key_where_it_was_told_to(apig, publisher, recorded, upstream, source, value):
    consumer = publisher.new_consumer(source=source, value=value)
    api = recorded("Text", "OpenAI/v1")
    rule = publisher.authorize(api.api_id, consumer_id=consumer.consumer_id)
    url = api.url + "/v1/chat/completions"

    def asked(**where) -> int:
        return httpx.post(url, json=CHAT, **where).status_code

    carried = {"headers": {value: consumer.key}} if source == "Header" else {"params": {value: consumer.key, "kept": "yes"}}
    eventually("the consumer may call", lambda: asked(**carried) == 200, 5)
    assert asked(headers={"Authorization": "Bearer " + consumer.key}) == 401, "only there"
    assert asked(**{**carried, "headers": {**carried.get("headers", {}), "Authorization": "Bearer " + publisher.consumer.key}}) == 401, "one key"
    for got in upstream.all():
        assert not got.holds(consumer.key)
        assert got.query == ({} if source == "Header" else {"kept": "yes"})
    ok(apig.remove_consumer_authorization_rule(rule))
    ok(apig.delete_consumer(consumer.consumer_id))


@pytest.mark.parametrize(("provider", "category", "protocol", "path", "arrives", "key"), [
    ("qwen", "Text", "OpenAI/v1", "/v1/chat/completions", "/compatible-mode/v1/chat/completions", ("Authorization", "Bearer ")),
    ("qwen", "Text", "Anthropic", "/v1/messages", "/apps/anthropic/v1/messages", ("Authorization", "Bearer ")),
    ("qwen", "Rerank", "vLLM", "/v1/rerank", "/compatible-api/v1/reranks", ("Authorization", "Bearer ")),
    ("claude", "Text", "Anthropic", "/v1/messages", "/v1/messages", ("X-Api-Key", "")),
    ("azure", "Text", "OpenAI/v1", "/v1/chat/completions", "/openai/v1/chat/completions", ("Api-Key", "")),
    ("zhipuai", "Text", "OpenAI/v1", "/v1/chat/completions", "/api/paas/v4/chat/completions", ("Authorization", "Bearer ")),
    ("moonshot", "Text", "Anthropic", "/v1/messages", "/anthropic/v1/messages", ("Authorization", "Bearer ")),
    ("anthropic", "Text", "Anthropic", "/v1/messages", "/v1/messages", ("X-Api-Key", "")),
    ("minimax", "Text", "Anthropic", "/v1/messages", "/anthropic/v1/messages", ("Authorization", "Bearer ")),
    ("deepseek", "Text", "Anthropic", "/v1/messages", "/anthropic/v1/messages", ("Authorization", "Bearer ")),
    ("zhipuai", "Text", "Anthropic", "/v1/messages", "/api/anthropic/v1/messages", ("Authorization", "Bearer ")),
    ("doubao", "Text", "OpenAI/v1", "/v1/chat/completions", "/api/v3/chat/completions", ("Authorization", "Bearer ")),
    ("gemini", "Text", "OpenAI/v1", "/v1/chat/completions", "/v1beta/openai/chat/completions", ("Authorization", "Bearer ")),
    *((provider, "Text", "OpenAI/v1", "/v1/chat/completions", "/v1/chat/completions", ("Authorization", "Bearer ")) for provider in (
        "moonshot", "baichuan", "yi", "360ai", "hunyuan", "stepfun", "spark", "openai", "minimax", "deepseek", "custom", "pai-eas")),
])
def test_a_provider_is_called_by_its_own_path_and_gets_its_key_its_own_way(
    publisher, recorder, upstream, provider, category, protocol, path, arrives, key,
):
    api = publisher.publish(category, protocol, publisher.ai_service(recorder.url, provider))
    upstream.forget()
    httpx.post(api.url + path, json={**CHAT, "max_tokens": 5, "query": "q", "documents": []},
               headers={"Authorization": "Bearer " + publisher.consumer.key})
    got = upstream.only()
    name, prefix = key
    assert (got.method, got.path, got.header(name)) == ("POST", arrives, prefix + UPSTREAM_KEY)
    assert [h for h in ("Authorization", "X-Api-Key", "Api-Key") if got.header(h)] == [name]
    assert got.json["model"] == UPSTREAM_MODEL
    assert got.header("Anthropic-Version") == ("2023-06-01" if provider in ("claude", "anthropic") else None)
