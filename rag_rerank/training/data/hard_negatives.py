"""Hard negatives: passages that look relevant to a query and are not; how each source proposes them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, repeat
from random import Random
from typing import Any, get_args

from rag_rerank._checks import one_of
from rag_rerank._lazy import need
from rag_rerank.base import Reranker
from rag_rerank.errors import ConfigError, InputError, ModelLoadError
from rag_rerank.evaluation.data.first_stage import best, bm25
from rag_rerank.evaluation.data.judged import Problems
from rag_rerank.records.record import digest
from rag_rerank.training.data.examples import Example, Examples, Passage
from rag_rerank.training.data.passages import Way, corpus_of, key_of, positive, relevant_to, sampled
from rag_rerank.training.data.teacher_scores import Progress, raw_scores, teacher_scores

__all__ = ["Way", "by_encoder", "by_words", "encoder_of", "mine"]

_BLOCK = 256
"""Queries whose cosines are held together: 256 MB beside 250,000 passages."""


def by_words(queries: Sequence[str], corpus: Sequence[str], depth: int) -> Iterator[list[int]]:
    """Yield for each query the positions of the best passages by BM25, of those that share a word with it."""
    asked = {str(i): query for i, query in enumerate(queries)}
    run = bm25(((str(i), text) for i, text in enumerate(corpus)), asked, depth, Problems())
    return ([int(position) for position, _, _ in run.best(query, depth)] for query in asked)


def by_encoder(encoder: Any, queries: Sequence[str], corpus: Sequence[str], depth: int) -> Iterator[list[int]]:
    """Yield for each query the positions of the best passages by the cosine, compared with all of them."""
    passages = encoder.encode_document(list(corpus), normalize_embeddings=True, show_progress_bar=False)
    for start in range(0, len(queries), _BLOCK):
        block = list(queries[start : start + _BLOCK])
        asked = encoder.encode_query(block, normalize_embeddings=True, show_progress_bar=False)
        yield from (best(row, depth).tolist() for row in asked @ passages.T)


def encoder_of(name: str) -> Any:
    """Load a bi-encoder of sentence-transformers, from a folder or by its name on the hub; no remote code runs.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        ModelLoadError: It cannot be loaded.
    """
    library = need("sentence_transformers", extra="torch")
    try:
        return library.SentenceTransformer(name, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelLoadError(f"cannot load the bi-encoder {name}: {error}") from error


_SPARE = 2
"""A teacher is asked about so many times the negatives that are wanted, since it will drop some."""


def mine(
    examples: Examples,
    *,
    ways: Sequence[Way] = ("bm25",),
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
    """Return the examples, each with negatives behind its own passages.

    Negatives of a query come from the passages of its source. None is relevant to this query in any example, and none
    has the same words as one that is, whatever their case and punctuation. The ways take turns until there are enough;
    where one has no more, the others go on.

    - ``"bm25"``: drawn at random from the ``depth`` best by BM25.
    - ``"bi-encoder"``: drawn at random from the ``depth`` nearest by the cosine, compared with all passages.
    - ``"model"``: of BM25's ``depth`` best those that the current model holds for the most relevant, in its order.
    - ``"random"``: drawn from all passages.

    A passage that looks relevant often is, and nobody has judged it. With a teacher, a negative is dropped whose raw
    score is not below that of the query's lowest positive by more than ``margin``: "TopK-MarginPos" of NV-Retriever
    (Moreira et al. 2024, arXiv:2407.15831). Their other rule, a share of the positive's score, does not work on
    logits, which may be negative. Without a teacher, ``skip_top`` leaves out the best proposals of each way, which are
    relevant most often.

    Args:
        examples: Queries with at least one relevant passage; others stay as they are.
        ways: How passages are proposed.
        negatives: How many a query gets at most, beside those that it has.
        depth: How many of the best a way proposes.
        skip_top: How many of these are left out, the best first; not of ``"random"``.
        teacher: Who says which negatives are none. Its raw scores stay on all passages (`Passage.teacher`). Behind
            `Cached`, what was scored before an interruption is not asked again.
        margin: How far below, in units of the teacher's raw scores; for a cross-encoder, logits.
        model: The current model, for ``"model"``.
        encoder: A bi-encoder of sentence-transformers, its folder or name on the hub, for ``"bi-encoder"``.
        corpora: More passages, text by id by name of the source: the whole corpus, of which only some was judged
            (`rag_rerank.training.data.collection_texts.texts_of`).
        seed: What is drawn depends on it, on the query and on what is proposed, not on the other examples.
        progress: Is told how far it is.

    Returns:
        The examples in their order; mined passages have no grade, and the way as their origin. ``problems`` counts what
        was dropped, and the queries that have fewer negatives than asked for.

    Raises:
        ConfigError: Arguments that do not go together or have no meaning.
        InputError: In the end no query has anything to order.
        MissingExtraError: sentence-transformers is needed and not installed.
        ModelLoadError: The encoder cannot be loaded.
        RerankError: The teacher or the model fails.
    """
    numbers = {"negatives": (negatives, 1), "depth": (depth, 1), "skip_top": (skip_top, 0)}
    _check(ways, numbers, {"model": model, "bi-encoder": encoder}, margin, teacher)
    problems = Problems()
    loaded = None if encoder is None else encoder_of(encoder)
    relevant = relevant_to(examples.examples)
    asking = {place: one for place, one in enumerate(examples.examples) if any(map(positive, one.passages))}
    found: dict[int, Example] = {}
    for source in dict.fromkeys(example.source for example in asking.values()):
        same = [example for example in examples.examples if example.source == source]
        corpus = corpus_of(same, (corpora or {}).get(source, {}))
        places = [place for place, example in asking.items() if example.source == source]
        own = [asking[place] for place in places]
        proposed = _proposed(
            ways, [one.query for one in own], [one.text for one in corpus], depth, model, loaded, problems
        )
        for place, example, best_by_source in zip(places, own, proposed, strict=True):
            barred = {*relevant[key_of(example.query)], *(key_of(passage.text) for passage in example.passages)}
            free = {
                way: [at for at in positions if corpus[at].key not in barred][skip_top:]
                for way, positions in best_by_source.items()
            }
            line = sampled(free, corpus, barred, depth, Random(f"{seed} {digest(example.query)}"))
            mined = list(islice(line, negatives if teacher is None else negatives * _SPARE))
            if teacher is None:
                found[place] = replace(example, passages=(*example.passages, *mined))
            else:
                found[place] = _filtered(example, mined, negatives, teacher, margin, problems)
            got = len(found[place].passages) - len(example.passages)
            if got < negatives:
                problems.note("queries with fewer negatives than asked for", f"{source}: {got} of {negatives}")
            if progress is not None:
                progress(len(found) / len(asking), f"{len(found)} of {len(asking)} queries")
    mined_all = tuple(found.get(place, example) for place, example in enumerate(examples.examples))
    if not any(map(_orderable, mined_all)):
        raise InputError(
            "no query has anything to order: every passage of its source is relevant to it, or was dropped; give more "
            f"passages with corpora. {problems.summary()}"
        )
    return replace(examples, examples=mined_all, problems=(*examples.problems, *problems.as_tuple()))


def _proposed(
    ways: Sequence[Way],
    queries: Sequence[str],
    corpus: Sequence[str],
    depth: int,
    model: Reranker | None,
    encoder: Any,
    problems: Problems,
) -> Iterator[dict[Way, list[int]]]:
    """Yield for each query what each way proposes, the best first, as positions in the corpus."""
    lexical = by_words(queries, corpus, depth) if {"bm25", "model"} & {*ways} else repeat([])
    near = by_encoder(encoder, queries, corpus, depth) if "bi-encoder" in ways else repeat([])
    for query, by_word, by_cosine in zip(queries, lexical, near, strict=False):
        found: dict[Way, list[int]] = {"bm25": by_word, "bi-encoder": by_cosine}
        if "model" in ways and model is not None and by_word:
            ranking = teacher_scores(model, query, [corpus[position] for position in by_word], problems)
            scored = [hit for hit in ranking or () if hit.raw_score is not None]
            found["model"] = [by_word[int(hit.id)] for hit in scored]
        yield {way: found.get(way, []) for way in ways}


def _filtered(
    example: Example, mined: Sequence[Passage], negatives: int, teacher: Reranker, margin: float, problems: Problems
) -> Example:
    """Return an example with its teacher's scores, and with those of the mined passages that are surely negatives."""
    whole = [*example.passages, *mined]
    scores = raw_scores(teacher, example.query, [passage.text for passage in whole], problems)
    scored = [replace(passage, teacher=raw) for passage, raw in zip(whole, scores, strict=True)]
    own, new = scored[: len(example.passages)], scored[len(example.passages) :]
    positives = [passage.teacher for passage in own if positive(passage)]
    known = [raw for raw in positives if raw is not None]
    place = f"{example.source}: query {digest(example.query)[:12]}"
    if not known:
        problems.note(f"queries without a positive that {teacher.label} scored, left without negatives", place)
        return replace(example, passages=tuple(own))
    sure = [passage for passage in new if passage.teacher is not None and passage.teacher < min(known) - margin]
    if len(sure) < len(new):
        kind = f"mined passages that {teacher.label} does not hold for surely less relevant, dropped"
        problems.note(kind, place, len(new) - len(sure))
    return replace(example, passages=(*own, *sure[:negatives]))


def _orderable(example: Example) -> bool:
    return len({positive(passage) for passage in example.passages}) == 2


def _check(
    ways: Sequence[Way],
    numbers: Mapping[str, tuple[int, int]],
    given: Mapping[Way, object],
    margin: float,
    teacher: Reranker | None,
) -> None:
    if not ways:
        raise ConfigError(f"name at least one of {', '.join(get_args(Way))}", path="ways")
    for way in ways:
        one_of(way, get_args(Way), "ways")
    for name, (value, least) in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"must be a whole number of at least {least}, got {value!r}", path=name)
    for (way, helper), name in zip(given.items(), ("model", "encoder"), strict=True):
        if (way in ways) != (helper is not None):
            raise ConfigError(f"goes with the way {way!r}, and that way needs it", path=name)
    if not (math.isfinite(margin) and margin >= 0):
        raise ConfigError(f"must be a number of at least 0, got {margin}", path="margin")
    if margin and teacher is None:
        raise ConfigError("goes with a teacher, in units of whose raw scores it is", path="margin")
