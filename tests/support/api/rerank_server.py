"""A server on 127.0.0.1 with every rerank API that we know; it misbehaves as scripted.

>>> with RerankServer() as server:
...     server.then(Answer(503), Answer(429, {"retry-after": "2"}), Drop(), Hang())   # the next four requests
...     CohereReranker(base_url=server.url, api_key="k").rerank(...)
...     HttpReranker(dialect="tei", base_url=server.base("tei")).rerank(...)
...     assert len(server.received) == 4

Without a script it answers correctly: `relevance` of query and text (or its logit), rows in shuffled order.
Scripts and rules are for rerank requests; ``server.info`` is the answer to TEI's ``/info``.
"""

from __future__ import annotations

import contextlib
import copy
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from support.api.scripted_replies import Action, Answer, Drip, Drop, Hang, Received
from support.api.wire_formats import MODELS, TEI_INFO, tokens


class RerankServer:
    """The server, as a context manager.

    Attributes:
        url: Where it listens: the ``base_url`` for Cohere's SDK; Voyage's is ``voyage_url``, a dialect's `base`.
        received: All rerank requests so far.
        info_requests: All other requests so far.
        info: What TEI says about itself, and obeys: the JSON of ``/info``, or another action.
        models: What other services list as their models: JSON or an action, by service; 404 for the others.
        rule: Gives the action for a request that no script covers; by default a correct answer.
        request_arrived: Set once a request has arrived.
        connections: How many connections were made so far.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.rule: Callable[[Received], Action] = lambda request: Answer()
        self.info_requests: list[Received] = []
        self.info: dict[str, Any] | Action = dict(TEI_INFO)
        self.models: dict[str, Any] = copy.deepcopy(dict(MODELS))
        self.connections = 0
        self.in_flight = 0
        self.crashes: list[BaseException] = []
        self.request_arrived = threading.Event()
        self.released = threading.Event()
        self._script: deque[Action] = deque()
        self._lock = threading.Lock()
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.voyage_url = f"{self.url}/v1"

    def base(self, service: str) -> str:
        """Return the ``base_url`` of a dialect."""
        return f"{self.url}/{service}"

    def then(self, *actions: Action) -> RerankServer:
        """Script the actions for the next requests, in their order."""
        self._script.extend(actions)
        return self

    def reset(self) -> None:
        """Forget all requests, the script and the rule, and release requests that hang."""
        self.released.set()
        self.released = threading.Event()
        self.request_arrived.clear()
        self._script.clear()
        self.received, self.info_requests = [], []
        self.info = dict(TEI_INFO)
        self.models = copy.deepcopy(dict(MODELS))
        self.rule = lambda request: Answer()

    @contextlib.contextmanager
    def action_for(self, request: Received) -> Iterator[Action]:
        """Note a request, and give the action for it."""
        if request.method == "GET":
            self.info_requests.append(request)
            info = self.info if request.service == "tei" else self.models.get(request.service, Answer(404))
            yield Answer(body=info) if isinstance(info, dict) else info
            return
        with self._lock:
            self.received.append(request)
            self.request_arrived.set()
            action = self._script.popleft() if self._script else self.rule(request)
            count = len(request.texts)
            over = self._over(request) if action == Answer() else None
            self.in_flight += count
        try:
            yield over or action
        finally:
            with self._lock:
                self.in_flight -= count

    def _over(self, request: Received) -> Answer | None:
        """Refuse what the service would refuse: too many texts, and for TEI too large a body or too few permits."""
        shape, count, most = request.shape, len(request.texts), request.shape.most
        info = self.info if isinstance(self.info, dict) else TEI_INFO
        if request.service == "tei":
            most = info["max_client_batch_size"]
            if int(request.headers["content-length"]) > 2_000_000:
                return Answer(413, {"content-type": "text/plain; charset=utf-8"}, "length limit exceeded")
            if self.in_flight + count > info["max_concurrent_requests"]:
                return Answer(429, body={"error": "Model is overloaded", "error_type": "overloaded"})
        if most is None or count <= most:
            return None
        words = f"batch size {count} > maximum allowed batch size {most}"
        return Answer(shape.too_many, body=shape.error(shape.too_many, words))

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
        self.resets: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def hang_up(self) -> None:
        for connection in list(self.open):
            _shut(connection)

    def shutdown_request(self, request: Any) -> None:
        if request in self.resets:
            self.resets.discard(request)
            self.close_request(request)  # without a goodbye
        else:
            super().shutdown_request(request)

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
        request = Received(self.command, self.path, headers, json.loads(raw) if raw else None)
        with self.server.owner.action_for(request) as action:
            self._act(action, request)

    do_GET = do_POST

    def _act(self, action: Action, request: Received) -> None:
        released = self.server.owner.released
        if isinstance(action, Hang):
            released.wait(action.seconds)
        elif isinstance(action, Answer):
            self._answer(action, request, _content(action, request))
        elif isinstance(action, Drip):
            content = _content(action.answer, request)
            self._answer(action.answer, request, b"", announced=len(content))
            for byte in content:
                released.wait(action.pause)
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
        elif action.midway:
            content = _content(Answer(), request)
            self._answer(Answer(), request, content[: len(content) // 2], announced=len(content))
        if isinstance(action, Drop) and action.reset:
            # with no time to linger, closing sends a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.server.resets.add(self.connection)
        elif not isinstance(action, (Answer, Drip)):
            _shut(self.connection)
        if not isinstance(action, (Answer, Drip)):
            self.close_connection = True

    def _answer(self, answer: Answer, request: Received, content: bytes, announced: int | None = None) -> None:
        headers = {"content-type": "application/json", **{k.lower(): v for k, v in answer.headers.items()}}
        if answer.status == 200 and request.service == "tei" and request.body:
            headers["x-compute-tokens"] = str(tokens(request.shape.query(request.body), request.texts))
        (self.send_response_only if "date" in headers else self.send_response)(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content) if announced is None else announced))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()


def _content(answer: Answer, request: Received) -> bytes:
    body = answer.body
    if body is None:
        body = request.shape.reply(request.body, answer.rows) if request.body else {}
    if isinstance(body, str):
        body = body.encode()
    return answer.content(body if isinstance(body, bytes) else json.dumps(body).encode())


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client may have been first
        connection.shutdown(socket.SHUT_RDWR)
