"""A model of learning to rank as plain data: its features, its trees in LightGBM's text format, its origin."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from rag_rerank._files import parse_json, write
from rag_rerank._lazy import load_once, need
from rag_rerank.compose.ltr.features import VERSION, Features
from rag_rerank.errors import ConfigError, ModelLoadError
from rag_rerank.types import Scale

__all__ = ["BASE", "SCHEMA", "LtrModel", "LtrProvenance", "TrainedReranker"]

SCHEMA = "rag_rerank.ltr/1"
"""Name and version of the file's layout."""

BASE = "base"
"""The name of the part of a score that no feature adds: the mean score of the training."""


@dataclass(frozen=True, kw_only=True)
class TrainedReranker:
    """A reranker inside, as it was in the training.

    Args:
        label: Its label.
        scale: The scale of its scores.
        identity: Its `Reranker.identity`.
    """

    label: str
    scale: Scale
    identity: str


@dataclass(frozen=True, kw_only=True)
class LtrProvenance:
    """The origin of a model, and its quality on queries that it did not see.

    Args:
        data: The name of the judged data.
        fingerprint: The SHA-256 of the data.
        queries: The queries that it was trained on: those with a relevant candidate and another one.
        pairs: Their candidates.
        now: The moment that ages were counted to, ISO 8601.
        rounds: The number of trees.
        ndcg: nDCG@10 out of fold: each query ranked by a model that was trained without it.
        first_stage: nDCG@10 of the first stage on the same queries.
        difference: The mean difference of the two, with the ends of its 95 % interval.
        verdict: The verdict on that difference, in a sentence.
        settings: The settings of the training.
        version: The release of this package.
        lightgbm: The release of LightGBM.
        date: The day of the training, ``YYYY-MM-DD`` (UTC).
    """

    data: str
    fingerprint: str
    queries: int
    pairs: int
    now: str
    rounds: int
    ndcg: float
    first_stage: float
    difference: tuple[float, float, float]
    verdict: str
    settings: Mapping[str, Any]
    version: str
    lightgbm: str
    date: str


@dataclass(frozen=True, kw_only=True)
class LtrModel:
    """Gradient-boosted trees over named features, with what they were trained on.

    ``rag-rerank ltr train`` and `rag_rerank.training.ltr.train.train_ltr` make one; `LearningToRank` ranks with it.

    Args:
        features: The features, in the order of the trees' columns.
        rerankers: The rerankers inside, in the order of ``features.rerankers``.
        monotone: The monotone constraint of each feature.
        trees: The trees in LightGBM's text format (``Booster.model_to_string``).
        fitted: The origin of the model.
    """

    features: Features
    rerankers: tuple[TrainedReranker, ...] = ()
    monotone: Mapping[str, int]
    trees: str = field(repr=False)
    fitted: LtrProvenance

    def __post_init__(self) -> None:
        if tuple(one.label for one in self.rerankers) != self.features.rerankers:
            raise ConfigError("the rerankers are not those of the features", path="rerankers")

    @property
    def digest(self) -> str:
        """The SHA-256 of everything that decides a score: features and trees."""
        facts = [VERSION, asdict(self.features), self.trees]
        return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @load_once
    def booster(self) -> Any:
        """The trees as a ``lightgbm.Booster``.

        Raises:
            MissingExtraError: LightGBM is not installed.
            ModelLoadError: LightGBM cannot read the trees, or they have other columns than the features.
        """
        lightgbm = need("lightgbm", extra="ltr")
        try:
            booster = lightgbm.Booster(model_str=self.trees)
        except (lightgbm.basic.LightGBMError, TypeError, ValueError) as error:
            raise ModelLoadError(f"LightGBM cannot read the trees: {error}") from error
        if booster.num_feature() != len(self.features.names):
            raise ModelLoadError(
                f"the trees have {booster.num_feature()} columns, and there are {len(self.features.names)} features"
            )
        return booster

    def scores(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """Return the raw score of each row of features, as ``Booster.predict`` gives it."""
        return [float(score) for score in self.booster.predict(_matrix(rows), num_threads=1)]

    def contributions(self, rows: Sequence[Sequence[float]]) -> list[dict[str, float]]:
        """Return what each feature adds to the score of each row, and `BASE`.

        These are SHAP values (Lundberg et al., "From local explanations to global understanding with explainable AI for
        trees", Nature Machine Intelligence 2020), by LightGBM's ``pred_contrib``. They sum to the score.
        """
        parts = self.booster.predict(_matrix(rows), pred_contrib=True, num_threads=1)
        names = (*self.features.names, BASE)
        return [dict(zip(names, map(float, row), strict=True)) for row in parts]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; the first key names the layout."""
        return {
            "schema": SCHEMA,
            "features_version": VERSION,
            "names": list(self.features.names),
            **asdict(self),
            "trees_sha256": sha256(self.trees.encode()).hexdigest(),
        }

    @classmethod
    def from_dict(cls, data: Any) -> LtrModel:
        """Rebuild a model from `to_dict`, also after a round trip through JSON.

        Raises:
            ConfigError: The layout or the version of the features is another one, a key is missing, unknown or of a
                wrong type, or the trees were changed; the message names it.
        """
        from pydantic import TypeAdapter, ValidationError

        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            actual = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
            raise ConfigError(f"no ltr model of this release ({SCHEMA}), but {actual!r:.60}", path="schema")
        if data.get("features_version") != VERSION:
            raise ConfigError(
                f"the model was trained on version {data.get('features_version')!r:.20} of the features, and this "
                f"release computes version {VERSION}; train it anew",
                path="features_version",
            )
        own = {key: value for key, value in data.items() if key not in ("schema", "features_version", "names")}
        claimed = own.pop("trees_sha256", None)
        if unknown := sorted(own.keys() - cls.__dataclass_fields__.keys()):
            raise ConfigError(f"unknown key {unknown[0]!r:.60}")
        try:
            model = TypeAdapter(cls).validate_python(own)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ConfigError(first["msg"], path=".".join(map(str, first["loc"]))) from None
        if list(model.features.names) != data.get("names"):
            raise ConfigError("the names are not those of the features", path="names")
        if sha256(model.trees.encode()).hexdigest() != claimed:
            raise ConfigError("the trees are not those that were written: the file was changed or cut", path="trees")
        return model

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LtrModel:
        """Read a model that `save` wrote. LightGBM is not needed until the first score.

        Raises:
            ModelLoadError: The file cannot be read, or holds something else; the message names the file and the key.
        """
        file = Path(path)
        try:
            return cls.from_dict(parse_json(file.read_bytes()))
        except OSError as error:
            raise ModelLoadError(f"{file}: cannot read the ltr model: {error.strerror or error}") from error
        except ConfigError as error:
            raise ModelLoadError(f"{file}: {error}") from error
        except ValueError as error:
            raise ModelLoadError(f"{file}: not valid JSON: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as one JSON file, in one step; an existing file is replaced.

        Raises:
            ConfigError: The file cannot be written; an existing file stays as it is.
        """
        write(Path(path), (json.dumps(self.to_dict(), indent=1) + "\n").encode())


def _matrix(rows: Sequence[Sequence[float]]) -> Any:
    import numpy as np

    return np.asarray(rows, dtype=np.float64)
