"""Mine hard negatives: passages that look relevant to a query and are not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, repeat
from random import Random
from typing import Any, get_args

from rag_rerank._checks import one_of, whole_number
from rag_rerank._lazy import need
from rag_rerank.base import Reranker
from rag_rerank.errors import ConfigError, InputError, ModelLoadError
from rag_rerank.evaluation.data.first_stage import best, bm25
from rag_rerank.evaluation.data.judged import Problems, is_own_document
from rag_rerank.records.record import digest
from rag_rerank.training.data.examples import Example, Examples, Passage
from rag_rerank.training.data.passages import (
    CorpusText,
    Strategy,
    collect_passages,
    is_relevant,
    relevant_keys,
    sample_negatives,
    text_key,
)
from rag_rerank.training.data.teacher_scores import Progress, rank_texts, raw_scores

__all__ = ["Strategy", "mine"]

_SPARE = 2
"""A teacher scores this many times the number of negatives, since it will drop some."""

_BLOCK = 256
"""Queries whose cosines are in memory together: 256 MB beside 250,000 passages."""


def mine(
    examples: Examples,
    *,
    strategies: Sequence[Strategy] = ("bm25",),
    negatives: int = 4,
    depth: int = 50,
    skip_top: int = 0,
    teacher: Reranker | None = None,
    margin: float = 0.0,
    model: Reranker | None = None,
    encoder: str | None = None,
    corpora: Mapping[str, Mapping[str, str]] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Examples:
    """Return the examples, each with negatives after its own passages.

    Negatives of a query come from the passages of its source. No negative is relevant to this query in any example, or
    has the same words as a relevant passage or as the query, whatever their case and punctuation, or is the query's own
    document (`is_own_document`). The strategies take turns until there
    are enough; when one has no more proposals, the others continue.

    - ``"bm25"``: sampled from the ``depth`` best by BM25.
    - ``"bi-encoder"``: sampled from the ``depth`` nearest by the cosine, compared with all passages.
    - ``"model"``: those of BM25's ``depth`` best that the current model scores highest, in its order.
    - ``"random"``: sampled from all passages.

    A passage that looks relevant often is relevant, and has no judgment. With a teacher, a negative is dropped unless
    its raw score is below that of the query's lowest positive by more than ``margin``: "TopK-MarginPos" of NV-Retriever
    (Moreira et al. 2024, arXiv:2407.15831). Their other rule, a share of the positive's score, does not work on logits,
    which may be negative. Without a teacher, ``skip_top`` leaves out the best proposals of each strategy, which are
    relevant most often.

    Args:
        examples: Queries with at least one relevant passage; others stay as they are.
        strategies: How negatives are proposed.
        negatives: Maximum number of negatives to add to a query.
        depth: Number of proposals by a strategy.
        skip_top: Number of the best proposals to leave out; does not apply to ``"random"``.
        teacher: Decides which proposals are relevant after all. Its raw scores stay on all passages
            (`Passage.teacher`). Behind `Cached`, a repeated call asks only for missing scores.
        margin: Required distance below the lowest positive, in units of the teacher's raw scores; for a cross-encoder,
            logits.
        model: The current model, for ``"model"``.
        encoder: A bi-encoder of sentence-transformers, its folder or name on the hub, for ``"bi-encoder"``.
        corpora: More passages for each source name, as text by id: the whole corpus, if only a part of it was judged
            (`rag_rerank.training.data.collection_texts.read_texts`).
        seed: Seed of the sampling, which depends on the query and its proposals too, but not on the other examples.
        progress: Called with the share that is done, and a few words.

    Returns:
        The examples in their order; mined passages have no grade, and the strategy as their origin. ``problems`` counts
        dropped proposals, and queries with fewer negatives than requested.

    Raises:
        ConfigError: An argument is out of its range, or arguments do not fit together.
        InputError: No query has anything to order in the end.
        MissingExtraError: sentence-transformers is needed and not installed.
        ModelLoadError: The encoder cannot be loaded.
        RerankError: The teacher or the model fails.
    """
    _check_arguments(strategies, {"model": model, "bi-encoder": encoder}, margin, teacher)
    for name, value, least in (("negatives", negatives, 1), ("depth", depth, 1), ("skip_top", skip_top, 0)):
        whole_number(value, least, name)
    problems = Problems()
    bi_encoder = None if encoder is None else _load_encoder(encoder)
    relevant = relevant_keys(examples.examples)
    minable = {
        place: example for place, example in enumerate(examples.examples) if any(map(is_relevant, example.passages))
    }
    results: dict[int, Example] = {}
    for source in dict.fromkeys(example.source for example in minable.values()):
        same = [example for example in examples.examples if example.source == source]
        corpus = collect_passages(same, (corpora or {}).get(source, {}))
        by_id: dict[str | None, CorpusText] = {text.id: text for text in corpus}
        places = [place for place, example in minable.items() if example.source == source]
        queries = [minable[place].query for place in places]
        proposals = _proposals(strategies, queries, [text.text for text in corpus], depth, model, bi_encoder, problems)
        for place, by_strategy in zip(places, proposals, strict=True):
            example = minable[place]
            key = text_key(example.query)
            excluded = {key, *relevant[key], *(text_key(passage.text) for passage in example.passages)}
            own = by_id.get(example.id)
            if own is not None and is_own_document(own.id, example.query, own.id, own.text):
                excluded.add(own.key)
            free = {
                name: [position for position in positions if corpus[position].key not in excluded][skip_top:]
                for name, positions in by_strategy.items()
            }
            candidates = sample_negatives(free, corpus, excluded, depth, Random(f"{seed} {digest(example.query)}"))
            mined = list(islice(candidates, negatives if teacher is None else negatives * _SPARE))
            if teacher is None:
                results[place] = replace(example, passages=(*example.passages, *mined))
            else:
                results[place] = _filter(example, mined, negatives, teacher, margin, problems)
            count = len(results[place].passages) - len(example.passages)
            if count < negatives:
                problems.note("queries with fewer negatives than requested", f"{source}: {count} of {negatives}")
            if progress is not None:
                progress(len(results) / len(minable), f"{len(results)} of {len(minable)} queries")
    all_examples = tuple(results.get(place, example) for place, example in enumerate(examples.examples))
    if not any(map(_can_be_ordered, all_examples)):
        raise InputError(
            "no query has anything to order: every passage of its source is relevant to it, or was dropped; give more "
            f"passages with corpora. {problems.summary()}"
        )
    return replace(examples, examples=all_examples, problems=(*examples.problems, *problems.as_tuple()))


def _check_arguments(
    strategies: Sequence[Strategy], helpers: Mapping[Strategy, object], margin: float, teacher: Reranker | None
) -> None:
    if not strategies:
        raise ConfigError(f"name at least one of {', '.join(get_args(Strategy))}", path="strategies")
    for strategy in strategies:
        one_of(strategy, get_args(Strategy), "strategies")
    for (strategy, helper), name in zip(helpers.items(), ("model", "encoder"), strict=True):
        if (strategy in strategies) != (helper is not None):
            raise ConfigError(f"belongs to the strategy {strategy!r}; give both or neither", path=name)
    if not (math.isfinite(margin) and margin >= 0):
        raise ConfigError(f"must be a number of at least 0, got {margin}", path="margin")
    if margin and teacher is None:
        raise ConfigError("needs a teacher: it is in units of the teacher's raw scores", path="margin")


def _proposals(
    strategies: Sequence[Strategy],
    queries: Sequence[str],
    corpus: Sequence[str],
    depth: int,
    model: Reranker | None,
    encoder: Any,
    problems: Problems,
) -> Iterator[dict[Strategy, list[int]]]:
    """Yield for each query the proposals of each strategy, the best first, as positions in the corpus."""
    lexical = _best_by_bm25(queries, corpus, depth) if {"bm25", "model"} & {*strategies} else repeat([])
    nearest = _best_by_cosine(encoder, queries, corpus, depth) if "bi-encoder" in strategies else repeat([])
    for query, by_bm25, by_cosine in zip(queries, lexical, nearest, strict=False):
        positions: dict[Strategy, list[int]] = {"bm25": by_bm25, "bi-encoder": by_cosine}
        if "model" in strategies and model is not None and by_bm25:
            ranking = rank_texts(model, query, [corpus[position] for position in by_bm25], problems)
            scored = [hit for hit in ranking or () if hit.raw_score is not None]
            positions["model"] = [by_bm25[int(hit.id)] for hit in scored]
        yield {strategy: positions.get(strategy, []) for strategy in strategies}


def _best_by_bm25(queries: Sequence[str], corpus: Sequence[str], depth: int) -> Iterator[list[int]]:
    """Yield for each query the positions of the best passages by BM25, among those that share a word with it."""
    by_id = {f"query {i}": query for i, query in enumerate(queries)}
    run = bm25(((str(i), text) for i, text in enumerate(corpus)), by_id, depth, Problems())
    return ([int(position) for position, _, _ in run.best(id, depth)] for id in by_id)


def _best_by_cosine(encoder: Any, queries: Sequence[str], corpus: Sequence[str], depth: int) -> Iterator[list[int]]:
    """Yield for each query the positions of the nearest passages by the cosine, compared with all of them."""
    passages = encoder.encode_document(list(corpus), normalize_embeddings=True, show_progress_bar=False)
    for start in range(0, len(queries), _BLOCK):
        block = list(queries[start : start + _BLOCK])
        vectors = encoder.encode_query(block, normalize_embeddings=True, show_progress_bar=False)
        yield from (best(row, depth).tolist() for row in vectors @ passages.T)


def _load_encoder(name: str) -> Any:
    """Load a bi-encoder of sentence-transformers, from a folder or by its name on the hub, without remote code."""
    library = need("sentence_transformers", extra="torch")
    try:
        return library.SentenceTransformer(name, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelLoadError(f"cannot load the bi-encoder {name}: {error}") from error


def _filter(
    example: Example, mined: Sequence[Passage], negatives: int, teacher: Reranker, margin: float, problems: Problems
) -> Example:
    """Return an example with its teacher's scores, and with those mined passages that the teacher scores low enough."""
    passages = [*example.passages, *mined]
    scores = raw_scores(teacher, example.query, [passage.text for passage in passages], problems)
    scored = [replace(passage, teacher=raw) for passage, raw in zip(passages, scores, strict=True)]
    original, new = scored[: len(example.passages)], scored[len(example.passages) :]
    positives = [passage.teacher for passage in original if is_relevant(passage) and passage.teacher is not None]
    place = f"{example.source}: query {digest(example.query)[:12]}"
    if not positives:
        problems.note(f"queries without a positive that {teacher.label} scored, left without negatives", place)
        return replace(example, passages=tuple(original))
    low = [passage for passage in new if passage.teacher is not None and passage.teacher < min(positives) - margin]
    if len(low) < len(new):
        kind = f"mined passages that {teacher.label} does not score below the positives, dropped"
        problems.note(kind, place, len(new) - len(low))
    return replace(example, passages=(*original, *low[:negatives]))


def _can_be_ordered(example: Example) -> bool:
    return len({is_relevant(passage) for passage in example.passages}) == 2
