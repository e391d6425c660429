"""Published scores of known models (``reference_scores.json``), and files with scores of your own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from rag_rerank._files import parse_json
from rag_rerank.backends.local import catalogue
from rag_rerank.backends.local.verification.tolerance import Kind, Precision, Range, allowed_range
from rag_rerank.errors import ConfigError, did_you_mean

__all__ = ["ReferenceScores", "Trust", "published_models", "published_scores", "read_reference_scores"]

Trust = Literal["high", "medium", "low"]
"""How sure a published score is. Scores of low trust decide by their order alone."""

_FILE = Path(__file__).with_name("reference_scores.json")
_SCHEMA = 1
_OPTIONS = ("decimals", "rounding", "shift", "relative", "noise", "instruction")


@dataclass(frozen=True, kw_only=True)
class ReferenceScores:
    """The published scores of one query with one or several texts, from one source.

    Args:
        query: The query.
        texts: The texts.
        values: The score of each text, as printed.
        kind: What the numbers are.
        precision: The number format that they were computed in.
        source: The address where they were read.
        trust: How sure they are.
        instruction: The instruction of a causal model; ``None`` for its own.
        rounding: Half a unit of the last printed digit, or what the source allows; by default by the digits.
        shift: What was subtracted from a logit before its sigmoid was taken.
        relative: A share of the logit that may differ on top.
        noise: How far a logit may move, in place of that of the number format.
    """

    query: str
    texts: tuple[str, ...]
    values: tuple[float, ...]
    kind: Kind
    precision: Precision
    source: str
    trust: Trust = "high"
    instruction: str | None = None
    rounding: float | None = None
    shift: float = 0.0
    relative: float = 0.0
    noise: float | None = None

    @property
    def decides_by_value(self) -> bool:
        """Whether a score must have the value; otherwise only the order of the texts counts."""
        return self.kind != "maxsim" and self.trust != "low"

    def ranges(self, here: Precision) -> tuple[Range, ...]:
        """Return the raw scores that agree with each value, for a model that computes in this format here."""
        return tuple(
            allowed_range(
                value,
                self.kind,
                self.precision,
                here=here,
                rounding=self.rounding,
                shift=self.shift,
                relative=self.relative,
                noise=self.noise,
            )
            for value in self.values
        )


def published_scores(model: str) -> tuple[ReferenceScores, ...]:
    """Return the published scores of a model by its name, id or former id; none where none are known."""
    row = catalogue.row_of_any_case(model)
    return _published().get(row.id if row else model, ())


def published_models() -> tuple[str, ...]:
    """Return the ids of the models with published scores."""
    return tuple(_published())


@cache
def _published() -> Mapping[str, tuple[ReferenceScores, ...]]:
    content = parse_json(_FILE.read_text(encoding="utf-8"))
    by_model: dict[str, list[ReferenceScores]] = {}
    for models, scores in _read(content):
        for model in models:
            by_model.setdefault(model, []).append(scores)
    return {model: tuple(rows) for model, rows in by_model.items()}


def read_reference_scores(file: Path) -> tuple[ReferenceScores, ...]:
    """Read scores of your own, in the layout of ``reference_scores.json``, for one model.

    ``pairs`` and ``source`` may also stand in a row itself: ``{"query": ..., "texts": [...], "values": [...], "kind":
    "logit", "precision": "fp32"}``. Models that rows name do not matter.

    Raises:
        ConfigError: The file cannot be read, or a row is wrong; the message names it.
    """
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read reference scores from {file}: {error}") from error
    try:
        rows = tuple(scores for _, scores in _read(content, source=str(file)))
    except ConfigError as error:
        raise error.under(str(file)) from error
    if not rows:
        raise ConfigError(f"{file} has no scores; add rows to its list scores")
    return rows


def _read(content: Any, source: str = "") -> Iterator[tuple[Sequence[str], ReferenceScores]]:
    if not isinstance(content, dict) or not isinstance(content.get("scores"), list):
        raise ConfigError('reference scores are an object with a list "scores"')
    if content.get("schema", _SCHEMA) != _SCHEMA:
        raise ConfigError(f"schema {content['schema']!r} is not known here; this release reads {_SCHEMA}")
    for i, row in enumerate(content["scores"]):
        try:
            yield row.get("models", ()), _scores_of(row, content, source)
        except ConfigError as error:
            raise error.under(f"scores[{i}]") from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not understood: {type(error).__name__}: {error}", path=f"scores[{i}]") from error


def _scores_of(row: Mapping[str, Any], content: Mapping[str, Any], source: str) -> ReferenceScores:
    keys = ("models", "pairs", "query", "texts", "values", "kind", "precision", "source", "trust", *_OPTIONS)
    for key in row:
        if key not in keys:
            raise ConfigError(f"unknown key {key!r}{did_you_mean(key, keys)}")
    query, texts = content["pairs"][row["pairs"]] if "pairs" in row else (row["query"], row["texts"])
    for name, choices in (("kind", get_args(Kind)), ("precision", get_args(Precision)), ("trust", get_args(Trust))):
        if row.get(name, choices[0]) not in choices:
            raise ConfigError(f"expected one of {', '.join(choices)}, got {row[name]!r}", path=name)
    values = tuple(map(float, row["values"]))
    if not texts or len(values) != len(texts) or not all(map(math.isfinite, values)):
        raise ConfigError(f"{len(texts)} texts need as many finite values", path="values")
    if not all(isinstance(text, str) and text.strip() for text in (query, *texts)):
        raise ConfigError("query and texts are strings that are not blank", path="texts")
    options = {name: row[name] for name in _OPTIONS if name in row}
    if (decimals := options.pop("decimals", None)) is not None:
        options["rounding"] = 0.5 * 10.0**-decimals
    origin = content.get("sources", {}).get(row.get("source"))
    return ReferenceScores(
        query=query,
        texts=tuple(texts),
        values=values,
        kind=row["kind"],
        precision=row.get("precision", "fp32"),
        source=origin["url"] if origin else row.get("source", source),
        trust=row.get("trust", "high"),
        **options,
    )
