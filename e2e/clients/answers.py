"""What the recording upstream answers: for each path of the default routes, an answer that its official client understands."""

import base64
import json
import re
from typing import Any

from aiohttp import web

from recorder import Answer, Received, Stream, Talk, next_frame

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGD4DwABBAEAX+XDSwAAAABJRU5ErkJggg=="
)
MP3 = b"ID3\x04\x00\x00" + bytes(range(256)) * 40
PCM = [bytes([n]) * 3200 for n in range(1, 6)]
SAID = "It rains in Hangzhou."
CREATED = 1772357400
USAGE = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}


def sse(data: Any, event: str = "") -> str:
    return (f"event: {event}\n" if event else "") + f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"


def chat(got: Received) -> dict[str, Any] | Stream:
    asked = got.json
    head = {"id": "chatcmpl-1", "created": CREATED, "model": asked["model"]}
    called = asked.get("tools") and asked["messages"][-1]["role"] != "tool"
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Hangzhou"}'}}
    finish = "tool_calls" if called else "stop"
    if not asked.get("stream"):
        message = {"role": "assistant", "content": None, "tool_calls": [call]} if called else {"role": "assistant", "content": SAID}
        return {**head, "object": "chat.completion", "usage": USAGE,
                "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}]}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
        return sse({**head, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    events = [chunk({"role": "assistant", "content": ""})]
    if called:
        events.append(chunk({"tool_calls": [{"index": 0, **call, "function": {"name": "get_weather", "arguments": ""}}]}))
        events += [chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in ('{"city":', '"Hangzhou"}')]
    else:
        events += [chunk({"content": word}) for word in re.findall(r"\S+\s*", SAID)]
    events.append(chunk({}, finish))
    if (asked.get("stream_options") or {}).get("include_usage"):
        events.append(sse({**head, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}))
    return Stream([*events, sse("[DONE]")])


def completion(got: Received) -> dict[str, Any] | Stream:
    asked = got.json
    head = {"id": "cmpl-1", "object": "text_completion", "created": CREATED, "model": asked["model"]}

    def choice(text: str, finish: str | None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}]}

    if not asked.get("stream"):
        return {**choice(SAID, "stop"), "usage": USAGE}
    return Stream([*(sse(choice(word, None)) for word in re.findall(r"\S+\s*", SAID)), sse(choice("", "stop")), sse("[DONE]")])


def response(got: Received) -> dict[str, Any] | Stream:
    asked = got.json
    text = {"type": "output_text", "text": SAID, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    whole = {
        "id": "resp_1", "object": "response", "created_at": CREATED, "status": "completed", "model": asked["model"], "output": [item],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None, "incomplete_details": None,
        "instructions": None, "metadata": {}, "temperature": 1.0, "top_p": 1.0,
        "usage": {"input_tokens": 5, "output_tokens": 4, "total_tokens": 9, "input_tokens_details": {"cached_tokens": 0},
                  "output_tokens_details": {"reasoning_tokens": 0}},
    }
    if not asked.get("stream"):
        return whole
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**whole, "status": "in_progress", "output": [], "usage": None}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "status": "in_progress", "content": []}},
        {"type": "response.content_part.added", **at, "part": {**text, "text": ""}},
        *({"type": "response.output_text.delta", **at, "delta": word, "logprobs": []} for word in re.findall(r"\S+\s*", SAID)),
        {"type": "response.output_text.done", **at, "text": SAID, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": text},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    return Stream([sse({**event, "sequence_number": n}, event["type"]) for n, event in enumerate(events)])


def message(got: Received) -> dict[str, Any] | Stream:
    asked = got.json
    last = asked["messages"][-1]["content"]
    answered = isinstance(last, list) and any(block["type"] == "tool_result" for block in last)
    called = asked.get("tools") and not answered
    block = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Hangzhou"}} if called else \
        {"type": "text", "text": SAID}
    whole = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "content": [block],
        "stop_reason": "tool_use" if called else "end_turn", "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 4},
    }
    if not asked.get("stream"):
        return whole
    if called:
        start = {**block, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ('{"city":', '"Hangzhou"}')]
    else:
        start = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": word} for word in re.findall(r"\S+\s*", SAID)]
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None, "usage": {"input_tokens": 5, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": start},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": whole["stop_reason"], "stop_sequence": None}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ]
    return Stream([sse(event, event["type"]) for event in events])


def embeddings(got: Received) -> dict[str, Any]:
    asked = got.json
    texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    return {"object": "list", "model": asked["model"], "usage": {"prompt_tokens": 3, "total_tokens": 3},
            "data": [{"object": "embedding", "index": n, "embedding": [0.25, -0.5, float(n)]} for n, _ in enumerate(texts)]}


def images(got: Received) -> dict[str, Any] | Stream:
    if not got.form and got.json.get("stream"):
        picture = {"b64_json": base64.b64encode(PNG).decode(), "created_at": CREATED, "size": "1024x1024", "quality": "low",
                   "background": "opaque", "output_format": "png"}
        events = [{"type": "image_generation.partial_image", "partial_image_index": n, **picture} for n in range(2)]
        events.append({"type": "image_generation.completed", **picture, "usage": {
            "input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "input_tokens_details": {"image_tokens": 0, "text_tokens": 1}}})
        return Stream([sse(event, event["type"]) for event in events])
    return {"created": CREATED, "data": [{"b64_json": base64.b64encode(PNG).decode()}]}


def speech(_: Received) -> web.Response:
    return web.Response(body=MP3, content_type="audio/mpeg")


def rerank(got: Received) -> dict[str, Any]:
    asked = got.json
    order = list(reversed(range(len(asked["documents"]))))
    return {"id": "rerank-1", "model": asked["model"], "usage": {"total_tokens": 9},
            "results": [{"index": n, "document": {"text": asked["documents"][n]}, "relevance_score": 0.9 / (place + 1)}
                        for place, n in enumerate(order)]}


# OpenAI's resources.

def model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "upstream"}


def file(name: str) -> dict[str, Any]:
    return {"id": name, "object": "file", "bytes": 18, "created_at": CREATED, "filename": "batch.jsonl", "purpose": "batch",
            "status": "processed"}


def batch(name: str, status: str = "in_progress") -> dict[str, Any]:
    return {"id": name, "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "file-1", "completion_window": "24h",
            "status": status, "created_at": CREATED}


def job(name: str, status: str = "running") -> dict[str, Any]:
    return {"id": name, "object": "fine_tuning.job", "created_at": CREATED, "model": "gpt-4o-mini", "status": status,
            "training_file": "file-1", "organization_id": "org-1", "result_files": [], "seed": 1, "hyperparameters": {"n_epochs": 1},
            "error": None, "fine_tuned_model": None, "finished_at": None, "trained_tokens": None, "validation_file": None}


def listed(*items: dict[str, Any]) -> dict[str, Any]:
    return {"object": "list", "data": list(items), "has_more": False}


def deleted(name: str, kind: str) -> dict[str, Any]:
    return {"id": name, "object": kind, "deleted": True}


def tuned(got: Received) -> dict[str, Any]:
    return {**job("ftjob-1", "queued"), "model": got.json["model"], "training_file": got.json["training_file"]}


EVENT = {"id": "ftevent-1", "object": "fine_tuning.job.event", "created_at": CREATED, "level": "info", "message": "started"}
CHECKPOINT = {"id": "ftckpt-1", "object": "fine_tuning.job.checkpoint", "created_at": CREATED, "fine_tuning_job_id": "ftjob-1",
              "fine_tuned_model_checkpoint": "ft:gpt-4o-mini:1", "step_number": 1, "metrics": {}}

# Model Studio's.


def task(got: Received) -> dict[str, Any] | web.Response:
    if got.header("X-DashScope-Async") != "enable":
        return web.json_response({"code": "InvalidParameter", "message": "this task is asynchronous only", "request_id": "r-1"}, status=400)
    return {"request_id": "r-1", "output": {"task_id": "task-1", "task_status": "PENDING"}}


def task_state(_: Received) -> dict[str, Any]:
    return {"request_id": "r-2", "usage": {"image_count": 1},
            "output": {"task_id": "task-1", "task_status": "SUCCEEDED", "results": [{"url": "https://example.com/1.png"}],
                       "video_url": "https://example.com/1.mp4"}}


def text_rerank(got: Received) -> dict[str, Any]:
    asked = got.json["input"]
    return {"request_id": "r-1", "usage": {"total_tokens": 9}, "output": {"results": [
        {"index": n, "relevance_score": 0.9 / (place + 1), "document": {"text": asked["documents"][n]}}
        for place, n in enumerate(reversed(range(len(asked["documents"]))))]}}


async def speak(got: Received, socket: web.WebSocketResponse) -> None:
    """Speech synthesis over a WebSocket: run-task, continue-task …, finish-task."""
    while (frame := await next_frame(got, socket)) is not None:
        action, named = frame["header"]["action"], frame["header"]["task_id"]

        async def tell(event: str, payload: dict[str, Any]) -> None:
            await socket.send_json({"header": {"task_id": named, "event": event, "attributes": {}}, "payload": payload})

        if action == "run-task":
            await tell("task-started", {})
            text = frame["payload"]["input"].get("text")
            if frame["header"].get("streaming") == "out" or text:  # all the text came at once
                for audio in PCM:
                    await socket.send_bytes(audio)
                await tell("task-finished", {"output": {"sentence": {"begin_time": 0, "end_time": 500, "words": []}}, "usage": {"characters": 5}})
                return
        elif action == "continue-task":
            for audio in PCM:
                await socket.send_bytes(audio)
            await tell("result-generated", {"output": {}})
        elif action == "finish-task":
            await tell("task-finished", {"output": {}, "usage": {"characters": 5}})
            return


# ComfyUI's.


async def watch(got: Received, socket: web.WebSocketResponse) -> None:
    """ComfyUI's progress: a status at once, then an echo of each frame and a preview image, until the client leaves."""
    await socket.send_json({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": got.query.get("clientId")}})
    while (frame := await next_frame(got, socket)) is not None:
        echo = {"type": "error"} if isinstance(frame, bytes) else {"type": "echo", "data": frame}  # it takes no binary frames
        await socket.send_json(echo)
        await socket.send_bytes(b"\x00\x00\x00\x01\x00\x00\x00\x02" + PNG)


def prompt(got: Received) -> dict[str, Any]:
    return {"prompt_id": "prompt-1", "number": 1, "node_errors": {}, "nodes": sorted(got.json["prompt"])}


AIGC = "/api/v1/services/aigc/"

# Method, path (a whole regular expression), answer.
TABLE: list[tuple[str, str, Answer]] = [
    ("POST", r"(/compatible-mode)?/v1/chat/completions", chat),
    ("POST", r"/v1/completions", completion),
    ("POST", r"/v1/responses", response),
    ("POST", r"(/apps/anthropic)?/v1/messages", message),
    ("POST", r"/v1/embeddings", embeddings),
    ("POST", r"/v1/images/(generations|edits|variations)", images),
    ("POST", r"/v1/audio/speech", speech),
    ("POST", r"/v1/rerank", rerank),
    ("GET", r"/v1/models", lambda _: listed(model("one"), model("two"))),
    ("GET", r"/v1/models/[^/]+", lambda got: model(got.path.rpartition("/")[2])),
    ("DELETE", r"/v1/models/[^/]+", lambda got: deleted(got.path.rpartition("/")[2], "model")),
    ("POST", r"/v1/files", lambda _: file("file-1")),
    ("GET", r"/v1/files", lambda _: listed(file("file-1"), file("file-2"))),
    ("GET", r"/v1/files/file-1", lambda _: file("file-1")),
    ("GET", r"/v1/files/file-1/content", lambda _: web.Response(body=MP3, content_type="application/octet-stream")),
    ("DELETE", r"/v1/files/file-1", lambda _: deleted("file-1", "file")),
    ("POST", r"/v1/batches", lambda _: batch("batch-1", "validating")),
    ("GET", r"/v1/batches", lambda _: listed(batch("batch-1"))),
    ("GET", r"/v1/batches/batch-1", lambda _: batch("batch-1")),
    ("POST", r"/v1/batches/batch-1/cancel", lambda _: batch("batch-1", "cancelling")),
    ("POST", r"/v1/fine_tuning/jobs", tuned),
    ("GET", r"/v1/fine_tuning/jobs", lambda _: listed(job("ftjob-1"))),
    ("GET", r"/v1/fine_tuning/jobs/ftjob-1", lambda _: job("ftjob-1")),
    ("GET", r"/v1/fine_tuning/jobs/ftjob-1/events", lambda _: listed(EVENT)),
    ("GET", r"/v1/fine_tuning/jobs/ftjob-1/checkpoints", lambda _: listed(CHECKPOINT)),
    ("POST", r"/v1/fine_tuning/jobs/ftjob-1/pause", lambda _: job("ftjob-1", "paused")),
    ("POST", r"/v1/fine_tuning/jobs/ftjob-1/resume", lambda _: job("ftjob-1", "running")),
    ("POST", r"/v1/fine_tuning/jobs/ftjob-1/cancel", lambda _: job("ftjob-1", "cancelled")),
    ("POST", AIGC + r"(text2image|image2image)/image-synthesis", task),
    ("POST", AIGC + r"image2image/out-painting", task),
    ("POST", AIGC + r"virtualmodel/generation/?", task),
    ("POST", AIGC + r"background-generation/generation/?", task),
    ("POST", AIGC + r"(video-generation|image2video)/video-synthesis", task),
    ("GET", r"/api/v1/tasks/task-1/?", task_state),
    ("GET", r"/api/v1/tasks/?", lambda _: {"request_id": "r-3", "total": 1, "data": [task_state(_)["output"]]}),
    ("POST", r"/api/v1/tasks/task-1/cancel/?", lambda _: {"request_id": "r-4"}),
    ("POST", r"/api/v1/services/rerank/text-rerank/text-rerank", text_rerank),
    ("POST", r"/prompt", prompt),
    ("GET", r"/prompt", lambda _: {"exec_info": {"queue_remaining": 0}}),
    ("POST", r"/upload/(image|mask)", lambda got: {"name": got.filenames["image"], "subfolder": "", "type": "input"}),
    ("GET", r"/view", lambda _: web.Response(body=PNG, content_type="image/png")),
    ("POST", r"/(interrupt|free)", lambda _: web.Response()),
    ("GET", r"/userdata/[^/]+", lambda _: web.Response(body=b"{}", content_type="application/octet-stream")),
    ("POST", r"/userdata/[^/]+", lambda got: [got.path.rpartition("/")[2]]),
    ("DELETE", r"/userdata/[^/]+", lambda _: web.Response(status=204)),
    ("POST", r"/userdata/[^/]+/move/[^/]+", lambda got: [got.path.rpartition("/")[2]]),
    ("POST", r"/(history|queue|users)", lambda _: {}),
    ("GET", r"/(embeddings|extensions|users|userdata|v2/userdata)", lambda _: []),
    ("GET", r"/(features|models|models/[^/]+|workflow_templates|view_metadata/[^/]+|system_stats|object_info|object_info/[^/]+"
            r"|history|history/[^/]+|queue)", lambda got: {"path": got.path}),
]
TALKS: list[tuple[str, Talk]] = [(r"/api-ws/v1/inference/?", speak), (r"/ws", watch)]


def answer(got: Received) -> Answer | None:
    return next((made for method, path, made in TABLE if method == got.method and re.fullmatch(path, got.path)), None)


def talk(got: Received) -> Talk | None:
    return next((made for path, made in TALKS if re.fullmatch(path, got.path)), None)
