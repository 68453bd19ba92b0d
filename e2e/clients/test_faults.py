"""What the official clients make of a service that fails: what they raise, and that a fallback shows in nothing."""

import anthropic
import openai
import pytest
from alibabacloud_apig20240327 import models as m

from answers import SAID
from publisher import UPSTREAM_MODEL

QUESTION = [{"role": "user", "content": "How is the weather in Hangzhou?"}]


@pytest.fixture(scope="module")
def api(publisher, recorder, faulty):
    """The API of a protocol over the service that fails, without a fallback or with one to the recorder."""
    failing, refusing = publisher.ai_service(faulty.url), publisher.ai_service("http://" + faulty.refusing_authority)
    good = publisher.ai_service(recorder.url)
    published = {}

    def of(protocol: str, *, fallback: bool = False, refuses: bool = False):
        key = protocol, fallback, refuses
        if key not in published:
            to = m.AiFallbackConfig(only_redirect_upstream_code=False, service_configs=[
                m.AiFallbackConfigServiceConfigs(service_id=good, pass_through_model_name=False, target_model_name=UPSTREAM_MODEL)])
            policies = [m.HttpApiPolicyConfigs(type="AiFallback", enable=True, ai_fallback_config=to)] if fallback else None
            published[key] = publisher.publish(
                "Text", protocol, refusing if refuses else failing, model=None, first_byte_timeout=700, idle_timeout=700,
                policy_configs=policies)
        return published[key]

    return of


@pytest.fixture
def chat(api, publisher):
    """Asks for a chat of a model, by the openai client, and returns its text as far as it came."""
    clients = []

    def ask(model: str, *, stream: bool, **which: bool) -> str:
        client = openai.OpenAI(base_url=api("OpenAI/v1", **which).url + "/v1", api_key=publisher.consumer.key, max_retries=0, timeout=20)
        clients.append(client)
        if not stream:
            return client.chat.completions.create(model=model, messages=QUESTION).choices[0].message.content
        ask.came = ""
        with client.chat.completions.create(model=model, messages=QUESTION, stream=True) as chunks:
            for chunk in chunks:
                ask.came += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        return ask.came

    yield ask
    for client in clients:
        client.close()


@pytest.fixture
def message(api, publisher):
    """Asks for a message of a model, by the anthropic client, and returns its text as far as it came."""
    clients = []

    def ask(model: str, *, stream: bool, **which: bool) -> str:
        client = anthropic.Anthropic(base_url=api("Anthropic", **which).url, api_key=publisher.consumer.key, max_retries=0, timeout=20)
        clients.append(client)
        if not stream:
            return client.messages.create(model=model, max_tokens=50, messages=QUESTION).content[0].text
        ask.came = ""
        with client.messages.create(model=model, max_tokens=50, messages=QUESTION, stream=True) as events:
            for event in events:
                ask.came += event.delta.text if event.type == "content_block_delta" else ""
        return ask.came

    yield ask
    for client in clients:
        client.close()


# The gateway's own refusals, and errors of the service.


@pytest.mark.parametrize(("model", "stream", "status", "code"), [
    ("silent", True, 504, "first_content_timeout"), ("role", True, 504, "first_content_timeout"),
    ("broken", True, 502, "engine_failed"), ("broken", False, 502, "engine_failed"),
])
def test_a_failure_before_the_content_is_an_error_with_its_code(chat, model, stream, status, code):
    with pytest.raises(openai.InternalServerError) as raised:
        chat(model, stream=stream)
    assert (raised.value.status_code, raised.value.code) == (status, code)
    assert raised.value.request_id


@pytest.mark.parametrize(("model", "stream", "status", "kind"), [
    ("silent", True, 504, "timeout_error"), ("role", True, 504, "timeout_error"),
    ("broken", True, 502, "api_error"), ("broken", False, 502, "api_error"),
])
def test_a_failure_before_a_messages_content_is_an_error_with_its_type(message, model, stream, status, kind):
    with pytest.raises(anthropic.InternalServerError) as raised:
        message(model, stream=stream)
    assert raised.value.status_code == status
    assert (raised.value.body["type"], raised.value.body["error"]["type"]) == ("error", kind)


@pytest.mark.parametrize("stream", [True, False])
def test_a_service_that_refuses_is_unavailable_and_may_be_asked_again(chat, message, stream):
    with pytest.raises(openai.InternalServerError) as raised:
        chat("any", stream=stream, refuses=True)
    assert (raised.value.status_code, raised.value.code) == (503, "upstream_unreachable")
    assert raised.value.response.headers["Retry-After"] == "1"
    with pytest.raises(anthropic.InternalServerError) as raised:
        message("any", stream=stream, refuses=True)
    assert (raised.value.status_code, raised.value.body["error"]["type"]) == (503, "overloaded_error")


@pytest.mark.parametrize("stream", [True, False])
def test_a_service_that_is_busy_says_itself_when_to_come_back(chat, message, stream):
    with pytest.raises(openai.RateLimitError) as raised:
        chat("busy", stream=stream)
    assert (raised.value.code, raised.value.response.headers["Retry-After"]) == ("rate_limited", "7")
    with pytest.raises(anthropic.RateLimitError) as raised:
        message("busy", stream=stream)
    assert raised.value.response.headers["Retry-After"] == "7"


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_that_is_a_page_is_an_error(chat, message, stream):
    with pytest.raises(openai.InternalServerError) as raised:
        chat("html", stream=stream)
    assert (raised.value.status_code, raised.value.response.headers["Content-Type"]) == (500, "text/html")
    with pytest.raises(anthropic.InternalServerError) as raised:
        message("html", stream=stream)
    assert (raised.value.status_code, raised.value.response.headers["Content-Type"]) == (500, "text/html")


# Streams that have begun.


@pytest.mark.parametrize(("model", "code"), [("cut", "upstream_cut"), ("ends", "upstream_cut"), ("idle", "upstream_idle_timeout")])
def test_a_chat_that_breaks_off_is_no_whole_one(chat, model, code):
    with pytest.raises(openai.APIError) as raised:
        chat(model, stream=True)
    assert type(raised.value) is openai.APIError  # neither a status, nor a connection that broke, nor the client's own timeout
    assert raised.value.code == code
    assert "Send the request again" in raised.value.message
    assert chat.came and SAID.startswith(chat.came) and chat.came != SAID


@pytest.mark.parametrize(("model", "kind"), [("cut", "api_error"), ("ends", "api_error"), ("idle", "timeout_error")])
def test_a_message_that_breaks_off_is_no_whole_one(message, model, kind):
    with pytest.raises(anthropic.APIStatusError) as raised:
        message(model, stream=True)
    assert (raised.value.body["type"], raised.value.body["error"]["type"]) == ("error", kind)
    assert "Send the request again" in raised.value.body["error"]["message"]
    assert message.came and SAID.startswith(message.came) and message.came != SAID


def test_an_error_that_the_service_sends_as_an_event_passes(chat, message):
    with pytest.raises(openai.APIError, match="out of memory") as raised:
        chat("error-first", stream=True)
    assert (type(raised.value), raised.value.code) == (openai.APIError, "oom")
    with pytest.raises(anthropic.APIStatusError, match="out of memory"):
        message("error-first", stream=True)


def test_an_answer_in_one_piece_that_breaks_off_is_a_broken_connection(chat, message):
    with pytest.raises(openai.APIConnectionError) as raised:
        chat("cut", stream=False)
    assert not isinstance(raised.value, openai.APITimeoutError)
    with pytest.raises(anthropic.APIConnectionError) as raised:
        message("cut", stream=False)
    assert not isinstance(raised.value, anthropic.APITimeoutError)


# With a fallback.


STREAMED = ["silent", "role", "broken", "busy", "html", "error-first", "refuses"]
WHOLE = ["broken", "busy", "html", "cut", "idle", "refuses"]


@pytest.mark.parametrize(("stream", "model"), [*((True, model) for model in STREAMED), *((False, model) for model in WHOLE)])
@pytest.mark.parametrize("client", ["chat", "message"])
def test_a_fallback_shows_in_nothing(request, recorder, client, model, stream):
    ask = request.getfixturevalue(client)
    refuses = model == "refuses"
    recorder.forget()
    if not refuses:
        assert ask("fine", stream=stream, fallback=True) == SAID  # a service that fails again and again would not be asked first
        assert not recorder.all()
    assert ask(model, stream=stream, fallback=True, refuses=refuses) == SAID
    assert recorder.only().json["model"] == UPSTREAM_MODEL
