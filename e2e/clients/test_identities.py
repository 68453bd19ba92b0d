"""Consumers that the official client of apig makes of every kind, and calls with what they prove themselves by."""

import base64
import hashlib
import hmac
import json
import time
import uuid

import httpx
import openai
import pytest
from alibabacloud_apig20240327 import models as m
from cryptography.hazmat.primitives.asymmetric import ed25519

from answers import SAID
from control import ok, refused
from installation import eventually

QUESTION = [{"role": "user", "content": "How is the weather in Hangzhou?"}]


def unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(key: ed25519.Ed25519PrivateKey, **claims) -> str:
    parts = [{"alg": "EdDSA", "kid": "k"}, {"exp": int(time.time()) + 60, **claims}]
    text = ".".join(unpadded(json.dumps(part).encode()) for part in parts)
    return text + "." + unpadded(key.sign(text.encode()))


def signed(url: str, body: bytes, ak: str, sk: str) -> dict[str, str]:
    """The headers of a signed call, as signers of API gateways make them."""
    headers = {
        "accept": "application/json", "content-md5": base64.b64encode(hashlib.md5(body).digest()).decode(), "content-type": "application/json",
        "x-ca-key": ak, "x-ca-nonce": str(uuid.uuid4()), "x-ca-timestamp": str(int(time.time() * 1000)), "x-ca-signature-method": "HmacSHA256",
    }
    chosen = sorted(name for name in headers if name.startswith("x-ca-"))
    lines = ["POST", headers["accept"], headers["content-md5"], headers["content-type"], ""]
    text = "\n".join(lines + [f"{name}:{headers[name]}" for name in chosen] + [httpx.URL(url).path])
    mac = hmac.new(sk.encode(), text.encode(), hashlib.sha256)
    return {**headers, "x-ca-signature-headers": ",".join(chosen), "x-ca-signature": base64.b64encode(mac.digest()).decode()}


@pytest.fixture
def guarded(apig, publisher, recorder):
    """An API whose consumers prove who they are in one way, and one such consumer of the request."""
    made = []

    def one(auth_type: str, **identities):
        api = publisher.publish("Text", "OpenAI/v1", publisher.ai_service(recorder.url))
        ok(apig.update_http_api(api.api_id, m.UpdateHttpApiRequest(
            base_path=api.path, enable_auth=True, auth_config=m.AuthConfig(auth_type=auth_type, auth_mode="Custom"))))
        consumer_id = ok(apig.create_consumer(m.CreateConsumerRequest(
            name=publisher.new_name("consumer"), enable=True, gateway_type="AI", **identities))).consumer_id
        made.append(consumer_id)
        publisher.authorize(api.api_id, consumer_id=consumer_id)
        return api.url, consumer_id

    yield one
    for consumer_id in made:
        ok(apig.delete_consumer(consumer_id))


def test_a_consumer_is_known_by_its_tokens(apig, guarded, publisher):
    key = ed25519.Ed25519PrivateKey.generate()
    keys = json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": unpadded(key.public_key().public_bytes_raw())}]})
    url, consumer_id = guarded("Jwt", jwt_identity_config=m.JwtIdentityConfig(
        type="Jwt", secret_type="Asymmetry", jwks=keys,
        jwt_payload_config=m.JwtIdentityConfigJwtPayloadConfig(payload_key_name="sub", payload_key_value="alice"),
        jwt_token_config=m.JwtIdentityConfigJwtTokenConfig(position="HEADER", key="Authorization", prefix="Bearer", pass_=False),
    ))
    shown = ok(apig.get_consumer(consumer_id)).jwt_identity_config
    assert (shown.type, shown.secret_type, shown.jwks) == ("Jwt", "Asymmetry", keys)
    assert shown.jwt_payload_config.to_map() == {"payloadKeyName": "sub", "payloadKeyValue": "alice"}
    assert shown.jwt_token_config.to_map() == {"position": "HEADER", "key": "Authorization", "prefix": "Bearer", "pass": False}

    def ask(bearer: str) -> str:
        with openai.OpenAI(base_url=url + "/v1", api_key=bearer, max_retries=0, timeout=20) as client:
            return client.chat.completions.create(model="any", messages=QUESTION).choices[0].message.content

    def status(bearer: str) -> int:
        try:
            ask(bearer)
        except openai.APIStatusError as error:
            return error.status_code
        return 200

    eventually("the consumer may call", lambda: status(token(key, sub="alice")) == 200, 5)
    assert ask(token(key, sub="alice")) == SAID
    for wrong in (token(key, sub="bob"), token(ed25519.Ed25519PrivateKey.generate(), sub="alice"), publisher.consumer.key):
        with pytest.raises(openai.AuthenticationError) as raised:
            ask(wrong)
        assert raised.value.code == "invalid_token"
    with pytest.raises(openai.AuthenticationError) as raised:
        ask(token(key, sub="alice", exp=int(time.time()) - 120))
    assert raised.value.code == "token_expired"

    shown.jwt_payload_config.payload_key_value = "carol"  # what was read is written back
    ok(apig.update_consumer(consumer_id, m.UpdateConsumerRequest(jwt_identity_config=shown)))
    eventually("another name counts", lambda: (status(token(key, sub="alice")), status(token(key, sub="carol"))) == (401, 200), 5)
    with refused(400, "UnsupportedParameter", "remoteJwks"):
        apig.update_consumer(consumer_id, m.UpdateConsumerRequest(jwt_identity_config=m.JwtIdentityConfig(
            secret_type="Asymmetry", remote_jwks='{"uri":"https://login.example.com/jwks.json"}')))


def test_a_consumer_is_known_by_its_signatures(apig, guarded):
    url, consumer_id = guarded("AkSk", ak_sk_identity_configs=[
        m.AkSkIdentityConfig(type="AkSk", generate_mode="System"),
        m.AkSkIdentityConfig(type="AkSk", generate_mode="Custom", ak="search-team", sk="a-secret-of-the-search-team"),
    ])
    made, brought = ok(apig.get_consumer(consumer_id)).ak_sk_identity_configs
    assert (made.type, made.generate_mode, brought.ak, brought.sk) == ("AkSk", "System", "search-team", "****team")
    endpoint, body = url + "/v1/chat/completions", json.dumps({"model": "any", "messages": QUESTION}).encode()

    def ask(headers: dict[str, str], content: bytes = body) -> httpx.Response:
        return httpx.post(endpoint, content=content, headers=headers, timeout=20)

    for ak, sk in ((made.ak, made.sk), ("search-team", "a-secret-of-the-search-team")):
        eventually(f"{ak} may call", lambda: ask(signed(endpoint, body, ak, sk)).status_code == 200, 5)
        headers = signed(endpoint, body, ak, sk)
        assert ask(headers).json()["choices"][0]["message"]["content"] == SAID
        again = ask(headers)
        assert (again.status_code, again.json()["error"]["code"]) == (401, "nonce_used")
        for answer in (ask(signed(endpoint, body, ak, sk + "x")), ask(signed(endpoint, body, ak, sk), body + b" ")):
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_signature")
    ok(apig.update_consumer(consumer_id, m.UpdateConsumerRequest(ak_sk_identity_configs=[made])))
    eventually("what is left out is revoked", lambda: ask(signed(endpoint, body, "search-team", "a-secret-of-the-search-team")).status_code == 401, 5)
    assert ask(signed(endpoint, body, made.ak, made.sk)).status_code == 200, "what was read is kept"
