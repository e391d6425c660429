"""The facts of a model card: what a model is, what it was made from, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rag_rerank.compose import Provenance
from rag_rerank.training.data.examples import Source

__all__ = ["Card", "Figure", "ModelMeasurements", "TeacherFacts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measure of the model on judged queries.

    Args:
        data: Name of the collection.
        measure: Name as in ir-measures, ``"nDCG@10"``.
        after: Mean of the trained model.
        before: Mean of the baseline, on the same queries and candidates.
        baseline: What the baseline is: ``"the base model"``, ``"BM25"``.
        interval: 95 % interval of the mean difference, ``after`` less ``before``, if it is known.
        queries: Number of queries of the mean.
    """

    data: str
    measure: str
    after: float
    before: float | None = None
    baseline: str = "the base model"
    interval: tuple[float, float] | None = None
    queries: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherFacts:
    """The reranker whose scores a model learned from.

    Args:
        name: Its label, ``"cohere:rerank-v3.5"``.
        remote: Whether a provider gave the scores.
        licence: Licence of its weights, if it is known.
        pairs: Number of pairs of query and passage that it scored.
    """

    name: str
    remote: bool
    licence: str | None = None
    pairs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMeasurements:
    """Measurements of a finished folder.

    Args:
        window: Tokens that the model reads at most, of query, text and special tokens together.
        parameters: Number of its weights.
        bytes: File -> its size.
        differences: Folder of an ONNX file -> largest difference of its logits from PyTorch's.
        pairs: Number of sample pairs of query and text that were compared.
        ours: Whether its architecture is rag-rerank's own, so that other programs read the ONNX files only.
    """

    window: int
    parameters: int
    bytes: Mapping[str, int]
    differences: Mapping[str, float]
    pairs: int
    ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The facts of a model card. An unknown fact stays at its default, and the card says that it is not known.

    Args:
        name: The model's name.
        base: Model that it was initialised from: a hub id or another name; ``None`` for random weights.
        base_revision: Commit of the base.
        base_licence: Licence of the base's weights.
        licence: The declared licence of this model's weights.
        languages: Codes of ISO 639-1: ``("en",)``.
        sources: Where the training text comes from.
        contamination: Text of evaluations in the training text: `Leakage.contamination`, one row per collection, even
            if there is none; ``None`` if nothing was searched.
        settings: The settings of the training.
        seed: The seed of the training.
        figures: How good it is.
        teacher: The reranker whose scores it learned from, if there is one.
        use: What it is for, in a sentence or two.
        limits: What it is not for, or not known to do; a sentence each.
        commands: Commands that repeat the training, each as its arguments.
        calibration: What the map in ``calibration.json`` was fitted on, or why there is none. `complete` fills it in.
        measured: Measurements of the finished folder. `complete` fills them in.
    """

    name: str
    base: str | None = None
    base_revision: str | None = None
    base_licence: str | None = None
    licence: str | None = None
    languages: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    contamination: tuple[Mapping[str, Any], ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    figures: tuple[Figure, ...] = ()
    teacher: TeacherFacts | None = None
    use: str = "Orders the candidates of a first stage by their relevance to a query."
    limits: tuple[str, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()
    calibration: Provenance | str = "none was requested"
    measured: ModelMeasurements | None = None
