"""The official clients over aimock: that the protocols are right is somebody else's opinion there.

aimock takes the key of the service and no other, so every answer proves that the gateway sent it.
"""

import json

import anthropic
import httpx
import openai
import pytest

from conftest import COOKIE
from publisher import UPSTREAM_KEY

HELLO = [{"role": "user", "content": "hello"}]
GREETING = "Good morning from a stand-in."
WEATHER = [{"role": "user", "content": "How is the weather in Hangzhou?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}


@pytest.fixture(scope="session")
def service(publisher, aimock) -> str:
    return publisher.ai_service(aimock.url)


@pytest.fixture(scope="session")
def url(publisher, service):
    published = {}

    def of(category: str, protocol: str) -> str:
        if (category, protocol) not in published:
            published[category, protocol] = publisher.publish(category, protocol, service, model=None).url
        return published[category, protocol]

    return of


@pytest.fixture
def client(url, publisher):
    clients = []

    def of(category: str) -> openai.OpenAI:
        clients.append(openai.OpenAI(
            base_url=url(category, "OpenAI/v1") + "/v1", api_key=publisher.consumer.key, max_retries=0, timeout=20,
            default_headers={"Cookie": COOKIE}))
        return clients[-1]

    yield of
    for one in clients:
        one.close()


@pytest.fixture
def claude(url, publisher):
    with anthropic.Anthropic(base_url=url("Text", "Anthropic"), api_key=publisher.consumer.key, max_retries=0, timeout=20) as client:
        yield client


def test_aimock_takes_no_key_but_the_services(aimock, publisher):
    def asked(key: str) -> int:
        body = {"model": "gpt-4o", "messages": HELLO}
        return httpx.post(aimock.url + "/v1/chat/completions", json=body, headers={"Authorization": "Bearer " + key}).status_code

    assert (asked(publisher.consumer.key), asked(UPSTREAM_KEY)) == (401, 200)


def test_chat_is_answered_whole_and_streamed(client):
    chat = client("Text").chat.completions
    assert chat.create(model="gpt-4o", messages=HELLO).choices[0].message.content == GREETING
    with chat.create(model="gpt-4o", messages=HELLO, stream=True) as stream:
        pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == GREETING and len(pieces) > 1


def test_a_tool_is_called_and_its_result_answered(client):
    chat = client("Text").chat.completions
    first = chat.create(model="gpt-4o", messages=WEATHER, tools=[TOOL]).choices[0]
    (call,) = first.message.tool_calls
    assert (first.finish_reason, json.loads(call.function.arguments)) == ("tool_calls", {"city": "Hangzhou"})
    told = [*WEATHER, first.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    assert chat.create(model="gpt-4o", messages=told, tools=[TOOL]).choices[0].message.content == "It is raining in Hangzhou."


def test_a_response_is_answered_whole_and_streamed(client):
    responses = client("Text").responses
    assert responses.create(model="gpt-4o", input="hello").output_text == GREETING
    with responses.stream(model="gpt-4o", input="hello") as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        assert stream.get_final_response().output_text == GREETING
    assert "".join(deltas) == GREETING


def test_a_text_is_embedded(client):
    made = client("Embedding").embeddings.create(model="text-embedding-3-small", input="a text to embed")
    assert made.data[0].embedding == [0.25, -0.5, 0.75]


def test_a_message_is_answered_whole_and_streamed(claude):
    assert claude.messages.create(model="claude-sonnet-4-5", max_tokens=50, messages=HELLO).content[0].text == GREETING
    with claude.messages.stream(model="claude-sonnet-4-5", max_tokens=50, messages=HELLO) as stream:
        assert "".join(stream.text_stream) == GREETING


def test_a_message_uses_a_tool(claude):
    tool = {"name": "get_weather", "input_schema": SCHEMA}
    with claude.messages.stream(model="claude-sonnet-4-5", max_tokens=50, messages=WEATHER, tools=[tool]) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use"
    assert [block.input for block in final.content if block.type == "tool_use"] == [{"city": "Hangzhou"}]


def test_a_file_comes_back_byte_for_byte_and_is_run_as_a_batch(client):
    others = client("Others")
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gpt-4o", "messages": HELLO}}
    content = (json.dumps(line) + "\n").encode()
    made = others.files.create(file=("batch.jsonl", content), purpose="batch")
    assert made.bytes == len(content)
    assert others.files.content(made.id).read() == content
    assert made.id in [f.id for f in others.files.list()]
    batch = others.batches.create(input_file_id=made.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert others.batches.retrieve(batch.id).input_file_id == made.id
    assert others.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        others.files.retrieve(made.id)
