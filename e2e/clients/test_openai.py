"""The official openai client through the gateway, on every route it knows, with the recorder behind."""

import json

import httpx
import openai
import pytest

from answers import MP3, PNG, SAID
from conftest import COOKIE
from publisher import UPSTREAM_KEY, UPSTREAM_MODEL
from recorder import Received

WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
QUESTION = [{"role": "user", "content": "How is the weather in Hangzhou?"}]


@pytest.fixture
def client(recorded, publisher):
    """A client of a scenario's API, which carries the consumer's key and a cookie."""
    clients = []

    def of(category: str, **overrides) -> openai.OpenAI:
        members = {"api_key": publisher.consumer.key, "default_headers": {"Cookie": COOKIE}, **overrides}
        clients.append(openai.OpenAI(base_url=recorded(category, "OpenAI/v1").url + "/v1", max_retries=0, timeout=20, **members))
        return clients[-1]

    yield of
    for one in clients:
        one.close()


def expect(got: Received, path: str, method: str = "POST") -> Received:
    assert (got.method, got.path) == (method, path)
    assert got.header("Authorization") == "Bearer " + UPSTREAM_KEY
    return got


# Text.


def test_chat_is_answered_and_only_its_model_rewritten(client, upstream):
    answer = client("Text").chat.completions.create(model="any", messages=QUESTION, temperature=0.5, extra_body={"top_k": 3})
    assert answer.choices[0].message.content == SAID
    assert answer.usage.total_tokens == 9
    got = expect(upstream.only(), "/v1/chat/completions")
    assert got.json == {"model": UPSTREAM_MODEL, "messages": QUESTION, "temperature": 0.5, "top_k": 3}


def test_chat_streams_each_piece(client, upstream):
    with client("Text").chat.completions.create(model="any", messages=QUESTION, stream=True) as stream:
        pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == SAID
    assert len(pieces) == len(SAID.split())
    assert expect(upstream.only(), "/v1/chat/completions").json["model"] == UPSTREAM_MODEL


def test_each_piece_arrives_before_the_upstream_makes_the_next(client, permits):
    permits.release()
    with client("Text").chat.completions.create(model="any", messages=QUESTION, stream=True) as stream:
        for chunk in stream:
            if chunk.choices[0].finish_reason:
                permits.release(9)  # for whatever ends the stream
            permits.release()


def test_a_stream_ends_with_its_usage_when_the_client_asked_for_it(client, upstream):
    with client("Text").chat.completions.create(
        model="any", messages=QUESTION, stream=True, stream_options={"include_usage": True},
    ) as stream:
        *_, last = stream
    assert (last.choices, last.usage.total_tokens) == ([], 9)
    assert upstream.only().json["stream_options"]["include_usage"] is True


def test_a_tool_is_called_and_its_result_answered(client, upstream):
    chat = client("Text").chat.completions
    first = chat.create(model="any", messages=QUESTION, tools=[WEATHER], tool_choice="auto").choices[0]
    assert first.finish_reason == "tool_calls"
    (call,) = first.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Hangzhou"})
    told = [*QUESTION, first.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    assert chat.create(model="any", messages=told, tools=[WEATHER]).choices[0].message.content == SAID
    asked, answered = upstream.all()
    assert asked.json["tools"] == answered.json["tools"] == [WEATHER]
    assert answered.json["messages"][-1] == {"role": "tool", "tool_call_id": "call_1", "content": "rain"}


def test_a_streamed_tool_call_comes_in_pieces(client, upstream):
    arguments = []
    with client("Text").chat.completions.create(model="any", messages=QUESTION, tools=[WEATHER], stream=True) as stream:
        for chunk in stream:
            for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
                arguments.append(call.function.arguments)
    assert len(arguments) == 3
    assert json.loads("".join(arguments)) == {"city": "Hangzhou"}
    expect(upstream.only(), "/v1/chat/completions")


def test_a_legacy_completion_is_answered_whole_and_streamed(client, upstream):
    completions = client("Text").completions
    assert completions.create(model="any", prompt="Once", max_tokens=9).choices[0].text == SAID
    with completions.create(model="any", prompt="Once", stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == SAID
    for got in upstream.all():
        assert expect(got, "/v1/completions").json["model"] == UPSTREAM_MODEL


def test_a_response_is_answered_whole_and_streamed(client, upstream):
    responses = client("Text").responses
    assert responses.create(model="any", input="How is the weather?").output_text == SAID
    with responses.create(model="any", input="How is the weather?", stream=True) as stream:
        events = list(stream)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == SAID
    assert events[-1].type == "response.completed"
    for got in upstream.all():
        assert expect(got, "/v1/responses").json["model"] == UPSTREAM_MODEL


# Embeddings.


def test_texts_are_embedded(client, upstream):
    made = client("Embedding").embeddings.create(model="any", input=["one", "two"], encoding_format="float")
    assert [d.embedding for d in made.data] == [[0.25, -0.5, 0.0], [0.25, -0.5, 1.0]]
    assert expect(upstream.only(), "/v1/embeddings").json == {"model": UPSTREAM_MODEL, "input": ["one", "two"], "encoding_format": "float"}


# Images.


def test_an_image_is_generated(client, upstream):
    assert client("Image").images.generate(model="any", prompt="a shed", size="1024x1024").data[0].b64_json
    assert expect(upstream.only(), "/v1/images/generations").json == {"model": UPSTREAM_MODEL, "prompt": "a shed", "size": "1024x1024"}


def test_an_image_streams_as_it_is_drawn(client, upstream):
    with client("Image").images.generate(model="any", prompt="a shed", stream=True, partial_images=2) as stream:
        assert [event.type for event in stream] == [*["image_generation.partial_image"] * 2, "image_generation.completed"]
    assert expect(upstream.only(), "/v1/images/generations").json["model"] == UPSTREAM_MODEL


def test_an_image_is_edited_by_a_form_whose_model_is_rewritten(client, upstream):
    client("Image").images.edit(model="any", image=("shed.png", PNG, "image/png"), mask=("mask.png", PNG, "image/png"), prompt="paint it red")
    got = expect(upstream.only(), "/v1/images/edits")
    assert got.form == {"model": UPSTREAM_MODEL.encode(), "image": PNG, "mask": PNG, "prompt": b"paint it red"}
    assert got.filenames == {"image": "shed.png", "mask": "mask.png"}


def test_an_image_is_varied_by_a_form_whose_model_is_rewritten(client, upstream):
    client("Image").images.create_variation(model="any", image=("shed.png", PNG, "image/png"), n=1)
    got = expect(upstream.only(), "/v1/images/variations")
    assert got.form == {"model": UPSTREAM_MODEL.encode(), "image": PNG, "n": b"1"}


# Audio.


def test_a_text_is_spoken_whole_and_streamed(client, upstream):
    speech = client("Audio").audio.speech
    assert speech.create(model="any", voice="alloy", input="hello").read() == MP3
    with speech.with_streaming_response.create(model="any", voice="alloy", input="hello") as response:
        assert b"".join(response.iter_bytes()) == MP3
    for got in upstream.all():
        assert expect(got, "/v1/audio/speech").json == {"model": UPSTREAM_MODEL, "voice": "alloy", "input": "hello"}


# Others.


def test_models_are_listed_shown_and_deleted(client, upstream):
    models = client("Others").models
    assert [m.id for m in models.list()] == ["one", "two"]
    assert models.retrieve("one").id == "one"
    assert models.delete("ft:one").deleted
    listed, shown, deleted = upstream.all()
    expect(listed, "/v1/models", "GET")
    expect(shown, "/v1/models/one", "GET")
    assert expect(deleted, deleted.path, "DELETE").path in ("/v1/models/ft:one", "/v1/models/ft%3Aone")


def test_a_file_is_uploaded_listed_read_and_deleted(client, upstream):
    files = client("Others").files
    content = b'{"custom_id":"1"}\n' * 700_000  # 12 MB: larger than any body that has a model may be
    assert files.create(file=("batch.jsonl", content), purpose="batch").id == "file-1"
    assert [f.id for f in files.list(purpose="batch")] == ["file-1", "file-2"]
    assert files.retrieve("file-1").filename == "batch.jsonl"
    assert files.content("file-1").read() == MP3
    assert files.delete("file-1").deleted
    uploaded, listed, shown, read, deleted = upstream.all()
    assert expect(uploaded, "/v1/files").form == {"file": content, "purpose": b"batch"}
    assert uploaded.filenames == {"file": "batch.jsonl"}
    assert expect(listed, "/v1/files", "GET").query == {"purpose": "batch"}
    expect(shown, "/v1/files/file-1", "GET")
    expect(read, "/v1/files/file-1/content", "GET")
    expect(deleted, "/v1/files/file-1", "DELETE")


def test_a_batch_is_started_followed_and_cancelled(client, upstream):
    batches = client("Others").batches
    assert batches.create(input_file_id="file-1", endpoint="/v1/chat/completions", completion_window="24h").status == "validating"
    assert [b.id for b in batches.list(limit=5)] == ["batch-1"]
    assert batches.retrieve("batch-1").status == "in_progress"
    assert batches.cancel("batch-1").status == "cancelling"
    started, listed, shown, cancelled = upstream.all()
    expect(started, "/v1/batches")
    assert expect(listed, "/v1/batches", "GET").query == {"limit": "5"}
    expect(shown, "/v1/batches/batch-1", "GET")
    expect(cancelled, "/v1/batches/batch-1/cancel")


def test_a_fine_tuning_job_is_started_followed_and_cancelled(client, upstream):
    jobs = client("Others").fine_tuning.jobs
    assert jobs.create(model="any", training_file="file-1").model == UPSTREAM_MODEL
    assert [j.id for j in jobs.list()] == ["ftjob-1"]
    assert jobs.retrieve("ftjob-1").status == "running"
    assert [e.message for e in jobs.list_events("ftjob-1")] == ["started"]
    assert [c.id for c in jobs.checkpoints.list("ftjob-1")] == ["ftckpt-1"]
    assert jobs.pause("ftjob-1").status == "paused"
    assert jobs.resume("ftjob-1").status == "running"
    assert jobs.cancel("ftjob-1").status == "cancelled"
    below = "/v1/fine_tuning/jobs"
    assert [(got.method, got.path) for got in upstream.all()] == [
        ("POST", below), ("GET", below), ("GET", below + "/ftjob-1"), ("GET", below + "/ftjob-1/events"),
        ("GET", below + "/ftjob-1/checkpoints"), ("POST", below + "/ftjob-1/pause"), ("POST", below + "/ftjob-1/resume"),
        ("POST", below + "/ftjob-1/cancel"),
    ]


# What is refused, as the client raises it.


def test_a_key_that_is_nobodys_is_refused(client, recorder):
    recorder.forget()
    with pytest.raises(openai.AuthenticationError) as raised:
        client("Text", api_key="sk-nobodys").chat.completions.create(model="any", messages=QUESTION)
    assert (raised.value.code, raised.value.status_code) == ("invalid_api_key", 401)
    assert raised.value.request_id
    assert not recorder.all()


def test_a_consumer_without_a_rule_is_refused(client, recorder, publisher, apig):
    stranger = publisher.new_consumer()
    chat = client("Text", api_key=stranger.key).chat.completions
    recorder.forget()
    with pytest.raises(openai.APIStatusError) as raised:
        chat.create(model="any", messages=QUESTION)
    while raised.value.status_code == 401:  # the gateway does not know the consumer yet
        with pytest.raises(openai.APIStatusError) as raised:
            chat.create(model="any", messages=QUESTION)
    assert isinstance(raised.value, openai.PermissionDeniedError)
    assert raised.value.code == "consumer_not_authorized"
    assert not recorder.all()
    apig.delete_consumer(stranger.consumer_id)


def test_a_route_that_the_api_does_not_have_is_not_found(client, recorder):
    recorder.forget()
    with pytest.raises(openai.NotFoundError) as raised:
        client("Embedding").chat.completions.create(model="any", messages=QUESTION)
    assert raised.value.code == "unknown_url"
    assert not recorder.all()


def test_an_error_of_the_upstream_passes_as_it_is(client, upstream):
    with pytest.raises(openai.NotFoundError) as raised:
        client("Others").files.retrieve("file-9")
    assert "no answer is written for GET /v1/files/file-9" in str(raised.value)
    expect(upstream.only(), "/v1/files/file-9", "GET")


def test_what_the_client_says_of_itself_and_its_account_stays_behind(client, upstream):
    client("Text", organization="org-of-the-consumer", project="proj-of-the-consumer", default_headers={
        "Cookie": COOKIE, "X-Forwarded-For": "203.0.113.7", "X-Api-Key": "a-second-key", "X-Mse-Consumer": "somebody",
    }).chat.completions.create(model="any", messages=QUESTION)
    got = upstream.only()
    for name in ("OpenAI-Organization", "OpenAI-Project", "X-Forwarded-For", "X-Api-Key", "X-Mse-Consumer", "X-Stainless-Os"):
        assert got.header(name) is None, name


def test_several_clients_stream_at_once(recorded, publisher, upstream):
    """The asynchronous client: sixteen streams beside each other, each whole."""
    import asyncio

    async def one(client: openai.AsyncOpenAI) -> str:
        stream = await client.chat.completions.create(model="any", messages=QUESTION, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(
            base_url=recorded("Text", "OpenAI/v1").url + "/v1", api_key=publisher.consumer.key, max_retries=0,
            http_client=httpx.AsyncClient(limits=httpx.Limits(max_connections=16)),
        ) as client:
            return await asyncio.gather(*(one(client) for _ in range(16)))

    assert asyncio.run(all_of_them()) == [SAID] * 16
    assert len(upstream.all()) == 16
