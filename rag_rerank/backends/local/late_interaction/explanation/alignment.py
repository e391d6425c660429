"""The call behind an explanation: a query and one text, scored as any call, with the similarities of their tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rag_rerank.backends.local.kept_vectors.store import VectorStore
from rag_rerank.backends.local.kept_vectors.tasks import CallSettings, VectorBatch
from rag_rerank.backends.local.kept_vectors.text_explanation import TextExplanationTask
from rag_rerank.backends.local.late_interaction.engine import LateInteractionEngine
from rag_rerank.backends.local.late_interaction.explanation.explanation import (
    ExplainedToken,
    Explanation,
    SignalContribution,
    TokenMatch,
)
from rag_rerank.backends.local.late_interaction.maxsim import similarities
from rag_rerank.backends.local.late_interaction.products import products
from rag_rerank.backends.local.late_interaction.signals import QuerySide
from rag_rerank.backends.local.late_interaction.text_inputs import InputToken
from rag_rerank.backends.local.late_interaction.text_vectors import JoinedRows
from rag_rerank.backends.local.late_interaction.token_pooling import pooled_places
from rag_rerank.backends.local.pair_encoding import EncodedPairs
from rag_rerank.backends.local.torch_models.late_interaction import SIGNALS
from rag_rerank.types import present

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["ExplanationTask"]


class ExplanationTask(TextExplanationTask):
    """A query and one text to explain by the similarities of their tokens."""

    def __init__(
        self, settings: CallSettings, engine: LateInteractionEngine, store: VectorStore, query: str, text: str
    ) -> None:
        super().__init__(settings, engine, store, query, text)
        self.engine = engine
        self._whole_text = EncodedPairs((), (), (), 0)
        self._unpooled: VectorBatch | None = None

    def split(self) -> list[VectorBatch]:
        """Return what has to be encoded: what a call encodes and, of pooled vectors, the text before pooling."""
        batches = super().split()
        if self.engine.pool > 1:
            self._whole_text = self.engine.tokenizer.encode_texts([self._valid_text], "truncate")
            self._unpooled = VectorBatch([0], len(self._whole_text.ids[0]), None)
            batches.append(self._unpooled)
        return batches

    def arrays(self, batch: VectorBatch) -> Any:
        """Return the inputs of a batch."""
        return self._whole_text.arrays([0]) if batch is self._unpooled else super().arrays(batch)

    def take(self, batch: VectorBatch, vectors: Floats) -> Any:
        """Return the result of a batch: for a text before pooling, the vectors of its tokens."""
        return vectors[0] if batch is self._unpooled else super().take(batch, vectors)

    def finish(self, results: Sequence[tuple[VectorBatch, Any]], seconds: float, waited: float) -> Explanation:
        """Return the explanation."""
        engine, call = self.engine, self._comparison
        unpooled = next((result for batch, result in results if batch is self._unpooled), None)
        results = [(batch, result) for batch, result in results if batch is not self._unpooled]
        scores = call.finish(results, seconds, waited)
        query_side = call.query_side(results)
        (key,) = call.rows.keys
        facts = call.rows.facts[key]
        row = engine.layout.join([call.rows.rows[key]], [facts.count])
        query_tokens = self._compared_tokens(of_query=True)
        text_tokens = self._compared_tokens(of_query=False)
        vectors = query_side.vectors if isinstance(query_side, QuerySide) else query_side
        similar = similarities(vectors, row)
        notes = self._notes(facts)
        best = similar.argmax(axis=1) if similar.shape[1] else None
        if unpooled is not None and best is not None:
            own = engine.normalize(unpooled[engine.is_compared(self._whole_text.ids[0], of_query=False)])  # type: ignore[arg-type]
            places = pooled_places(own, engine.pool)
            best = _nearest_of_pool(vectors, own, places, best)
            similar = similar[:, places]
            notes.append(f"pool: {engine.pool} lets similar tokens of the text share a vector, and so a similarity")
        (value,) = scores.values
        return Explanation(
            reranker=self.settings.reranker.label,
            query=self.query,
            text=self.text,
            score=present(float(value), scores.scale),
            raw_score=float(value),
            scale=scores.scale,
            query_tokens=query_tokens,
            text_tokens=text_tokens,
            matches=tuple(self._matches(query_side, query_tokens, text_tokens, similar, best)),
            similarities=tuple(tuple(line) for line in similar.tolist()),
            signals=tuple(self._signals(query_side, row)),
            bias=0.0 if engine.head is None else engine.head.bias,
            coverage=facts.coverage,
            query_coverage=call.query_input.coverage,
            notes=tuple(dict.fromkeys(notes)),
        )

    def _compared_tokens(self, *, of_query: bool) -> tuple[ExplainedToken, ...]:
        """Return the tokens of the query or of the text that are compared, as they read in the caller's string."""
        import numpy as np

        tokenizer = self.engine.tokenizer
        text, valid = (self.query, self._valid_query) if of_query else (self.text, self._valid_text)
        tokens = tokenizer.query_tokens(valid) if of_query else tokenizer.text_tokens(valid)
        ids = np.array([token.id for token in tokens], dtype=np.int32)
        compared = self.engine.is_compared(ids, of_query=of_query)
        return tuple(
            _as_read([token for token, is_compared in zip(tokens, compared, strict=True) if is_compared], text, valid)
        )

    def _matches(
        self,
        query_side: QuerySide | Floats,
        query: Sequence[ExplainedToken],
        text: Sequence[ExplainedToken],
        similar: Floats,
        best: npt.NDArray[np.intp] | None,
    ) -> Iterator[TokenMatch]:
        """Yield the best match of each token of the query; ``best`` holds its place, if the text has tokens."""
        shares: Sequence[float | None] = [None] * len(query)
        if isinstance(query_side, QuerySide):
            assert self.engine.head is not None
            weights = self.engine.head.token_weights[query_side.ids].astype(float)
            shares = (weights / max(float(weights.sum()), 1e-6)).tolist()
        count = max(len(query), 1) if self.engine.conventions.mean else 1
        for place, (token, share) in enumerate(zip(query, shares, strict=True)):
            position = None if best is None else int(best[place])
            similarity = None if position is None else float(similar[place, position])
            contribution = (similarity or 0.0) / count if share is None else None
            answer = None if position is None else text[position]
            yield TokenMatch(token, answer, position, similarity, share, contribution)

    def _signals(self, query_side: QuerySide | Floats, row: JoinedRows) -> Iterator[SignalContribution]:
        head = self.engine.head
        if head is not None and isinstance(query_side, QuerySide):
            values, weights = head.signals(query_side, row)[:, 0].tolist(), head.weight.astype(float).tolist()
            for name, value, weight in zip(SIGNALS, values, weights, strict=True):
                yield SignalContribution(name, value, weight, weight * value)


def _nearest_of_pool(
    query: Floats, own: Floats, places: npt.NDArray[np.intp], best: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """Return, for each token of the query, the token of the text whose own vector is nearest to it.

    Only the tokens that share the vector at ``best`` are looked at: it is this vector that the score counts.
    """
    import numpy as np

    nearest: npt.NDArray[np.intp] = np.where(places[None] == best[:, None], products(query, own), -np.inf).argmax(
        axis=1
    )
    return nearest


def _as_read(tokens: Iterable[InputToken], text: str, valid: str) -> Iterator[ExplainedToken]:
    """Yield tokens with their characters and their places in the caller's text, of which ``valid`` is valid Unicode.

    A space that belongs to a token (BPE on bytes) is left out.
    """
    place_of = _places(text, valid)
    for token in tokens:
        if token.start < 0:
            yield ExplainedToken(token.piece, None, None, "filler" if token.is_filler else "marker")
            continue
        stretch = valid[token.start : token.end]
        start = token.end - len(stretch.lstrip()) if stretch.strip() else token.start
        end = start + len(valid[start : token.end].rstrip()) if stretch.strip() else token.end
        yield ExplainedToken(valid[start:end], place_of[start], place_of[end])


def _places(text: str, valid: str) -> Sequence[int]:
    """Return the place in a text of each character of its valid form, in which surrogate pairs are joined."""
    if len(text) == len(valid):
        return range(len(text) + 1)
    places, place = [], 0
    for char in valid:
        places.append(place)
        place += 2 if char > "\uffff" and text[place] < "\U00010000" else 1
    return [*places, place]
