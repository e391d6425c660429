"""Real requests to a real server, in virtual time: what happens to an attempt is scripted.

Each leaf of a tree has a slot with clients of its own. Their transports let the scripted time pass on the injected
clock, and then forward the request over a socket to the server, which answers as scripted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from support.api.rerank_server import RerankServer
from support.api.scripted_replies import Action, Answer, Drop, Received
from support.api.wire_formats import SHAPES, logit, relevance, tokens
from support.virtual_clock import VirtualClock, VirtualLoop

HTML = "<!doctype html><html><body><h1>Sorry</h1></body></html>"
_HTML = {"content-type": "text/html"}
_DATE = "Wed, 21 Oct 2015 07:28:0{} GMT"

GIVEN_UP = "given up"
"""The kind of an attempt that was cancelled: its outcome is not known."""

SLOTS = 10
"""Leaves in one tree at most."""


@dataclass(frozen=True)
class Fault:
    """What happens to an attempt.

    Args:
        kind: The class of error that the attempt ends in; ``None`` for an answer.
        action: What the server does.
        retry_after: Seconds that the server asks to wait.
        hangs: Whether no answer comes, for as long as the client waits.
        pieces: Pieces in which the answer comes, slowly; 0 for the whole at once.
    """

    kind: str | None = None
    action: Action = field(default_factory=Answer)
    retry_after: float = 0.0
    hangs: bool = False
    pieces: int = 0


def _rows(change: Any) -> Fault:
    return Fault("BadResponse", Answer(rows=change))


def _status(status: int, kind: str, **options: Any) -> Fault:
    return Fault(kind, Answer(status, **options))


FAULTS: Mapping[str, Fault] = {
    "rows shuffled": Fault(None, Answer(rows=lambda rows: rows[::-1])),
    "rows: one missing": _rows(lambda rows: rows[1:]),
    "rows: one doubled": _rows(lambda rows: [*rows, rows[0]]),
    "rows: one too many": _rows(lambda rows: [*rows, {"index": len(rows), "relevance_score": 0.5}]),
    "rows: shifted": _rows(lambda rows: [{**row, "index": row["index"] - 1} for row in rows]),
    "rows: NaN": _rows(lambda rows: [{**row, "relevance_score": float("nan")} for row in rows]),
    "rows: text for a score": _rows(lambda rows: [{**row, "relevance_score": "0.5"} for row in rows]),
    "rows: none": _rows(lambda rows: None),
    "JSON cut": Fault("BadResponse", Answer(content=lambda body: body[:-9])),
    "JSON malformed": Fault("BadResponse", Answer(content=lambda body: body.replace(b":", b";", 3))),
    "a page, 200": Fault("BadResponse", Answer(200, _HTML, HTML)),
    "a page, 502": _status(502, "BackendUnavailable", headers=_HTML, body=HTML),
    "429": _status(429, "RateLimited"),
    "429, seconds": Fault("RateLimited", Answer(429, {"retry-after": "2"}), retry_after=2.0),
    "429, an hour": Fault("RateLimited", Answer(429, {"retry-after": "3600"}), retry_after=3600.0),
    "429, date": Fault(
        "RateLimited", Answer(429, {"retry-after": _DATE.format(4), "date": _DATE.format(1)}), retry_after=3.0
    ),
    "429, milliseconds": Fault("RateLimited", Answer(429, {"retry-after-ms": "1500"}), retry_after=1.5),
    "500": _status(500, "BackendUnavailable"),
    "503": _status(503, "BackendUnavailable"),
    "503, seconds": Fault("BackendUnavailable", Answer(503, {"retry-after": "1"}), retry_after=1.0),
    "dropped before": Fault("BackendUnavailable", Drop()),
    "dropped in mid-body": Fault("BackendUnavailable", Drop(midway=True)),
    "reset before": Fault("BackendUnavailable", Drop(reset=True)),
    "reset in mid-body": Fault("BackendUnavailable", Drop(midway=True, reset=True)),
    "hang": Fault("BackendTimeout", hangs=True),
    "slow drip": Fault(None, pieces=8),
    "400": _status(400, "RequestRejected"),
    "401": _status(401, "AuthenticationError"),
    "402": _status(402, "BillingError"),
    "403": _status(403, "AuthenticationError"),
    "413": _status(413, "RequestTooLarge"),
    "redirect": Fault("RequestRejected", Answer(307, {"location": "ELSEWHERE"}, b"")),
    "echo, 400": _status(400, "RequestRejected", body="ECHO"),
    "echo, 401": _status(401, "AuthenticationError", body="ECHO"),
    "echo, 429": _status(429, "RateLimited", body="ECHO"),
    "echo, 500": _status(500, "BackendUnavailable", body="ECHO"),
}
"""Everything that can happen, by name. An echo repeats the key and the request in its message."""


@dataclass
class Attempt:
    """One request of a leaf, as it left the client.

    Args:
        fault: Name of what happened to it; empty for a correct answer.
        start: When it was sent.
        kind: Class of error that it ends in; ``None`` for an answer.
        texts: How many texts it held.
        words: How many words the provider reads for it.
        end: When the client had the answer, or its failure.
    """

    fault: str
    start: float
    kind: str | None
    texts: int
    words: int
    end: float | None = None


LOGITS = ("infinity", "llamacpp", "nim", "tei")
"""Services that give logits."""


@dataclass
class Slot:
    """What happens to the requests of one leaf: a script of (fault, seconds), and then always the last seconds."""

    number: int
    service: str = ""
    script: Sequence[tuple[str, float]] = ()
    steady: float = 0.0
    log: list[Attempt] = field(default_factory=list)

    def score(self, query: str, text: str) -> float:
        """The score that the server gives for this leaf."""
        return self.salted((logit if self.service in LOGITS else relevance)(query, text))

    def salted(self, value: float) -> float:
        """Turn the server's score into one that differs from those of all other leaves, in another order."""
        return round((value * (1.37 + 0.61 * self.number) + self.number / SLOTS) % 1, 6)


def service_of(kind: str) -> str:
    """Return the service that a kind of leaf calls: by its SDK, or for one text after the other."""
    return kind.removesuffix("-sdk").removesuffix("-pair")


def self_timed(service: str) -> bool:
    """Whether the reranker itself limits the time of an answer that comes in pieces; httpx limits each piece."""
    return service not in ("chat-sdk", "cohere-sdk", "voyage-sdk")


class Wire:
    """The server, the slots with their clients, and the clock that they share."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.loop = VirtualLoop(self.clock)
        self.slots = [Slot(number) for number in range(SLOTS)]
        self.server = RerankServer()
        self.server.models = {}  # the leaves name models of their own
        self.elsewhere = RerankServer()
        self.server.rule = self._decide
        self.clients = [httpx.Client(transport=_Threads(self, slot), timeout=5) for slot in self.slots]
        self.aclients = [httpx.AsyncClient(transport=_Tasks(self, slot), timeout=5) for slot in self.slots]
        self.cases = 0
        self.sdk_clients: dict[tuple[str, int], Any] = {}
        self.one_at_a_time = asyncio.Lock()

    def __enter__(self) -> Wire:
        self.server.__enter__()
        self.elsewhere.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        for client in self.clients:
            client.close()

        async def close() -> None:
            for client in self.aclients:
                await client.aclose()
            await self.loop.shutdown_asyncgens()

        with self.clock.running():
            self.loop.run_until_complete(close())
            self.loop.close()
        self.server.__exit__(None, None, None)
        self.elsewhere.__exit__(None, None, None)

    def begin(self, slot: Slot, request: httpx.Request) -> tuple[Attempt, Fault, float]:
        """Note an attempt, and return what happens to it and how long it takes."""
        name, seconds = slot.script[len(slot.log)] if len(slot.log) < len(slot.script) else ("", slot.steady)
        fault = FAULTS[name] if name else Fault()
        timeout = request.extensions["timeout"]["read"]
        shape, body = SHAPES[service_of(slot.service)], json.loads(request.content)
        texts = shape.texts_of(body)
        words = tokens(shape.query(body), texts)
        attempt = Attempt(name, self.clock.now(), fault.kind, len(texts), words)
        pause = seconds / fault.pieces if fault.pieces else seconds
        reads_too_long = fault.pieces and self_timed(slot.service) and seconds > timeout + 1e-9
        if reads_too_long:  # it reads until its time is up
            attempt.kind = "BackendTimeout"
        elif fault.hangs or pause >= timeout:
            attempt.kind, seconds = "BackendTimeout", timeout
            fault = Fault(hangs=True)
        request.headers["x-slot"] = str(slot.number)
        slot.log.append(attempt)
        return attempt, fault, seconds

    def _decide(self, request: Received) -> Action:
        slot = self.slots[int(request.headers["x-slot"])]
        action = FAULTS.get(slot.log[-1].fault, Fault()).action
        if not isinstance(action, Answer):
            return action
        change, headers, body = action.rows, dict(action.headers), action.body

        def rows(rows: Any) -> Any:
            return change([{**row, "relevance_score": slot.salted(row["relevance_score"])} for row in rows])

        if headers.get("location") == "ELSEWHERE":
            headers["location"] = self.elsewhere.url.replace("127.0.0.1", "localhost") + request.path
        if body == "ECHO":
            key = request.headers.get("authorization") or request.headers.get("api-key")
            words = f"{key}: {json.dumps(request.body, ensure_ascii=False)}"
            body = {"message": words, "detail": words, "error": words}
        return replace(action, headers=headers, body=body, rows=rows)


class _Threads(httpx.BaseTransport):
    def __init__(self, wire: Wire, slot: Slot) -> None:
        self._wire = wire
        self._slot = slot
        self._real = httpx.HTTPTransport(verify=False)  # of this machine, without TLS

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return self._real.handle_request(request)
        clock = self._wire.clock
        attempt, fault, seconds = self._wire.begin(self._slot, request)
        try:
            if fault.hangs or not fault.pieces:
                clock.sleep(seconds)
            if fault.hangs:
                raise httpx.ReadTimeout("no answer", request=request)
            response = self._real.handle_request(request)
            if not fault.pieces:
                return response
            body = b"".join(response.stream)  # type: ignore[arg-type]
            response.close()
            parts = _pieces(body, fault.pieces)

            def send_pieces() -> Iterator[bytes]:
                for piece in parts:
                    clock.sleep(seconds / len(parts))
                    attempt.end = clock.now()
                    yield piece

            return httpx.Response(response.status_code, headers=_plain(response), content=send_pieces())
        finally:
            attempt.end = clock.now()

    def close(self) -> None:
        self._real.close()


class _Tasks(httpx.AsyncBaseTransport):
    def __init__(self, wire: Wire, slot: Slot) -> None:
        self._wire = wire
        self._slot = slot
        self._real = httpx.AsyncHTTPTransport(verify=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        wire = self._wire
        if request.method == "GET":
            async with wire.one_at_a_time:
                with wire.loop.really():
                    response = await self._real.handle_async_request(request)
                    content = b"".join([piece async for piece in response.stream])  # type: ignore[union-attr]
                    await response.aclose()
            return httpx.Response(response.status_code, headers=_plain(response), content=content)
        attempt, fault, seconds = wire.begin(self._slot, request)
        try:
            if fault.hangs or not fault.pieces:
                await asyncio.sleep(seconds)
            if fault.hangs:
                raise httpx.ReadTimeout("no answer", request=request)
            async with wire.one_at_a_time:  # so that no order depends on how fast sockets are
                with wire.loop.really():
                    response = await self._real.handle_async_request(request)
                    try:
                        body = b"".join([piece async for piece in response.stream])  # type: ignore[union-attr]
                    finally:
                        await response.aclose()
            if not fault.pieces:
                return httpx.Response(response.status_code, headers=_plain(response), content=body)
            parts = _pieces(body, fault.pieces)

            async def send_pieces() -> AsyncIterator[bytes]:
                for piece in parts:
                    await asyncio.sleep(seconds / len(parts))
                    attempt.end = wire.clock.now()
                    yield piece

            return httpx.Response(response.status_code, headers=_plain(response), content=send_pieces())
        except asyncio.CancelledError:
            attempt.kind = GIVEN_UP
            raise
        finally:
            attempt.end = wire.clock.now()

    async def aclose(self) -> None:
        await self._real.aclose()


def _pieces(body: bytes, count: int) -> list[bytes]:
    size = max(1, -(-len(body) // count))
    return [body[i : i + size] for i in range(0, len(body), size)] or [b""]


def _plain(response: httpx.Response) -> list[tuple[str, str]]:
    return [(k, v) for k, v in response.headers.items() if k not in ("content-length", "transfer-encoding")]
