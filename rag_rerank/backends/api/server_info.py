"""What a rerank server says about itself: TEI's ``/info``; other servers say nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag_rerank.backends.api.exchange import Exchange
from rag_rerank.backends.api.http_transport import HttpResponse
from rag_rerank.backends.api.pricing import pair_tokens
from rag_rerank.errors import BackendError

__all__ = ["ServerInfo", "ServerInfoCache"]


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The facts that a server has given about itself; by default none.

    Args:
        model: Its model, ``"org/name"``, or a folder on the server.
        revision: The model's commit, where the server knows it.
        reranks: Whether its model is a reranker; ``None`` where it does not say.
        most_texts: Texts that it takes in one request.
        window: Tokens of query and text together that its model reads.
        why_unknown: Why nothing is known, for the trace.
        final: Whether the server need not be asked again.
    """

    model: str | None = None
    revision: str | None = None
    reranks: bool | None = None
    most_texts: int | None = None
    window: int | None = None
    why_unknown: str | None = None
    final: bool = True

    @classmethod
    def read(cls, info: Any) -> ServerInfo | None:
        """Read TEI's answer; return ``None`` for anything else.

        The fields are those of the router's source. A request takes a permit for each text, so one with more texts
        than there are permits (``max_concurrent_requests``) could never be answered.
        """
        if not isinstance(info, Mapping):
            return None
        limits = [n for n in map(_count, (info.get("max_client_batch_size"), info.get("max_concurrent_requests"))) if n]
        kinds = info.get("model_type")
        return cls(
            model=_name(info.get("model_id")),
            revision=_name(info.get("model_sha")),
            reranks="reranker" in kinds if isinstance(kinds, (Mapping, str)) else None,
            most_texts=min(limits, default=None),
            window=_count(info.get("max_input_length")),
        )

    def notes(self, query: str, texts: Sequence[str], *, most: int, cuts: bool) -> tuple[str, ...]:
        """Return notes for the trace: that the server is not known, or how many texts seem too long for it.

        Args:
            query: The query.
            texts: The texts.
            most: How many of them go in a request.
            cuts: Whether it cuts what is too long, or refuses it.
        """
        if self.why_unknown is not None:
            unknown = f"the server did not say what it serves (/info: {self.why_unknown})"
            return (f"{unknown}; at most {most} texts go in a request",)
        if self.window is None or not cuts:
            return ()
        longer = sum(tokens > self.window for tokens in pair_tokens(query, texts))
        if not longer:
            return ()
        return (f"by estimate {longer} texts with the query are longer than {self.window} tokens, and TEI cuts them",)


class ServerInfoCache:
    """The latest `ServerInfo` of a server; one that may change is read again at the next call."""

    def __init__(self) -> None:
        self.info = ServerInfo(final=False)

    def read(self, exchange: Exchange, response: HttpResponse, model: str) -> None:
        """Note what the server answered; ``model`` is the one that the reranker names, or nothing.

        Raises:
            RequestRejected: It serves no reranker, or another model.
        """
        info = ServerInfo.read(response.parsed) if response.status == 200 else None
        if info is None:
            info = ServerInfo(why_unknown=f"answered {response.status}", final=response.status < 500)
        if info.reranks is False:
            raise exchange.wrong_server(f"serves {info.model}, which is no reranker")
        if model and info.model and info.model != model:
            raise exchange.wrong_server(f"serves {info.model}; name that model, or leave model out")
        self.info = info

    def note_failure(self, error: BackendError) -> None:
        """Note that the server gave no answer, which may pass."""
        self.info = ServerInfo(why_unknown=type(error).__name__, final=False)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
