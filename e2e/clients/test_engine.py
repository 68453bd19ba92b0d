"""Model APIs over a model service of our own, whose engine is vllm-sim."""

import openai
import pytest

from conftest import COOKIE, ENGINE_MODEL

QUESTION = [{"role": "user", "content": "What does an engine shed house?"}]


@pytest.fixture(scope="session")
def service(publisher, model_service) -> str:
    return publisher.model_service(model_service)


@pytest.fixture(scope="session")
def text(publisher, service):
    return publisher.publish("Text", "OpenAI/v1", service, model=ENGINE_MODEL)


@pytest.fixture
def client(text, publisher):
    with openai.OpenAI(
        base_url=text.url + "/v1", api_key=publisher.consumer.key, max_retries=0, timeout=20, default_headers={"Cookie": COOKIE},
    ) as client:
        yield client


def test_a_chat_is_answered_by_the_engine_under_the_model_it_serves(client):
    answer = client.chat.completions.create(model="whatever the client calls it", messages=QUESTION)
    assert "simulated" in answer.choices[0].message.content
    assert answer.model == ENGINE_MODEL
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_a_stream_says_what_the_whole_answer_says(client):
    whole = client.chat.completions.create(model="m", messages=QUESTION, temperature=0).choices[0].message.content
    with client.chat.completions.create(model="m", messages=QUESTION, temperature=0, stream=True) as stream:
        pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == whole
    assert len(pieces) > 3


def test_a_stream_tells_its_usage_when_asked(client):
    with client.chat.completions.create(model="m", messages=QUESTION, stream=True, stream_options={"include_usage": True}) as stream:
        *_, last = stream
    assert last.choices == [] and last.usage.total_tokens > 0


def test_a_stream_tells_no_usage_unasked(client):
    with client.chat.completions.create(model="m", messages=QUESTION, stream=True) as stream:
        assert [chunk for chunk in stream if chunk.usage or not chunk.choices] == []


def test_a_legacy_completion_is_answered_whole_and_streamed(client):
    assert client.completions.create(model="m", prompt="Once upon", max_tokens=8).choices[0].text
    with client.completions.create(model="m", prompt="Once upon", max_tokens=8, stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices)


def test_what_the_engine_refuses_is_refused_in_its_own_words(client):
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="m", messages=[])
    assert "messages" in str(raised.value)


def test_the_engines_models_are_listed(publisher, service):
    others = publisher.publish("Others", "OpenAI/v1", service, model=None)
    with openai.OpenAI(base_url=others.url + "/v1", api_key=publisher.consumer.key, max_retries=0) as client:
        assert ENGINE_MODEL in [m.id for m in client.models.list()]


def test_a_model_service_in_use_by_a_service_is_shown_as_its_target(apig, service):
    shown = apig.get_service(service).body.data
    assert (shown.source_type, shown.addresses) == ("ModelService", [])
