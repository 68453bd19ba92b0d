"""ComfyUI through the gateway, as its own page talks to it: plain HTTP and one WebSocket."""

import json

import httpx
import pytest
import websockets
from websockets.sync.client import connect

from answers import PNG
from conftest import COOKIE
from publisher import UPSTREAM_KEY
from routes import DEFAULT_ROUTES


@pytest.fixture
def api(recorded):
    return recorded("Image", "ComfyUI")


@pytest.fixture
def client(api, publisher):
    with httpx.Client(base_url=api.url, headers={"Authorization": "Bearer " + publisher.consumer.key, "Cookie": COOKIE}) as client:
        yield client


def test_a_workflow_is_queued(client, upstream):
    workflow = {"3": {"class_type": "KSampler", "inputs": {"seed": 8, "model": ["4", 0]}}, "4": {"class_type": "CheckpointLoaderSimple"}}
    queued = client.post("/prompt", json={"prompt": workflow, "client_id": "c-1"})
    assert queued.json() == {"prompt_id": "prompt-1", "number": 1, "node_errors": {}, "nodes": ["3", "4"]}
    assert client.get("/prompt").json() == {"exec_info": {"queue_remaining": 0}}
    sent, asked = upstream.all()
    assert (sent.method, sent.path, sent.json) == ("POST", "/prompt", {"prompt": workflow, "client_id": "c-1"})
    assert (asked.method, asked.path) == ("GET", "/prompt")


def test_progress_comes_over_a_websocket_in_both_directions(api, publisher, upstream):
    with connect(
        api.url.replace("http:", "ws:") + "/ws?clientId=c-1",
        additional_headers={"Authorization": "Bearer " + publisher.consumer.key, "Cookie": COOKIE},
    ) as socket:
        assert json.loads(socket.recv(5))["data"]["sid"] == "c-1"
        for n in range(3):
            socket.send(json.dumps({"type": "feature_flags", "n": n}))
            assert json.loads(socket.recv(5)) == {"type": "echo", "data": {"type": "feature_flags", "n": n}}
            assert socket.recv(5).endswith(PNG)
        socket.send(b"\x00" * 200_000)
        assert json.loads(socket.recv(5))["type"] == "error"
        socket.recv(5)
    got = upstream.only()
    assert (got.method, got.path, got.query) == ("GET", "/ws", {"clientId": "c-1"})
    assert got.header("Authorization") == "Bearer " + UPSTREAM_KEY


def test_a_websocket_without_a_key_is_refused(api, recorder):
    recorder.forget()
    with pytest.raises(websockets.InvalidStatus) as raised:
        connect(api.url.replace("http:", "ws:") + "/ws?clientId=c-1")
    assert raised.value.response.status_code == 401
    assert not recorder.all()


def test_an_image_is_uploaded_and_viewed(client, upstream):
    for what in ("image", "mask"):
        answer = client.post("/upload/" + what, files={"image": ("shed.png", PNG, "image/png")}, data={"overwrite": "true"})
        assert answer.json()["name"] == "shed.png"
    assert client.get("/view", params={"filename": "a b&c.png", "type": "output"}).content == PNG
    image, mask, viewed = upstream.all()
    assert (image.path, mask.path) == ("/upload/image", "/upload/mask")
    assert image.form == mask.form == {"image": PNG, "overwrite": b"true"}
    assert viewed.query == {"filename": "a b&c.png", "type": "output"}


def test_a_files_name_with_a_slash_stays_one_segment(client, upstream):
    assert client.post("/userdata/workflows%2Fmine.json", content=b"{}").json() == ["workflows%2Fmine.json"]
    assert client.get("/userdata/workflows%2Fmine.json").content == b"{}"
    assert client.post("/userdata/workflows%2Fmine.json/move/workflows%2Fyours.json").json() == ["workflows%2Fyours.json"]
    assert client.delete("/userdata/workflows%2Fyours.json").status_code == 204
    assert [got.path for got in upstream.all()] == [
        "/userdata/workflows%2Fmine.json", "/userdata/workflows%2Fmine.json",
        "/userdata/workflows%2Fmine.json/move/workflows%2Fyours.json", "/userdata/workflows%2Fyours.json",
    ]


ASKED = [
    (method, route.path.replace("{", "a-").replace("}", ""))
    for route in DEFAULT_ROUTES["Image", "ComfyUI"] for method in route.methods if route.path != "/ws" and not route.path.startswith("/upload")
]


@pytest.mark.parametrize(("method", "path"), ASKED)
def test_each_route_arrives_at_its_own_path(client, upstream, method, path):
    body = {"json": {"prompt": {}}} if method == "POST" else {}
    assert client.request(method, path, **body).is_success
    got = upstream.only()
    assert (got.method, got.path) == (method, path)


def test_what_is_no_route_is_not_found_and_a_wrong_method_is_named(client, recorder):
    recorder.forget()
    assert client.get("/manager/reboot").status_code == 404
    refused = client.put("/prompt", json={})
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, POST")
    assert not recorder.all()
