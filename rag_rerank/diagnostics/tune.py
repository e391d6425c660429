"""Find the fastest settings of a local reranker on this machine by measuring them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from rag_rerank.agreement import Agreement, compare
from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.backends.local.base import LocalReranker
from rag_rerank.backends.local.cpu import cores
from rag_rerank.backends.local.engine import LoadedModel
from rag_rerank.backends.local.samples import TOLERANCE
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.backends.torch import TorchReranker
from rag_rerank.diagnostics.bench import Bench, LoadedBench, Timing, interleave
from rag_rerank.diagnostics.sample_texts import SampleQuestion, as_read
from rag_rerank.errors import ConfigError, InputError, ModelLoadError
from rag_rerank.execution.progress import Progress, progress_to

__all__ = ["Report", "Setting", "TunedSetting", "tune"]


class Setting(NamedTuple):
    """The settings to tune; ``workers`` and ``threads`` are ``None`` for a reranker without these fields."""

    workers: int | None
    threads: int | None
    batch_tokens: int

    def changes(self, present: Setting) -> dict[str, Any]:
        """Return the fields that differ from the present setting; the two fields of the layout go together."""
        layout = {"workers": self.workers, "threads": self.threads} if self[:2] != present[:2] else {}
        budget = {"batch_tokens": self.batch_tokens} if self.batch_tokens != present.batch_tokens else {}
        return layout | budget


@dataclass(frozen=True, kw_only=True)
class TunedSetting:
    """One setting, with its times.

    Args:
        setting: The setting.
        timing: Wall times of one call with all texts.
        moved: Largest difference of a logit from that of the present setting; relative beyond -1..1.
    """

    setting: Setting
    timing: Timing
    moved: float

    @property
    def exact(self) -> bool:
        """Whether the scores are those of the present setting, up to fp32 rounding."""
        return self.moved <= TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**self.setting._asdict(), "seconds": self.timing.to_dict(), "moved": self.moved}


@dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome of `tune`.

    Args:
        reranker: The reranker as it was given.
        tuned: The same with the chosen settings; equal if the present ones stay.
        texts: How many texts were used to measure.
        layouts: ``workers`` and ``threads`` compared, at the present ``batch_tokens``.
        budgets: ``batch_tokens`` compared, at the best layout. Times of different comparisons are not comparable.
        present: The present setting, in the last comparison.
        chosen: The chosen setting, in the last comparison; the same as ``present`` if that stays.
        int8: For information: time in 8 bits in the last comparison, and the agreement of its scores with fp32;
            ``None`` if the model cannot compute in int8, or does so already.
    """

    reranker: LocalReranker
    tuned: LocalReranker
    texts: int
    layouts: tuple[TunedSetting, ...]
    budgets: tuple[TunedSetting, ...]
    present: TunedSetting
    chosen: TunedSetting
    int8: tuple[Timing, Agreement] | None

    @property
    def changes(self) -> dict[str, int]:
        """The fields that the choice sets, with their values; empty if the present setting stays."""
        return self.chosen.setting.changes(self.present.setting)

    @property
    def gain(self) -> float:
        """How many times as fast the choice is as the present setting; 1 if that stays."""
        return self.present.timing.median / self.chosen.timing.median

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; seconds, not milliseconds."""
        int8 = self.int8 and {
            "seconds": self.int8[0].to_dict(),
            "gain": self.chosen.timing.median / self.int8[0].median,
            **self.int8[1].to_dict(),
        }
        return {
            "reranker": self.reranker.label,
            "texts": self.texts,
            "layouts": [row.to_dict() for row in self.layouts],
            "budgets": [row.to_dict() for row in self.budgets],
            "present": self.present.to_dict(),
            "chosen": self.chosen.to_dict(),
            "changes": self.changes,
            "gain": self.gain,
            "int8": int8,
        }


_THREADS = (1, 2, 4)
"""Threads of one batch to try, beside all cores."""

_BUDGETS = {
    "onnx": (128, 256, 512, 1024, 2048),
    "late_interaction": (128, 256, 512, 1024, 2048),
    "torch": (512, 1024, 2048, 4096, 8192),
}
"""Token slots of one batch to try."""

_ROUNDS = (5, 15)
"""Minimum and maximum number of rounds of one comparison."""

_FIRST_TEXTS, _FEWEST_TEXTS = 8, 16
"""Number of texts that are timed first, and minimum number of texts in a comparison."""


def tune(
    reranker: LocalReranker,
    query: str,
    texts: Sequence[str],
    *,
    seconds: float = 60.0,
    progress: Progress | bool | None = None,
    bench: Bench | None = None,
) -> Report:
    """Measure which ``workers``, ``threads`` and ``batch_tokens`` answer one call soonest on this machine.

    First layouts (``workers`` times ``threads`` within the cores) are compared, then budgets (``batch_tokens``) at the
    best layout, then the best setting with the present one. In each comparison all settings run in turn, in rounds,
    after a run that does not count; a setting is better only if its median is smaller by more than the larger of the
    two spreads and its scores are the same. For ``torch`` only ``batch_tokens`` is compared. A ``late_interaction``
    reranker is measured without its store, in fp32: what costs time is to encode texts. As many copies of the model are
    loaded at a time as there are layouts, at least three.

    Args:
        reranker: A local reranker on a CPU. It is not changed, and its loaded model is not used.
        query: A typical query.
        texts: Typical texts, cut where they do not fit, whatever ``on_overflow`` says; where they would take too long,
            fewer of them are used, of all lengths.
        seconds: About how long to measure, without loading; a slow model takes longer.
        progress: Called with the share that is done, from 0 to 1; ``True`` for a bar on stderr, if that is a terminal.
        bench: Runs the rerankers; by default in this process.

    Raises:
        ConfigError: The reranker does not compute on a CPU, or is of a kind that cannot be tuned.
        InputError: There is no text, or only blank ones; or ``seconds`` is not positive.
        RerankError: Loading or scoring failed.
    """
    question = as_read(query, texts)
    if not question.texts:
        raise InputError("tuning needs a query and at least one text that is not blank")
    if not seconds > 0:
        raise InputError(f"seconds must be positive, got {seconds}")
    with progress_to(progress, f"measuring {reranker.label}") as show:
        if bench is not None:
            return _Tuning(reranker, question, seconds, show, bench).report()
        with LoadedBench() as loaded_bench:
            return _Tuning(reranker, question, seconds, show, loaded_bench).report()


class _Tuning:
    """One run of `tune`."""

    def __init__(
        self,
        reranker: LocalReranker,
        question: SampleQuestion,
        seconds: float,
        progress: Progress,
        bench: Bench,
    ) -> None:
        self.original = reranker
        if isinstance(reranker, LateInteractionReranker):
            reranker = replace(reranker, store=None, precision="fp32")
        self.reranker = reranker = replace(
            reranker, on_overflow="truncate", on_long_query="truncate", on_unreadable="score"
        )
        self.bench = bench
        self.seconds = seconds
        self.measured_seconds = 0.0
        self.progress = progress
        engine = bench.engine(reranker)
        _check_on_cpu(reranker, engine)
        self.present = _present(reranker, engine)
        self.layouts = _first(self.present, _layouts(self.present))
        self.budgets = sorted({self.present.batch_tokens, *_BUDGETS[reranker.kind]})
        entries = len(self.layouts) + len(self.budgets) + 3  # up to three in the last comparison
        self.seconds_each = seconds / entries
        self.question = self.affordable(question)
        self.reference: Sequence[float] = ()
        self.int8: tuple[Timing, Agreement] | None = None

    def report(self) -> Report:
        layouts = self.compare(self.layouts) if len(self.layouts) > 1 else ()
        best = _best(layouts).setting if layouts else self.present
        budgets = self.compare(_first(best, (best._replace(batch_tokens=budget) for budget in self.budgets)))
        best = _best(budgets).setting
        int8 = self.int8_of(best)
        last = self.compare(_first(self.present, [best]), int8)
        choice = _best(last)
        return Report(
            reranker=self.original,
            tuned=replace(self.original, **choice.setting.changes(self.present)),
            texts=len(self.question.texts),
            layouts=_by_setting(layouts),
            budgets=_by_setting(budgets),
            present=last[0],
            chosen=choice,
            int8=self.int8,
        )

    def with_setting(self, setting: Setting) -> LocalReranker:
        return replace(self.reranker, **setting.changes(self.present))

    def int8_of(self, setting: Setting) -> LocalReranker | None:
        """Return the reranker with this setting in int8, or ``None`` where the model cannot compute in int8."""
        reranker = self.with_setting(setting)
        if not (isinstance(reranker, OnnxReranker) and reranker.precision == "fp32" and reranker.optimize):
            return None
        int8 = replace(reranker, precision="int8")
        try:
            self.bench.engine(int8)
        except ModelLoadError:  # nothing in its graph can be computed in int8; in fp32 it is loaded already
            return None
        return int8

    def compare(self, settings: Sequence[Setting], int8: LocalReranker | None = None) -> tuple[TunedSetting, ...]:
        """Measure settings against each other; all should give the scores of the very first one."""
        rerankers = [self.with_setting(setting) for setting in settings] + ([int8] if int8 else [])
        self.bench.keep([self.reranker, *rerankers])
        warm = [self.run(reranker) for reranker in rerankers]
        scores = [values for _, values in warm]
        self.reference = self.reference or scores[0]
        fewest, most = _ROUNDS
        rounds = int(self.seconds_each * len(rerankers) / (sum(seconds for seconds, _ in warm) or 1e-9)) - 1
        timings = interleave(
            [lambda r=reranker: self.run(r)[0] for reranker in rerankers],  # type: ignore[misc]
            min(most, max(fewest, rounds)),
        )
        if int8:
            self.int8 = timings[-1], compare([self.reference], [scores[-1]])
        return tuple(
            TunedSetting(setting=setting, timing=timing, moved=compare([self.reference], [values]).relative)
            for setting, timing, values in zip(settings, timings, scores, strict=False)
        )

    def run(self, reranker: LocalReranker, question: SampleQuestion | None = None) -> tuple[float, Sequence[float]]:
        seconds, values = self.bench.run(reranker, question or self.question)
        self.measured_seconds += seconds
        self.progress(min(1.0, self.measured_seconds / self.seconds))
        return seconds, values

    def affordable(self, question: SampleQuestion) -> SampleQuestion:
        """Return the question with as many of its texts as can be scored often enough in the time."""
        probe = _thin_out(question, _FIRST_TEXTS)
        self.run(self.reranker, probe)
        seconds, _ = self.run(self.reranker, probe)
        expected = seconds * sum(map(len, question.texts)) / sum(map(len, probe.texts))
        run_seconds = self.seconds_each / (_ROUNDS[0] + 1)
        return _thin_out(question, max(_FEWEST_TEXTS, int(len(question.texts) * run_seconds / (expected or 1e-9))))


def _check_on_cpu(reranker: LocalReranker, engine: LoadedModel) -> None:
    if isinstance(reranker, OnnxReranker):
        device = "cpu" if reranker.providers == ("CPUExecutionProvider",) else ", ".join(reranker.providers)
    elif isinstance(reranker, LateInteractionReranker):
        device = "cpu"
    elif isinstance(reranker, TorchReranker):
        device = str(getattr(engine, "device", "cpu"))
    else:
        raise ConfigError(f"{reranker.label}: tune does not know the settings of {reranker.kind!r}")
    if device.partition(":")[0] != "cpu":
        raise ConfigError(f"{reranker.label} computes on {device}; tune measures settings of a CPU only")


def _present(reranker: LocalReranker, engine: LoadedModel) -> Setting:
    budget = reranker.batch_tokens or engine.batch_tokens
    if isinstance(reranker, (LateInteractionReranker, OnnxReranker)):
        return Setting(engine.workers, reranker.threads, budget)
    return Setting(None, None, budget)


def _layouts(present: Setting) -> list[Setting]:
    """Return layouts that keep the cores busy: from one thread for each batch to all threads for one batch."""
    if present.threads is None:
        return [present]
    count = cores()
    each = sorted({*(threads for threads in _THREADS if threads <= count), count})
    return [Setting(count // threads, threads, present.batch_tokens) for threads in each]


def _first(setting: Setting, others: Iterable[Setting]) -> list[Setting]:
    return list(dict.fromkeys([setting, *others]))


def _best(measured: Sequence[TunedSetting]) -> TunedSetting:
    """Return the fastest with the scores of the first, or the first if none is faster by more than the spread."""
    present = measured[0]
    better = [row for row in measured if row.exact and row.timing.faster_than(present.timing)]
    return min(better, key=lambda row: row.timing.median, default=present)


def _by_setting(measured: Sequence[TunedSetting]) -> tuple[TunedSetting, ...]:
    return tuple(sorted(measured, key=lambda row: row.setting))


def _thin_out(question: SampleQuestion, count: int) -> SampleQuestion:
    """Return ``count`` of the texts, in their order, evenly spaced by length."""
    texts = question.texts
    if len(texts) <= count:
        return question
    by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    positions = {by_length[(2 * i + 1) * len(texts) // (2 * count)] for i in range(count)}
    return SampleQuestion(question.query, tuple(texts[i] for i in sorted(positions)))
