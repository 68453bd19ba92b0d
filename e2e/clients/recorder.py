"""An upstream that writes down what it is asked and answers in the protocol of the path."""

import asyncio
import dataclasses
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import BodyPartReader, MultipartReader, WSMsgType, web


@dataclasses.dataclass
class Received:
    """One request as it arrived."""

    method: str
    path: str  # as it was escaped, without the query
    query: dict[str, str]
    headers: list[tuple[str, str]]
    body: bytes = b""
    form: dict[str, bytes] = dataclasses.field(default_factory=dict)
    filenames: dict[str, str] = dataclasses.field(default_factory=dict)
    frames: list[Any] = dataclasses.field(default_factory=list)  # of a WebSocket, as the client sent them

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    def holds(self, text: str) -> bool:
        """Whether the text is anywhere in the request."""
        everything = [self.path, *self.query.values(), *self.form.values(), self.body, *self.frames]
        everything += [part for header in self.headers for part in header]
        return any(text.encode() in (thing if isinstance(thing, bytes) else str(thing).encode()) for thing in everything)


Answer = Callable[[Received], Awaitable[web.StreamResponse] | web.StreamResponse | dict[str, Any] | list[Any]]
Talk = Callable[[Received, web.WebSocketResponse], Awaitable[None]]


class Recorder:
    """Listens on a port of this machine, in a thread of its own."""

    def __init__(self, answer: Callable[[Received], Answer | None], talk: Callable[[Received], Talk | None]) -> None:
        self._answer, self._talk = answer, talk
        self.permits: threading.Semaphore | None = None  # while there is one, each event of a stream takes a permit
        self._lock = threading.Lock()
        self._received: list[Received] = []
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        threading.Thread(target=self._serve, args=(started,), daemon=True).start()
        assert started.wait(10), "the recorder does not listen"

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None)

        async def listen() -> None:
            await self._runner.setup()
            site = web.TCPSite(self._runner, "127.0.0.1", 0)
            await site.start()
            self.port = self._runner.addresses[0][1]

        self._loop.run_until_complete(listen())
        started.set()
        self._loop.run_forever()

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.authority}"

    def all(self) -> list[Received]:
        """Everything since forget."""
        with self._lock:
            return list(self._received)

    def only(self) -> Received:
        received = self.all()
        assert len(received) == 1, f"the upstream got {[(r.method, r.path) for r in received]}"
        return received[0]

    def last(self) -> Received:
        received = self.all()
        assert received, "the upstream got nothing"
        return received[-1]

    def forget(self) -> None:
        with self._lock:
            self._received.clear()

    def stop(self) -> None:
        async def end() -> None:
            await self._runner.cleanup()
            self._loop.stop()

        asyncio.run_coroutine_threadsafe(end(), self._loop)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        got = Received(
            request.method, request.raw_path.partition("?")[0], dict(request.query),
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers],
        )
        talk = self._talk(got)
        if talk is not None and request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._converse(request, got, talk)
        if request.content_type == "multipart/form-data":
            await self._read_form(request, got)
        else:
            got.body = await request.read()
        with self._lock:
            self._received.append(got)
        answer = self._answer(got)
        if answer is None:
            return web.json_response({"error": {"message": f"no answer is written for {got.method} {got.path}"}}, status=404)
        made = answer(got)
        if asyncio.iscoroutine(made):
            made = await made
        if isinstance(made, Stream):
            return await made.send(request, self.permits)
        return made if isinstance(made, web.StreamResponse) else web.json_response(made)

    async def _read_form(self, request: web.Request, got: Received) -> None:
        reader = await request.multipart()
        assert isinstance(reader, MultipartReader)
        async for part in reader:
            assert isinstance(part, BodyPartReader) and part.name
            got.form[part.name] = bytes(await part.read())
            if part.filename:
                got.filenames[part.name] = part.filename

    async def _converse(self, request: web.Request, got: Received, talk: Talk) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        with self._lock:
            self._received.append(got)
        await talk(got, socket)
        await socket.close()
        return socket


@dataclasses.dataclass
class Stream:
    """An event stream; each event is written, and flushed, on its own."""

    events: list[str]

    async def send(self, request: web.Request, permits: threading.Semaphore | None) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        for event in self.events:
            if permits is not None:
                assert await asyncio.to_thread(permits.acquire, timeout=10), "nobody permitted the next event"
            await response.write(event.encode())
        await response.write_eof()
        return response


async def next_frame(got: Received, socket: web.WebSocketResponse) -> Any:
    """The next frame, decoded; None at the end."""
    message = await socket.receive()
    if message.type == WSMsgType.TEXT:
        got.frames.append(json.loads(message.data))
    elif message.type == WSMsgType.BINARY:
        got.frames.append(message.data)
    else:
        return None
    return got.frames[-1]
