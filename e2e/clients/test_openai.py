"""The official openai client, through the gateway."""

import openai
import pytest

from answers import SAID
from conftest import COOKIE
from publisher import UPSTREAM_KEY, UPSTREAM_MODEL

WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
QUESTION = [{"role": "user", "content": "How is the weather in Hangzhou?"}]


@pytest.fixture
def client(recorded, publisher):
    """A client of the API with a scenario, which carries the consumer's key and a cookie."""
    clients = []

    def of(category: str, **overrides) -> openai.OpenAI:
        clients.append(openai.OpenAI(
            base_url=recorded(category, "OpenAI/v1").url + "/v1", max_retries=0, timeout=20,
            **{"api_key": publisher.consumer.key, "default_headers": {"Cookie": COOKIE}, **overrides}))
        return clients[-1]

    yield of
    for one in clients:
        one.close()


def expect_json(got, path: str, model: str | None = UPSTREAM_MODEL, method: str = "POST") -> None:
    assert (got.method, got.path) == (method, path)
    assert got.header("Authorization") == "Bearer " + UPSTREAM_KEY
    if model is not None:
        assert got.json["model"] == model


def test_chat_is_answered_and_its_model_rewritten(client, upstream):
    answer = client("Text").chat.completions.create(model="any", messages=QUESTION, temperature=0.5)
    assert answer.choices[0].message.content == SAID
    assert answer.usage.total_tokens == 9
    got = upstream.only()
    expect_json(got, "/v1/chat/completions")
    assert got.json == {"model": UPSTREAM_MODEL, "messages": QUESTION, "temperature": 0.5}


def test_chat_streams_each_piece(client, upstream):
    with client("Text").chat.completions.create(model="any", messages=QUESTION, stream=True) as stream:
        pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == SAID
    assert len(pieces) == len(SAID.split())
    expect_json(upstream.only(), "/v1/chat/completions")
