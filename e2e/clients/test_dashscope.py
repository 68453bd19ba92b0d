"""The official dashscope client through the gateway, with the recorder behind."""

import asyncio

import dashscope
import pytest
from dashscope.aigc.image_synthesis import AioImageSynthesis
from dashscope.audio import tts, tts_v2
from dashscope.client.base_api import BaseApi, BaseAsyncApi

from answers import PCM
from conftest import COOKIE
from publisher import UPSTREAM_KEY, UPSTREAM_MODEL
from recorder import Received

AIGC = "/api/v1/services/aigc/"


@pytest.fixture
def api(recorded, publisher, monkeypatch):
    """Points the client, whose settings are its module's, at the API of a scenario."""
    monkeypatch.setattr(dashscope, "api_key", publisher.consumer.key)

    def use(category: str, key: str | None = None) -> None:
        url = recorded(category, "DashScope").url
        monkeypatch.setattr(dashscope, "base_http_api_url", url + "/api/v1")
        monkeypatch.setattr(dashscope, "base_websocket_api_url", url.replace("http:", "ws:") + "/api-ws/v1/inference")
        if key is not None:
            monkeypatch.setattr(dashscope, "api_key", key)

    return use


def expect(got: Received, path: str, method: str = "POST") -> Received:
    assert (got.method, got.path) == (method, path)
    assert got.header("Authorization") == "Bearer " + UPSTREAM_KEY
    return got


def test_an_image_is_synthesized_by_a_task_that_is_followed_and_cancelled(api, upstream):
    api("Image")
    started = dashscope.ImageSynthesis.async_call(model="wanx-v1", prompt="a shed", n=1, headers={"Cookie": COOKIE})
    assert (started.status_code, started.output.task_id, started.output.task_status) == (200, "task-1", "PENDING")
    assert dashscope.ImageSynthesis.fetch(started).output.task_status == "SUCCEEDED"
    done = dashscope.ImageSynthesis.wait(started)
    assert [result.url for result in done.output.results] == ["https://example.com/1.png"]
    assert dashscope.ImageSynthesis.cancel(started).status_code == 200
    assert dashscope.ImageSynthesis.list(page_no=1, page_size=10).output["total"] == 1
    asked, fetched, waited, cancelled, listed = upstream.all()
    assert expect(asked, AIGC + "text2image/image-synthesis").json["model"] == UPSTREAM_MODEL
    assert asked.json["input"] == {"prompt": "a shed"} and asked.json["parameters"] == {"n": 1}
    assert asked.header("X-DashScope-Async") == "enable"
    for got in (fetched, waited):
        expect(got, "/api/v1/tasks/task-1", "GET")
    expect(cancelled, "/api/v1/tasks/task-1/cancel")
    assert expect(listed, "/api/v1/tasks", "GET").query == {"page_no": "1", "page_size": "10"}


def test_a_workspace_of_the_consumers_stays_behind(api, upstream):
    api("Rerank")
    answer = dashscope.TextReRank.call(model="gte-rerank", query="q", documents=["d"], headers={"X-DashScope-WorkSpace": "llm-consumers"})
    assert answer.status_code == 200
    assert upstream.only().header("X-DashScope-WorkSpace") is None


def test_an_image_is_made_from_another(api, upstream):
    api("Image")
    done = dashscope.ImageSynthesis.call(
        model="wanx2.1-imageedit", prompt="in winter", function="description_edit", base_image_url="https://example.com/shed.png")
    assert done.output.task_status == "SUCCEEDED"
    asked, followed = upstream.all()
    assert expect(asked, AIGC + "image2image/image-synthesis").json["input"]["base_image_url"] == "https://example.com/shed.png"
    expect(followed, "/api/v1/tasks/task-1", "GET")


def test_the_asynchronous_client_synthesizes_too(api, upstream):
    api("Image")
    done = asyncio.run(AioImageSynthesis.call(model="wanx-v1", prompt="a shed"))
    assert done.output.task_status == "SUCCEEDED"
    asked, followed = upstream.all()
    expect(asked, AIGC + "text2image/image-synthesis")
    expect(followed, "/api/v1/tasks/task-1/", "GET")  # this half of the client ends its paths so


@pytest.mark.parametrize(("task", "function"), [
    ("image2image", "out-painting"), ("virtualmodel", "generation"), ("virtualmodel", "generation/"), ("background-generation", "generation"),
])
def test_the_other_image_tasks_are_reached(api, upstream, task, function):
    """The client knows them by the words of their path only."""
    api("Image")
    done = BaseAsyncApi.call(
        model="any", input={"image_url": "https://example.com/shed.png"}, task_group="aigc", task=task, function=function)
    assert done.output["task_status"] == "SUCCEEDED"
    assert expect(upstream.all()[0], f"{AIGC}{task}/{function}").json["model"] == UPSTREAM_MODEL


@pytest.mark.parametrize(("model", "task"), [("wan2.2-t2v-plus", "video-generation"), ("wan2.2-kf2v-flash", "image2video")])
def test_a_video_is_synthesized(api, upstream, model, task):
    api("Video")
    done = dashscope.VideoSynthesis.call(model=model, prompt="a shed in the rain", img_url="https://example.com/first.png", duration=5)
    assert done.output.video_url == "https://example.com/1.mp4"
    asked, followed = upstream.all()
    got = expect(asked, f"{AIGC}{task}/video-synthesis").json
    assert (got["model"], got["input"]["prompt"], got["parameters"]["duration"]) == (UPSTREAM_MODEL, "a shed in the rain", 5)
    expect(followed, "/api/v1/tasks/task-1", "GET")


def test_documents_are_reranked(api, upstream):
    api("Rerank")
    answer = dashscope.TextReRank.call(
        model="gte-rerank", query="where is the shed?", documents=["here", "there"], top_n=2, return_documents=True)
    assert [(r["index"], r["document"]["text"]) for r in answer.output.results] == [(1, "there"), (0, "here")]
    got = expect(upstream.only(), "/api/v1/services/rerank/text-rerank/text-rerank").json
    assert got == {
        "model": UPSTREAM_MODEL, "input": {"query": "where is the shed?", "documents": ["here", "there"]},
        "parameters": {"return_documents": True, "top_n": 2},
    }


def expect_socket(got: Received) -> None:
    expect(got, "/api-ws/v1/inference", "GET")
    assert got.header("Upgrade") == "websocket"


def test_a_text_is_spoken_over_a_websocket(api, upstream):
    api("Audio")
    assert tts_v2.SpeechSynthesizer(model="cosyvoice-v2", voice="longxiaochun_v2", headers={"Cookie": COOKIE}).call("hello") == b"".join(PCM)
    got = upstream.only()
    expect_socket(got)
    assert [frame["header"]["action"] for frame in got.frames] == ["run-task", "continue-task", "finish-task"]
    assert got.frames[0]["payload"]["model"] == "cosyvoice-v2", "a WebSocket passes as it is"


def test_the_websockets_path_may_end_in_a_slash_as_documents_show_it(api, upstream):
    api("Audio")
    slashed = dashscope.base_websocket_api_url + "/"
    assert tts_v2.SpeechSynthesizer(model="cosyvoice-v2", voice="longxiaochun_v2", url=slashed).call("hello") == b"".join(PCM)
    expect(upstream.only(), "/api-ws/v1/inference/", "GET")


def test_speech_streams_while_text_is_still_sent(api, upstream):
    api("Audio")
    heard: list[bytes] = []
    done: list[str] = []

    class Callback(tts_v2.ResultCallback):
        def on_data(self, data: bytes) -> None:
            heard.append(data)

        def on_complete(self) -> None:
            done.append("complete")

        def on_error(self, message) -> None:
            done.append(str(message))

    speaker = tts_v2.SpeechSynthesizer(model="cosyvoice-v2", voice="longxiaochun_v2", callback=Callback())
    for text in ("It rains ", "in Hangzhou."):
        speaker.streaming_call(text)
    speaker.streaming_complete()
    assert (heard, done) == (PCM * 2, ["complete"])
    got = upstream.only()
    expect_socket(got)
    assert [frame["payload"]["input"].get("text") for frame in got.frames[1:3]] == ["It rains ", "in Hangzhou."]


def test_the_older_speech_client_is_understood(api, upstream):
    api("Audio")
    assert tts.SpeechSynthesizer.call(model="sambert-zhichu-v1", text="hello").get_audio_data() == b"".join(PCM)
    expect_socket(upstream.only())


def test_a_websocket_without_a_consumers_key_is_refused(api, recorder):
    api("Audio", key="sk-nobodys")
    recorder.forget()
    answer = tts.SpeechSynthesizer.call(model="sambert-zhichu-v1", text="hello")
    assert answer.get_audio_data() is None
    assert not recorder.all()


def test_a_key_that_is_nobodys_is_refused_in_the_protocols_own_words(api, recorder):
    api("Rerank", key="sk-nobodys")
    recorder.forget()
    answer = dashscope.TextReRank.call(model="gte-rerank", query="q", documents=["d"])
    assert (answer.status_code, answer.code) == (401, "InvalidApiKey")
    assert answer.request_id and "key" in answer.message
    assert not recorder.all()


def test_an_error_of_the_upstream_passes_as_it_is(api, upstream):
    api("Image")
    answer = BaseApi.call(
        model="any", input={"prompt": "p"}, task_group="aigc", task="text2image", function="image-synthesis")
    assert (answer.status_code, answer.code, answer.message) == (400, "InvalidParameter", "this task is asynchronous only")
    expect(upstream.only(), AIGC + "text2image/image-synthesis")
