"""What a rerank server says about itself: TEI's ``/info``, and the list of models of OpenAI's API."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rag_rerank.backends.api.exchange import Exchange
from rag_rerank.backends.api.http_transport import HttpResponse
from rag_rerank.backends.api.model_names import is_same_model
from rag_rerank.errors import BackendError
from rag_rerank.execution.clock import now

__all__ = ["ServerInfo", "ServerInfoCache"]

_FRESH_SECONDS = 10.0
"""Seconds after which a server is asked again; loading another model takes longer."""

_FACTS = ("id", "model_id", "model_sha", "root", "max_model_len", "max_input_length", "backend", "revision", "dtype")
_FILE_FACTS = ("n_params", "size", "n_embd", "n_vocab", "vocab_type", "n_ctx_train")
"""Fields of llama.cpp's ``meta``, which tell one file from another."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The facts that a server has given about itself; by default none.

    Args:
        model: Its model, ``"org/name"``, or a folder on the server.
        revision: The model's commit, where the server knows it.
        reranks: Whether its model is a reranker; ``None`` where it does not say.
        most_texts: Texts that it takes in one request.
        window: Tokens of query and text together that its model reads.
        facts: What else tells its model from another, in plain JSON values.
        why_unknown: Why nothing is known, for the trace.
        final: Whether it has answered, so that it is not asked again for a while.
    """

    model: str | None = None
    revision: str | None = None
    reranks: bool | None = None
    most_texts: int | None = None
    window: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)
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
            facts=_plain_facts(info, _FACTS),
        )

    @classmethod
    def read_list(cls, body: Any, model: str) -> ServerInfo | None:
        """Read a list of models in OpenAI's format (vLLM, Infinity, llama.cpp); return ``None`` for anything else.

        Args:
            body: The answer.
            model: The model that requests name, or nothing. Where the server has several and none has that name,
                nothing is known of the one that will answer.
        """
        rows = body.get("data") if isinstance(body, Mapping) else None
        if not isinstance(rows, (list, tuple)):
            return None
        rows = [row for row in rows if isinstance(row, Mapping) and _name(row.get("id"))]
        by_name = [row for row in rows if model and is_same_model(str(row["id"]), model)]
        row = by_name[0] if by_name else rows[0] if len(rows) == 1 else None
        if row is None:
            return cls()
        meta = row.get("meta")
        file_facts = _plain_facts(meta, _FILE_FACTS) if isinstance(meta, Mapping) else {}
        return cls(
            model=_name(row.get("id")),
            revision=_name(row.get("revision")),
            window=_count(row.get("max_model_len")),
            facts={**_plain_facts(row, _FACTS), **file_facts},
        )


class ServerInfoCache:
    """The latest `ServerInfo` of a server, which is asked again when it is ten seconds old or there was no answer."""

    def __init__(self) -> None:
        self.info = ServerInfo(final=False)
        self._read_at = -math.inf

    @property
    def is_fresh(self) -> bool:
        """Whether the server need not be asked now."""
        is_silent = self.info.why_unknown is not None  # it has no such path, and will have none
        return self.info.final and (is_silent or now() < self._read_at + _FRESH_SECONDS)

    def expire(self) -> None:
        """Have the server asked at the next call, because it seems to have changed."""
        self._read_at = -math.inf

    def read(self, exchange: Exchange, response: HttpResponse, model: str, *, as_list: bool) -> None:
        """Note what the server answered.

        Args:
            exchange: The exchange, for errors.
            response: The answer.
            model: The model that the reranker names, or nothing.
            as_list: Whether the answer is a list of models, in which requests choose by name, or TEI's.

        Raises:
            RequestRejected: TEI, whose requests name no model, serves no reranker, or another model.
        """
        body = response.parsed if response.status == 200 else None
        info = ServerInfo.read_list(body, model) if as_list else ServerInfo.read(body)
        if info is None:
            info = ServerInfo(why_unknown=f"answered {response.status}", final=response.status < 500)
        if info.reranks is False:
            raise exchange.wrong_server(f"serves {info.model}, which is no reranker")
        if not as_list and model and info.model and not is_same_model(model, info.model):
            raise exchange.wrong_server(f"serves {info.model}; name that model, or leave model out")
        self.info, self._read_at = info, now()

    def note_failure(self, error: BackendError) -> None:
        """Note that the server gave no answer, which may pass; what it said before still counts."""
        if not self.info.final or self.info.why_unknown is not None:
            self.info = ServerInfo(why_unknown=type(error).__name__, final=False)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _plain_facts(source: Mapping[Any, Any], names: Sequence[str]) -> dict[str, Any]:
    facts = {name: source.get(name) for name in names}
    return {name: value for name, value in facts.items() if isinstance(value, (str, int, float))}
