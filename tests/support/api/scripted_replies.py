"""The actions of a scripted server, and a request as it arrived."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from support.api.chat_wire import CHAT
from support.api.wire_formats import SHAPES, Rows, Shape, name_of

SHAPES["chat"] = CHAT


@dataclass(frozen=True)
class Answer:
    """An HTTP answer.

    Args:
        status: HTTP status.
        headers: Headers beside content-type and content-length.
        body: A JSON value, or bytes or text as they are; ``None`` for a correct reply.
        rows: Changes the rows of a correct reply.
        content: Changes the bytes that are sent; the header with their number follows.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    rows: Callable[[Rows], Any] = list
    content: Callable[[bytes], bytes] = bytes


@dataclass(frozen=True)
class Hang:
    """No answer, and a closed connection after some seconds, or when the server is reset or ends."""

    seconds: float | None = None


@dataclass(frozen=True)
class Drop:
    """A closed connection, in the middle of a correct answer or before it; in good order, or reset."""

    midway: bool = False
    reset: bool = False


@dataclass(frozen=True)
class Drip:
    """An answer byte by byte, with so many seconds between them."""

    pause: float
    answer: Answer = field(default_factory=Answer)


Action = Answer | Hang | Drop | Drip


@dataclass(frozen=True)
class Received:
    """A request, as it arrived; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any

    @property
    def service(self) -> str:
        """The service that the request is for."""
        return name_of(self.path)

    @property
    def shape(self) -> Shape:
        """The wire format of that service."""
        return SHAPES[self.service]

    @property
    def texts(self) -> list[str]:
        """The texts to be ranked."""
        return self.shape.texts_of(self.body)
