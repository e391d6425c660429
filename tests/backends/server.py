"""A server on 127.0.0.1 that speaks Cohere's and Voyage's rerank API, and misbehaves as it is told.

>>> with RerankServer() as server:
...     server.then(Answer(503), Answer(429, {"retry-after": "2"}), Drop(), Hang())   # the next four requests
...     CohereReranker(base_url=server.url, api_key="k").rerank(...)
...     assert len(server.received) == 3

Where nothing is scripted it answers correctly: `relevance` of query and text, rows in shuffled order.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import threading
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Rows = list[dict[str, Any]]


def relevance(query: str, text: str) -> float:
    """The score that the server gives: mostly shared words, and a little of the text's checksum."""
    asked, found = set(re.findall(r"\w+", query.casefold())), set(re.findall(r"\w+", text.casefold()))
    return round(0.9 * len(asked & found) / max(1, len(asked)) + 0.1 * zlib.crc32(text.encode()) / 2**32, 6)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer.

    Args:
        status: HTTP status.
        headers: Headers beside content-type and content-length.
        body: A JSON value, or bytes or text as they are; ``None`` for a correct reply.
        rows: Changes the rows of a correct reply.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    rows: Callable[[Rows], Any] = list


@dataclass(frozen=True)
class Hang:
    """No answer, and a closed connection after some seconds, or when the server is reset or ends."""

    seconds: float | None = None


@dataclass(frozen=True)
class Drop:
    """A closed connection, in the middle of a correct answer or before it."""

    midway: bool = False


Action = Answer | Hang | Drop


@dataclass(frozen=True)
class Received:
    """A request, as it arrived; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class RerankServer:
    """The server, as a context manager.

    Attributes:
        url: Where it listens: the ``base_url`` for Cohere; Voyage's is ``voyage_url``.
        received: All requests so far.
        rule: Decides about a request that no script covers; by default a correct answer.
        heard: Set once a request has arrived.
        connections: How many connections were made so far.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.rule: Callable[[Received], Action] = lambda request: Answer()
        self.connections = 0
        self.crashes: list[BaseException] = []
        self.heard = threading.Event()
        self.released = threading.Event()
        self._script: deque[Action] = deque()
        self._lock = threading.Lock()
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.voyage_url = f"{self.url}/v1"

    def then(self, *actions: Action) -> RerankServer:
        """Script what happens to the next requests, in their order."""
        self._script.extend(actions)
        return self

    def reset(self) -> None:
        """Forget all requests, the script and the rule, and let go what hangs."""
        self.released.set()
        self.released = threading.Event()
        self.heard.clear()
        self._script.clear()
        self.received = []
        self.rule = lambda request: Answer()

    def decide(self, request: Received) -> Action:
        """Note a request, and say what is to happen to it."""
        with self._lock:
            self.received.append(request)
            self.heard.set()
            return self._script.popleft() if self._script else self.rule(request)

    def __enter__(self) -> RerankServer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()
        assert not self.crashes, self.crashes


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 64

    def __init__(self, owner: RerankServer) -> None:
        self.owner = owner
        self.open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def hang_up(self) -> None:
        for connection in list(self.open):
            _shut(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        import sys

        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self.owner.crashes.append(error)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write an answer, and no waiting for more: 1 ms instead of 44
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)
        self.server.owner.connections += 1

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Received("POST", self.path, headers, json.loads(raw) if raw else None)
        action = self.server.owner.decide(request)
        if isinstance(action, Hang):
            self.server.owner.released.wait(action.seconds)
        elif isinstance(action, Answer):
            self._answer(action, _content(action, request))
        elif action.midway:
            content = _content(Answer(), request)
            self._answer(Answer(), content[: len(content) // 2], announced=len(content))
        if not isinstance(action, Answer):
            _shut(self.connection)
            self.close_connection = True

    do_GET = do_POST

    def _answer(self, answer: Answer, content: bytes, announced: int | None = None) -> None:
        headers = {"content-type": "application/json", **{k.lower(): v for k, v in answer.headers.items()}}
        (self.send_response_only if "date" in headers else self.send_response)(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content) if announced is None else announced))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()


def _content(answer: Answer, request: Received) -> bytes:
    if isinstance(answer.body, bytes):
        return answer.body
    if isinstance(answer.body, str):
        return answer.body.encode()
    return json.dumps(_reply(request, answer.rows) if answer.body is None else answer.body).encode()


def _reply(request: Received, change: Callable[[Rows], Any]) -> Any:
    query, texts = request.body["query"], request.body["documents"]
    rows: Rows = [{"index": i, "relevance_score": relevance(query, text)} for i, text in enumerate(texts)]
    random.Random(len(texts)).shuffle(rows)
    if request.path.endswith("/v2/rerank"):
        return {
            "id": "r",
            "results": change(rows),
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": _units(texts)}},
        }
    return {
        "object": "list",
        "data": change(rows),
        "model": request.body["model"],
        "usage": {"total_tokens": tokens(query, texts)},
    }


def _units(texts: Sequence[str]) -> int:
    return -(-len(texts) // 100)


def tokens(query: str, texts: Sequence[str]) -> int:
    """What the server bills as tokens: words, the query's once for each text."""
    return sum(len(query.split()) + len(text.split()) for text in texts)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client may have been first
        connection.shutdown(socket.SHUT_RDWR)
