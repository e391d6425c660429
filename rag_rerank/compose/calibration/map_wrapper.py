"""The base of rerankers with a fitted map: which file it is read from, and whether it belongs to the reranker."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from rag_rerank._lazy import load_once
from rag_rerank.base import Reranker
from rag_rerank.compose.calibration.calibration_map import Provenance
from rag_rerank.compose.wrapper import Wrapper
from rag_rerank.documentation import SCORES
from rag_rerank.errors import CalibrationWarning, ConfigError, caller_stacklevel
from rag_rerank.execution.instruction import instruction_or, without_call_instruction

__all__ = ["CheckedMap", "MapWrapper", "check_has_scores", "model_of"]


class CheckedMap(NamedTuple):
    """A map that was read and checked, with notes for the trace."""

    map: Any
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MapWrapper(Wrapper):
    """A composite around one reranker, with a map that was fitted on its scores.

    Args:
        map: The path of the map's file, which is read at first use, or the map.

    Raises:
        ConfigError: The reranker gives places and no scores, its scale is not the map's, or the map's file cannot be
            used.
    """

    map_class: ClassVar[type[Any]]
    """The class of the map, with ``fitted``, ``shape`` and ``load``."""

    refit: ClassVar[str]
    """What to do where the map belongs to another reranker: the command that fits one."""

    map: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        check_has_scores(self.reranker)
        if isinstance(self.map, self.map_class):
            self._check_scale(self.map.fitted)
        elif not isinstance(self.map, (str, os.PathLike)):
            article = "an" if self.map_class.__name__[0] in "AEIOU" else "a"
            name = f"{article} {self.map_class.__name__}"
            raise ConfigError(f"expected a path or {name}, got {type(self.map).__name__}", path="map")
        else:
            object.__setattr__(self, "map", os.fspath(self.map))

    def warm_up(self) -> None:
        """Load the reranker and the map, and check whether they belong together."""
        super().warm_up()
        _ = self._ready

    def _identity_facts(self) -> Mapping[str, Any]:
        """Return the numbers of the map; its path and its provenance change nothing in an answer."""
        return {"map": self._map.shape}

    @load_once
    def _map(self) -> Any:
        loaded = self.map if isinstance(self.map, self.map_class) else self.map_class.load(self.map)
        self._check_scale(loaded.fitted)
        return loaded

    @load_once
    def _ready(self) -> CheckedMap:
        with without_call_instruction():  # the answer is kept for all calls
            identity = self.reranker.identity
        if self._map.fitted.identity == identity:
            return CheckedMap(self._map, ())
        doubt = self._doubt(self._map.fitted)
        warnings.warn(f"{self.label}: {doubt}", CalibrationWarning, stacklevel=caller_stacklevel())
        return CheckedMap(self._map, (doubt,))

    def _notes_of_call(self, ready: CheckedMap) -> tuple[str, ...]:
        """Return the notes of the map, and one on an instruction of this call that the fit did not have."""
        if ready.notes or instruction_or(None) is None or self.reranker.identity == ready.map.fitted.identity:
            return ready.notes
        return (f"the map was fitted without the instruction of this call; probabilities may be off. {self.refit}",)

    def _check_scale(self, fitted: Provenance) -> None:
        if fitted.scale != self.reranker.scale:
            raise ConfigError(
                f"the map was fitted on {fitted.reranker}, whose scores are {fitted.scale}; those of "
                f"{self.reranker.label} are {self.reranker.scale}. {self.refit}",
                path="map",
            )

    def _doubt(self, fitted: Provenance) -> str:
        """Return the warning that the map was fitted on another reranker than this one."""
        was = _full_name(fitted.reranker, fitted.model)
        now = _full_name(self.reranker.label, model_of(self.reranker))
        same = " (the same names, but other files or settings)" if was == now else ""
        return (
            f"the map was fitted on {was} on {fitted.date}, and the scores are from {now}{same}; the probabilities may "
            f"be off. {self.refit}"
        )


def check_has_scores(reranker: Reranker) -> None:
    """Raise `ConfigError` for a reranker that gives places and no scores, from which no probability follows."""
    if reranker.scale == "rank":
        raise ConfigError(
            f"{reranker.label} gives places and no scores, and the first place says nothing of relevance",
            path="reranker",
            page=SCORES,
        )


def model_of(reranker: Reranker) -> str | None:
    """Return the model of a reranker with its revision; ``None`` where it has none."""
    return getattr(reranker, "model_id", None)


def _full_name(label: str, model: str | None) -> str:
    return f"{label}, model {model}," if model else label
