"""The official anthropic client through the gateway, with the recorder behind."""

import anthropic
import pytest

from answers import SAID
from conftest import COOKIE
from publisher import UPSTREAM_KEY, UPSTREAM_MODEL

VERSION = anthropic.Anthropic(api_key="none").default_headers["anthropic-version"]  # what the client itself says
QUESTION = [{"role": "user", "content": "How is the weather in Hangzhou?"}]
WEATHER = {"name": "get_weather", "description": "d", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}


@pytest.fixture
def client(recorded, publisher):
    clients = []

    def of(**overrides) -> anthropic.Anthropic:
        members = {"api_key": publisher.consumer.key, **overrides}
        clients.append(anthropic.Anthropic(
            base_url=recorded("Text", "Anthropic").url, max_retries=0, timeout=20, default_headers={"Cookie": COOKIE}, **members))
        return clients[-1]

    yield of
    for one in clients:
        one.close()


def expect(got) -> None:
    assert (got.method, got.path) == ("POST", "/v1/messages")
    assert got.header("Authorization") == "Bearer " + UPSTREAM_KEY
    assert got.header("X-Api-Key") is None
    assert got.header("Anthropic-Version") == VERSION
    assert got.json["model"] == UPSTREAM_MODEL


def test_a_message_is_answered_and_only_its_model_rewritten(client, upstream):
    answer = client().messages.create(model="claude-any", max_tokens=50, system="be brief", messages=QUESTION)
    assert (answer.content[0].text, answer.stop_reason, answer.usage.output_tokens) == (SAID, "end_turn", 4)
    got = upstream.only()
    expect(got)
    assert got.json == {"model": UPSTREAM_MODEL, "max_tokens": 50, "system": "be brief", "messages": QUESTION}


def test_a_consumers_key_may_come_as_a_bearer_token(client, publisher, upstream):
    bearer = client(api_key=None, auth_token=publisher.consumer.key)
    assert bearer.messages.create(model="any", max_tokens=50, messages=QUESTION).content[0].text == SAID
    expect(upstream.only())


def test_a_message_streams_each_piece(client, upstream):
    with client().messages.stream(model="any", max_tokens=50, messages=QUESTION) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(pieces) == SAID and len(pieces) == len(SAID.split())
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 4)
    expect(upstream.only())


def test_a_beta_is_asked_for_by_header_and_query(client, upstream):
    answer = client().beta.messages.create(
        model="any", max_tokens=50, messages=QUESTION, betas=["context-1m-2025-08-07"], extra_query={"beta": "true"})
    assert answer.content[0].text == SAID
    got = upstream.only()
    expect(got)
    assert (got.query, got.header("Anthropic-Beta")) == ({"beta": "true"}, "context-1m-2025-08-07")


def test_each_piece_arrives_before_the_upstream_makes_the_next(client, permits):
    permits.release()
    with client().messages.create(model="any", max_tokens=50, messages=QUESTION, stream=True) as stream:
        for event in stream:
            permits.release(2 if event.type == "content_block_start" else 1)  # a ping follows, which the client keeps to itself


def test_a_tool_is_used_and_its_result_answered(client, upstream):
    messages = client().messages
    first = messages.create(model="any", max_tokens=50, messages=QUESTION, tools=[WEATHER])
    assert first.stop_reason == "tool_use"
    (use,) = first.content
    assert (use.name, use.input) == ("get_weather", {"city": "Hangzhou"})
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "rain"}
    told = [*QUESTION, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    assert messages.create(model="any", max_tokens=50, messages=told, tools=[WEATHER]).content[0].text == SAID
    asked, answered = upstream.all()
    assert asked.json["tools"] == [WEATHER]
    assert answered.json["messages"][-1]["content"] == [result]


def test_a_streamed_tool_use_comes_in_pieces(client, upstream):
    with client().messages.stream(model="any", max_tokens=50, messages=QUESTION, tools=[WEATHER]) as stream:
        deltas = [e.partial_json for e in stream if e.type == "input_json"]
        final = stream.get_final_message()
    assert len([delta for delta in deltas if delta]) == 2
    assert final.content[0].input == {"city": "Hangzhou"}
    expect(upstream.only())


def test_a_key_that_is_nobodys_is_refused_in_the_protocols_own_words(client, recorder):
    recorder.forget()
    with pytest.raises(anthropic.AuthenticationError) as raised:
        client(api_key="sk-nobodys").messages.create(model="any", max_tokens=50, messages=QUESTION)
    assert raised.value.body["type"] == "error"
    assert raised.value.body["error"]["type"] == "authentication_error"
    assert not recorder.all()


def test_an_endpoint_that_is_no_default_route_is_not_found(client, recorder):
    recorder.forget()
    with pytest.raises(anthropic.NotFoundError) as raised:
        client().messages.count_tokens(model="any", messages=QUESTION)
    assert raised.value.body["error"]["type"] == "not_found_error"
    assert not recorder.all()
