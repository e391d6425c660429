"""Vectors that the host already has: those of the candidates, and its embedding object for the query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from rag_rerank._checks import one_of
from rag_rerank.backends.local.embedding.engine import checked_prompt
from rag_rerank.base import PointwiseReranker
from rag_rerank.errors import (
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    BadResponse,
    ConfigError,
    InputError,
    RateLimited,
)
from rag_rerank.execution.deadline import arun_in_thread
from rag_rerank.trace import Usage
from rag_rerank.types import Candidate, Scale, Scores

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = ["HostEmbeddingReranker"]

_METHODS = {
    "langchain": ("embed_query", "embed_documents", "aembed_query", "aembed_documents"),
    "llama_index": (
        *("get_query_embedding", "get_text_embedding_batch"),
        *("aget_query_embedding", "aget_text_embedding_batch"),
    ),
}
"""Whose embedding object has which methods: for a query, for texts, and both for an event loop."""


@dataclass(frozen=True, kw_only=True)
class HostEmbeddingReranker(PointwiseReranker):
    """The similarity of vectors that you already have: each candidate's own, and the query's from your object.

    No model is loaded. A candidate that has a ``vector`` scores by it. Texts of candidates without one are embedded by
    the same object in one call, and a note in the trace says how many. The vectors must come from the model of the
    embedding object: nothing here can tell a vector of another model that has the same length.

    ``score`` and ``raw_score`` are the cosine, or the dot product. No config can name an embedding object, so this
    class is made in Python alone. For a model of your own, see the type ``embedding``.

    >>> from rag_rerank import Candidate
    >>> vectors = {"how high is K2?": [1.0, 0.0]}
    >>> reranker = HostEmbeddingReranker(embedder=lambda texts: [vectors[text] for text in texts])
    >>> candidates = [Candidate("a", "Garda", vector=[0.0, 1.0]), Candidate("b", "K2", vector=[0.8, 0.6])]
    >>> reranker.rerank("how high is K2?", candidates)[0].id
    'b'

    Args:
        embedder: What embeds the query, and texts without a vector: an ``Embeddings`` of LangChain, a ``BaseEmbedding``
            of LlamaIndex, or a function that takes a list of texts and returns as many vectors.
        model: The name of its model, for traces. By default the one that the object names, or its class.
        similarity: What is computed of two vectors.

            - ``"cosine"``: The cosine of their angle. This is the default.
            - ``"dot"``: Their dot product.
        query_prompt: What goes before the query, for an object that adds nothing itself, such as ``"query: "``.
        text_prompt: What goes before a text that is embedded, likewise.

    Raises:
        ConfigError: The object has the methods of neither host and is no function, or a value is not allowed.
        InputError: A candidate's vector has another length than the query's, or holds something that is not a finite
            number; the message names the candidate.
        BadResponse: The object returned something else than a vector of finite numbers for each text.
        BackendError: The object raised an error.
    """

    kind: ClassVar[str] = "host_embedding"

    embedder: Any = field(repr=False, compare=False, metadata={"live": True})
    model: str = ""
    similarity: Literal["cosine", "dot"] = "cosine"
    query_prompt: str = ""
    text_prompt: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.similarity, get_args(Literal["cosine", "dot"]), "similarity")
        for name in ("query_prompt", "text_prompt"):
            checked_prompt(getattr(self, name), name)
        if _host_of(self.embedder) is None and not callable(self.embedder):
            raise ConfigError(
                "expected an Embeddings of LangChain, a BaseEmbedding of LlamaIndex, or a function from texts to "
                f"vectors, got {type(self.embedder).__name__}",
                path="embedder",
            )
        if not self.model:
            object.__setattr__(self, "model", _name_of(self.embedder))

    @property
    def scale(self) -> Scale:
        """Similarity: a cosine or a dot product."""
        return "similarity"

    @property
    def why_not_cacheable(self) -> str:
        """A candidate's own vector decides its score, and a cache knows its text alone."""
        return "a candidate's score comes from its own vector, and not from its text alone"

    def _identity_facts(self) -> Mapping[str, Any]:
        return {"embedder": f"{type(self.embedder).__module__}.{type(self.embedder).__qualname__}"}

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Score texts that have no vectors of their own."""
        return self.score_candidates(query, texts, ())

    def score_candidates(self, query: str, texts: Sequence[str], candidates: Sequence[Candidate]) -> Scores:
        """Score each text by its candidate's vector, or else by one that is made now.

        Args:
            query: The query.
            texts: The texts.
            candidates: The candidate of each text; empty where there are only texts.
        """
        own = _own_vectors(candidates, len(texts))
        missing = [text for text, vector in zip(texts, own, strict=True) if vector is None]
        query_vector = self._embed(partial(self._embed_query, query), 1)[0]
        new = self._embed(partial(self._embed_texts, missing), len(missing)) if missing else []
        return self._scores(query_vector, candidates, own, new)

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        """Do what `score` does without blocking the event loop."""
        return await self.ascore_candidates(query, texts, ())

    async def ascore_candidates(self, query: str, texts: Sequence[str], candidates: Sequence[Candidate]) -> Scores:
        """Do what `score_candidates` does by the object's methods for event loops; a function runs on a thread."""
        host = _host_of(self.embedder)
        if host is None:
            return await arun_in_thread(partial(self.score_candidates, query, texts, candidates))
        _, _, of_query, of_texts = (getattr(self.embedder, name) for name in _METHODS[host])
        own = _own_vectors(candidates, len(texts))
        missing = [self.text_prompt + text for text, vector in zip(texts, own, strict=True) if vector is None]
        try:
            query_vector = await of_query(self.query_prompt + query)
            answer = await of_texts(missing) if missing else []
        except Exception as error:  # an object of the user may raise anything
            raise self._error(error) from error
        (query_vector,) = self._check_vectors([query_vector], 1)
        return self._scores(query_vector, candidates, own, self._check_vectors(answer, len(missing)))

    def _embed_query(self, query: str) -> Any:
        host = _host_of(self.embedder)
        if host is None:
            return self.embedder([self.query_prompt + query])
        return [getattr(self.embedder, _METHODS[host][0])(self.query_prompt + query)]

    def _embed_texts(self, texts: Sequence[str]) -> Any:
        host = _host_of(self.embedder)
        embed = self.embedder if host is None else getattr(self.embedder, _METHODS[host][1])
        return embed([self.text_prompt + text for text in texts])

    def _embed(self, ask: Callable[[], Any], expected: int) -> list[Floats]:
        """Return the vectors that the object gives.

        Raises:
            BackendError: It raised an error, or gave something else.
        """
        try:
            answer = ask()
        except Exception as error:  # an object of the user may raise anything
            raise self._error(error) from error
        return self._check_vectors(answer, expected)

    def _check_vectors(self, answer: Any, expected: int) -> list[Floats]:
        """Return the vectors of an answer.

        Raises:
            BadResponse: It is not a vector of finite numbers for each text.
        """
        try:
            count = len(answer)
        except TypeError:
            raise self._bad_response(f"gave {type(answer).__name__} instead of vectors") from None
        if count != expected:
            raise self._bad_response(f"gave {count} vectors for {expected} texts")
        vectors = []
        for place, vector in enumerate(answer):
            numbers, problem = _read_vector(vector)
            if numbers is None:
                raise self._bad_response(f"gave a vector {place} that {problem}")
            vectors.append(numbers)
        return vectors

    def _scores(
        self, query: Floats, candidates: Sequence[Candidate], own: Sequence[Floats | None], new: Sequence[Floats]
    ) -> Scores:
        """Return the similarity of each text's vector, in the order of the texts."""
        import numpy as np

        new_vectors, vectors = iter(new), []
        for place, vector in enumerate(own):
            numbers = next(new_vectors) if vector is None else vector
            if len(numbers) != len(query):
                lengths = f"{len(numbers)} numbers, and that of the query {len(query)}"
                if vector is None:
                    raise self._bad_response(f"gave a vector of {lengths}")
                raise InputError(
                    f"candidate {candidates[place].id!r}: its vector has {lengths}; embed both with the same model"
                )
            vectors.append(numbers)
        table = np.stack(vectors)
        values = table @ query
        if self.similarity == "cosine":
            values /= np.maximum(np.linalg.norm(table, axis=1) * np.linalg.norm(query), np.finfo(np.float64).tiny)
        notes: tuple[str, ...] = ()
        if candidates and new:
            notes = (f"{len(new)} of {len(own)} texts had no vector of their own, and were embedded now",)
        return Scores(values.tolist(), self.scale, Usage(texts=len(own)), notes=notes)

    def _bad_response(self, problem: str) -> BadResponse:
        return BadResponse(f"the embedding object of {self.label} {problem}", backend=self.kind, model=self.model)

    def _error(self, error: Exception) -> BackendError:
        """Return the error for one that the object raised; its text may hold a key, so only its class is named."""
        name, status = type(error).__name__, getattr(error, "status_code", None)
        kind = BackendError
        if status == 429:
            kind = RateLimited
        elif "timeout" in name.lower():
            kind = BackendTimeout
        elif "connect" in name.lower() or (isinstance(status, int) and status >= 500):
            kind = BackendUnavailable
        return kind(f"the embedding object of {self.label} raised {name}", backend=self.kind, model=self.model)


def _host_of(embedder: object) -> str | None:
    """Return whose embedding object this is; ``None`` where it has the methods of neither host."""
    for host, methods in _METHODS.items():
        if all(callable(getattr(embedder, method, None)) for method in methods):
            return host
    return None


def _name_of(embedder: object) -> str:
    for value in (getattr(embedder, "model_name", None), getattr(embedder, "model", None)):
        if isinstance(value, str) and value.strip() and value != "unknown":
            return value
    return getattr(embedder, "__name__", None) or type(embedder).__name__


def _own_vectors(candidates: Sequence[Candidate], texts: int) -> list[Floats | None]:
    """Return each candidate's own vector; ``None`` where it has none.

    Raises:
        InputError: One is not a vector of finite numbers.
    """
    vectors: list[Floats | None] = []
    for candidate in candidates:
        numbers, problem = (None, "") if candidate.vector is None else _read_vector(candidate.vector)
        if problem:
            raise InputError(f"candidate {candidate.id!r}: its vector {problem}; leave it out to embed the text")
        vectors.append(numbers)
    return vectors or [None] * texts


def _read_vector(vector: Any) -> tuple[Floats | None, str]:
    """Return a vector as numbers, or ``None`` and what is wrong with it."""
    import numpy as np

    try:
        numbers = np.asarray(vector)
    except (TypeError, ValueError):  # rows of different lengths
        return None, "is not a list of numbers"
    if numbers.ndim != 1 or not numbers.size or numbers.dtype.kind not in "fiu":
        return None, "is not a list of numbers" if numbers.size else "is empty"
    numbers = numbers.astype(np.float64)
    if not np.isfinite(numbers).all():
        return None, f"holds {numbers[~np.isfinite(numbers)][0]}, which is not a finite number"
    return numbers, ""
