"""Any rag_rerank reranker as a Haystack ranker: documents in, copies of them best first."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict, tracing
from haystack.utils import deserialize_callable, serialize_callable
from rag_rerank import (
    Candidate,
    ConfigError,
    Context,
    Hit,
    Packing,
    Piece,
    Ranking,
    Spec,
    TransientError,
    tagged,
    to_config,
)
from rag_rerank.hosts import (
    HostOptions,
    acall_hooks,
    call_hooks,
    check_instruction_option,
    check_sync_hooks,
    describe_changes,
    finite_score,
    log_remarks,
    make_ids,
    pack_hits,
    parse_text_option,
    resolve_options,
    tag_ids,
    with_text,
)

from haystack_integrations.components.rankers.rag_rerank.documents import CONTENT, read_text, take_documents
from haystack_integrations.components.rankers.rag_rerank.indexer import RagRerankIndexer
from haystack_integrations.components.rankers.rag_rerank.specs import build_reranker, prebuild

__all__ = ["RagRerankRanker"]

logger = logging.getLogger(__name__)

_HOST = {"rag_rerank.host": "haystack"}
"""The tag of each call: records show where it came from."""

_HOOKS = ("on_context", "on_ranking")


@component
class RagRerankRanker:
    r"""A ranker that orders documents by their relevance to the query, with any reranker of rag_rerank.

    It returns copies of the documents with the same id, text, blob, metadata and embeddings. Their ``score`` is that of
    the reranker, and the metadata (a shallow copy) have its scale, because a score means nothing without it. A document
    without a score (no text, or stopped in an early stage of a cascade) comes after all others, with the score
    ``None``. Nothing is left out unless ``top_k`` or ``context`` says so: documents with the same id all stay. A
    document's ``embedding`` goes along, for a ``HostEmbeddingReranker``.

    >>> from haystack import Document
    >>> ranker = RagRerankRanker("embedded", top_k=1)
    >>> texts = ["Lake Garda is 346 m deep.", "K2 is 8,611 m high."]
    >>> answer = ranker.run(query="how tall is K2?", documents=[Document(content=text) for text in texts])
    >>> (best,) = answer["documents"]
    >>> best.content
    'K2 is 8,611 m high.'

    Args:
        reranker: A name (``"embedded"``, ``"cohere:rerank-v3.5"``), a config mapping, the path of a config file, or
            a ``rag_rerank.Reranker``. In a mapping, a key may be a Haystack ``Secret``.
        top_k: How many documents to return; ``None`` for all. With ``context``: how many it chooses from.
        instruction: What relevance means here, in words, for a reranker that follows instructions; ``None`` for the one
            of its config.
        context: Which documents go to the LLM: a ``rag_rerank.Packing``, or a mapping of its options
            (``{"max_tokens": 3000, "tokenizer": "o200k_base", "duplicates": 0.8}``). What is counted and trimmed is
            ``content``. Merged neighbours become a copy of the best one, with the ids of all in the metadata under
            ``merged_ids``. A trimmed document has the first and last character that are left under ``trimmed``; if
            something between them is left out (``"trim": "relevant"``), ``trimmed_parts`` has each part that is left.
        text: What the reranker reads of a document, if not ``content`` alone: a template
            (``"{title}\n{content}"``), or metadata keys to read before it (``["title", "section"]``). A key that a
            document lacks is left out, with the text around it in its line. What is returned does not change.
        scale_key: Metadata key of the scale of the score. ``None`` writes none.
        on_context: Called with the ``rag_rerank.Context`` of each call, which has the documents that were left out,
            with reasons. A coroutine function is awaited, in async calls. As all callbacks of Haystack, it is
            serialised by its name.
        on_ranking: Called with the ``rag_rerank.Ranking`` of each call, which has the trace, usage, coverage and
            degradations. A hit's id is the document's own where no other document of the call has it, else its
            position. Serialised likewise.

    Raises:
        ConfigError: ``reranker`` cannot be built, ``top_k``, ``text``, ``scale_key`` or an option of ``context`` is
            wrong, or there is an instruction and nothing in the reranker takes one.
    """

    def __init__(
        self,
        reranker: Spec,
        *,
        top_k: int | None = None,
        instruction: str | None = None,
        context: Packing | Mapping[str, Any] | None = None,
        text: str | Sequence[str] | None = None,
        scale_key: str | None = "score_scale",
        on_context: Callable[[Context], object] | None = None,
        on_ranking: Callable[[Ranking], object] | None = None,
    ) -> None:
        options = resolve_options({"top_k": top_k, "context": context}, HostOptions, RagRerankRanker)
        self.top_k: int | None = options["top_k"]
        self.context: Packing | None = options["context"]
        self._template = parse_text_option(text, CONTENT)
        self.text = text if text is None or isinstance(text, str) else list(text)
        if scale_key is not None and (not isinstance(scale_key, str) or not scale_key):
            raise ConfigError(f"it must be a metadata key, or None for none, got {scale_key!r:.60}", path="scale_key")
        self.scale_key = scale_key
        self.reranker = build_reranker(reranker)
        check_instruction_option(self.reranker, instruction)
        self.instruction = instruction
        self.on_context = on_context
        self.on_ranking = on_ranking
        self._is_warm = False

    def warm_up(self) -> None:
        """Load now what the first call would load. Pipelines call this before each run; only the first call loads.

        A failure that may pass (a server that is down) is logged and not raised: a fallback or a later try may answer.

        Raises:
            RerankError: It cannot be loaded, and that will not pass.
        """
        if self._is_warm:
            return
        try:
            self.reranker.warm_up()
        except TransientError as error:
            logger.warning("not loaded ahead: %s", error)
        self._is_warm = True

    async def warm_up_async(self) -> None:
        """Do what `warm_up` does without blocking the event loop."""
        await asyncio.to_thread(self.warm_up)

    def close(self) -> None:
        """Release weights and connections. A later call loads them again."""
        self._is_warm = False
        self.reranker.close()

    async def close_async(self) -> None:
        """Do what `close` does without blocking the event loop, and release what belongs to the loop."""
        self._is_warm = False
        await self.reranker.aclose()

    def indexer(self) -> RagRerankIndexer:
        """Return a component for an indexing pipeline that encodes documents ahead, as this ranker reads them.

        Raises:
            ConfigError: Nothing in the reranker keeps vectors; see the type ``late_interaction``.
        """
        return RagRerankIndexer(self.reranker, text=self.text)

    def to_dict(self) -> dict[str, Any]:
        """Return the config of the reranker and the options, for ``from_dict``; never a key.

        A key that came from an environment variable stays a reference to it. Any other key is left out, and the loaded
        component reads the variable of its provider.

        Raises:
            ConfigError: No config can express the reranker (it holds an injected client) or the context (a function).
            SerializationError: A hook is a lambda, a method or a nested function.
        """
        hooks = {name: getattr(self, name) for name in _HOOKS}
        return default_to_dict(
            self,
            reranker=to_config(self.reranker),
            top_k=self.top_k,
            instruction=self.instruction,
            context=None if self.context is None else self.context.to_dict(),
            text=self.text,
            scale_key=self.scale_key,
            **{name: None if hook is None else serialize_callable(hook) for name, hook in hooks.items()},
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "RagRerankRanker":
        """Return the component of a dictionary of `to_dict`.

        Raises:
            ConfigError: The reranker cannot be built, or an option is wrong.
            DeserializationError: It is of another class, or a hook cannot be imported.
        """
        data = prebuild(data)
        parameters = dict(data.get("init_parameters", {}))
        for name in _HOOKS:
            if isinstance(parameters.get(name), str):
                parameters[name] = deserialize_callable(parameters[name])
        return default_from_dict(cls, {**data, "init_parameters": parameters})

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, documents: list[Document], top_k: int | None = None, instruction: str | None = None
    ) -> dict[str, list[Document]]:
        """Order documents by relevance, best first.

        Args:
            query: What the user wants to know; must not be blank.
            documents: The documents; may be any iterable of them.
            top_k: How many documents to return, for this call; ``None`` for the number of the component.
            instruction: What relevance means, for this call; ``None`` for the instruction of the component.

        Returns:
            ``documents``: the documents, best first. No documents give none, without a call to the reranker.

        Raises:
            InputError: The query is blank, something is not a document, or ``top_k`` is below 1.
            ConfigError: There is an instruction and nothing in the reranker takes one, or a hook is a coroutine
                function.
            RerankError: The reranker failed.
        """
        check_sync_hooks(on_ranking=self.on_ranking, on_context=self.on_context)
        call = _Call(self, documents)
        with tagged(**call.tags):
            ranking = self.reranker.rerank(query, call.candidates, **self._options(top_k, instruction))
            context = call.pack(ranking)
        self._report(ranking, context)
        call_hooks(("on_ranking", self.on_ranking, ranking), ("on_context", self.on_context, context))
        return {"documents": call.results(ranking, context)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, documents: list[Document], top_k: int | None = None, instruction: str | None = None
    ) -> dict[str, list[Document]]:
        """Do what `run` does without blocking the event loop.

        Args:
            query: What the user wants to know; must not be blank.
            documents: The documents; may be any iterable of them.
            top_k: How many documents to return, for this call; ``None`` for the number of the component.
            instruction: What relevance means, for this call; ``None`` for the instruction of the component.

        Returns:
            As `run`.
        """
        call = _Call(self, documents)
        with tagged(**call.tags):
            ranking = await self.reranker.arerank(query, call.candidates, **self._options(top_k, instruction))
            context = None if self.context is None else await asyncio.to_thread(call.pack, ranking)
        self._report(ranking, context)
        await acall_hooks(("on_ranking", self.on_ranking, ranking), ("on_context", self.on_context, context))
        return {"documents": call.results(ranking, context)}

    def _options(self, top_k: int | None, instruction: str | None) -> dict[str, Any]:
        """Return the keyword arguments of a call: its own values go before those of the component."""
        return {
            "top_k": self.top_k if top_k is None else top_k,
            "instruction": self.instruction if instruction is None else instruction,
        }

    def _report(self, ranking: Ranking, context: Context | None) -> None:
        """Log what is not as it was asked for, and put the outcome on the span that Haystack made for this call."""
        log_remarks(logger, ranking, context)
        if not tracing.is_tracing_enabled() or (span := tracing.tracer.current_span()) is None:
            return
        tags: dict[str, Any] = {"rag_rerank.reranker": self.reranker.label, "rag_rerank.scale": ranking.scale}
        if ranking.degraded:
            tags["rag_rerank.degraded"] = "; ".join(ranking.degraded)
        usage = ranking.usage.to_dict()
        tags |= {f"rag_rerank.usage.{name}": usage[name] for name in _FIGURES if usage[name] is not None}
        if context is not None:
            tags |= {
                "rag_rerank.context.pieces": len(context.pieces),
                "rag_rerank.context.dropped": len(context.dropped),
            }
        span.set_tags(tags)


_FIGURES = ("texts", "cached", "requests", "tokens", "search_units", "cost")
"""The figures of usage on spans, named as in `rag_rerank.telemetry`."""


class _Call:
    """The documents of one call as they are when it starts, as candidates, and the way back from hits to documents."""

    def __init__(self, ranker: RagRerankRanker, documents: object) -> None:
        # copies of our own: the caller may change the documents while an async call waits
        items = [replace(document, meta=dict(document.meta)) for document in take_documents(documents)]
        own_ids = [document.id for document in items]
        ids = make_ids(own_ids)
        self.tags = {**_HOST, **tag_ids(ids, own_ids)}
        self._packing = ranker.context
        self._scale_key = ranker.scale_key
        self._documents = dict(zip(ids, items, strict=True))
        texts = {id: read_text(ranker._template, document) for id, document in self._documents.items()}
        self._starts = {id: start for id, (_, start) in texts.items()}
        self.candidates = [
            Candidate(id, texts[id][0], finite_score(document.score), document.meta, document.embedding)
            for id, document in self._documents.items()
        ]

    def pack(self, ranking: Ranking) -> Context | None:
        """Pack what the LLM will read, which is each document's content, whatever the reranker read."""
        if self._packing is None:
            return None
        hits = [with_text(hit, self._documents[hit.id].content or "", self._starts[hit.id]) for hit in ranking]
        return pack_hits(self._packing, ranking, hits)

    def results(self, ranking: Ranking, context: Context | None) -> list[Document]:
        """Return the resulting documents."""
        if context is None:
            return [self._document(hit, ranking) for hit in ranking]
        return [self._document(piece.best, ranking, piece) for piece in context.pieces]

    def _document(self, hit: Hit, ranking: Ranking, piece: Piece | None = None) -> Document:
        document = self._documents[hit.id]
        meta = dict(document.meta)
        if self._scale_key is not None:
            meta[self._scale_key] = ranking.scale
        if piece is None:
            return replace(document, score=hit.score, meta=meta)
        meta |= describe_changes(piece, [self._documents[part.id].id for part in piece.hits])
        return replace(document, content=piece.text, score=hit.score, meta=meta)
