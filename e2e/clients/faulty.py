"""A service that fails in the way that a request's model names, and answers any other model as the recorder does."""

import json
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable

import answers
from recorder import Received, Stream

# What is sent before the first event with content.
OPENING = {"/v1/chat/completions": 1, "/v1/messages": 3}


class Exchange:
    """One request, and what is answered to it by hand."""

    def __init__(self, connection: socket.socket, got: Received) -> None:
        self._connection = connection
        made = answers.answer(got)(got)
        self.events = made.events if isinstance(made, Stream) else []
        self.document = "" if isinstance(made, Stream) else json.dumps(made)
        self.opening = OPENING[got.path]
        self.error = answers.sse({"error": {"message": "out of memory", "type": "server_error", "param": None, "code": "oom"}}) \
            if got.path == "/v1/chat/completions" else \
            answers.sse({"type": "error", "error": {"type": "overloaded_error", "message": "out of memory"}}, "error")

    def head(self, status: str, kind: str, *headers: str) -> None:
        self.write("\r\n".join([f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close", *headers, "", ""]))

    def write(self, text: str) -> None:
        self._connection.sendall(text.encode())

    def stream(self, *events: str) -> None:
        self.head("200 OK", "text/event-stream")
        self.write("".join(events))

    def whole(self, status: str, kind: str, body: str, *headers: str) -> None:
        self.head(status, kind, f"Content-Length: {len(body.encode())}", *headers)
        self.write(body)

    def half(self) -> None:
        """What precedes the content and a piece of it; of a document, half."""
        if self.events:
            self.head("200 OK", "text/event-stream", "Transfer-Encoding: chunked")
            for event in self.events[:self.opening + 1]:
                self.write(f"{len(event.encode()):x}\r\n{event}\r\n")
        else:
            self.head("200 OK", "application/json", f"Content-Length: {len(self.document.encode())}")
            self.write(self.document[:len(self.document) // 2])
        time.sleep(0.1)  # so that it has been passed on

    def reset(self) -> None:
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()

    def wait(self) -> None:
        """Says nothing until the other end has left."""
        while self._connection.recv(1 << 16):
            pass


def answer(x: Exchange) -> None:
    if x.events:
        x.stream(*x.events)
    else:
        x.whole("200 OK", "application/json", x.document)


def silent(x: Exchange) -> None:
    x.wait()


def broken(x: Exchange) -> None:
    x.reset()


def role(x: Exchange) -> None:
    x.stream(*x.events[:x.opening])
    x.wait()


def busy(x: Exchange) -> None:
    x.whole("429 Too Many Requests", "application/json", json.dumps({
        "type": "error", "error": {"type": "rate_limit_error", "message": "slow down", "code": "rate_limited"}}), "Retry-After: 7")


def html(x: Exchange) -> None:
    x.whole("500 Internal Server Error", "text/html", "<html><h1>Internal Server Error</h1></html>")


def error_first(x: Exchange) -> None:
    x.stream(x.error)


def cut(x: Exchange) -> None:
    x.half()
    x.reset()


def ends(x: Exchange) -> None:
    x.half()
    x.write("0\r\n\r\n")


def idle(x: Exchange) -> None:
    x.half()
    x.wait()


FAULTS: dict[str, Callable[[Exchange], None]] = {
    "silent": silent, "broken": broken, "role": role, "busy": busy, "html": html, "error-first": error_first, "cut": cut, "ends": ends,
    "idle": idle,
}


class Faulty(socketserver.ThreadingTCPServer):
    """Listens on a port of this machine, in threads of its own."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.authority = f"127.0.0.1:{self.server_address[1]}"
        self.url = "http://" + self.authority
        self._refuses = socket.socket()  # bound, and nobody listens: nobody else is given the port
        self._refuses.bind(("127.0.0.1", 0))
        self.refusing_authority = f"127.0.0.1:{self._refuses.getsockname()[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._refuses.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A gateway that leaves is no error here."""


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        method, path, _ = self.rfile.readline().decode().split()
        length = 0
        while (line := self.rfile.readline().strip()):
            name, _, value = line.decode().partition(":")
            if name.lower() == "content-length":
                length = int(value)
        got = Received(method, path, {}, [], self.rfile.read(length))
        FAULTS.get(got.json["model"], answer)(Exchange(self.request, got))
