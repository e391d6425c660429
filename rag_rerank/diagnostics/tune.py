"""Find the fastest settings of a local reranker on this machine by measuring them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from rag_rerank.agreement import Agreement, compare
from rag_rerank.backends.local.base import Engine, LocalReranker
from rag_rerank.backends.local.cpu import cores
from rag_rerank.backends.local.samples import TOLERANCE
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.backends.torch import TorchReranker
from rag_rerank.diagnostics.bench import Bench, LoadedBench, Timing, interleave
from rag_rerank.diagnostics.sample_texts import SampleQuestion, as_read
from rag_rerank.errors import ConfigError, InputError, ModelLoadError

__all__ = ["Report", "Setting", "TunedSetting", "tune"]


class Setting(NamedTuple):
    """What is chosen; ``workers`` and ``threads`` are ``None`` for a reranker that has none."""

    workers: int | None
    threads: int | None
    batch_tokens: int

    def changes(self, present: Setting) -> dict[str, Any]:
        """Return the fields to set where another setting is present; the layout as a whole or not at all."""
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
        """Whether the scores are those of the present setting, within what fp32 rounds."""
        return self.moved <= TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**self.setting._asdict(), "seconds": self.timing.to_dict(), "moved": self.moved}


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `tune` found.

    Args:
        reranker: The reranker as it was given.
        tuned: The same with the chosen settings; equal where the present ones stay.
        texts: On how many texts it was measured.
        layouts: ``workers`` and ``threads`` compared, at the present ``batch_tokens``.
        budgets: ``batch_tokens`` compared, at the best layout. Times of different comparisons are not comparable.
        present: The present setting, in the last comparison.
        chosen: The chosen setting, in the last comparison; the same as ``present`` where that stays.
        int8: For information: time in 8 bits in the last comparison, and the agreement of its scores with fp32;
            ``None`` where it cannot be had or is what the reranker has already.
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
        """The fields that the choice sets, with their values; empty where the present setting stays."""
        return self.chosen.setting.changes(self.present.setting)

    @property
    def gain(self) -> float:
        """How many times as fast the choice is as the present setting; 1 where that stays."""
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
"""Threads of one batch that are tried, beside all cores."""

_BUDGETS = {"onnx": (128, 256, 512, 1024, 2048), "torch": (512, 1024, 2048, 4096, 8192)}
"""Token slots of one batch that are tried."""

_ROUNDS = (5, 15)
"""Rounds of one comparison: at least, at most."""

_PROBE, _FEWEST = 8, 16
"""Texts on which the first time is taken, and the fewest on which settings are compared."""


def tune(
    reranker: LocalReranker,
    query: str,
    texts: Sequence[str],
    *,
    seconds: float = 60.0,
    progress: Callable[[float], None] | None = None,
    bench: Bench | None = None,
) -> Report:
    """Measure which ``workers``, ``threads`` and ``batch_tokens`` answer one call soonest on this machine.

    First layouts (``workers`` times ``threads`` within the cores) are compared, then budgets at the best layout, then
    the outcome with the present setting. In each comparison all settings run in turn, in rounds, after a run that does
    not count; a setting is better only if its median is smaller by more than the larger of the two spreads and its
    scores are the same. For ``torch`` only ``batch_tokens`` is compared. As many copies of the model are loaded at a
    time as there are layouts, at least three.

    Args:
        reranker: A local reranker on a CPU. Neither it nor what it has loaded is touched.
        query: A query such as yours.
        texts: Texts such as yours, cut where they do not fit, whatever ``on_overflow`` says; where they would take too
            long, fewer of them are used, of all lengths.
        seconds: About how long to measure; loading comes on top, and a slow model takes longer.
        progress: Is told the share that is done, from 0 to 1.
        bench: Where rerankers are run; by default here and now.

    Raises:
        ConfigError: The reranker does not compute on a CPU, or is of a kind whose settings are not known here.
        InputError: There is no text, or only blank ones; or ``seconds`` is not positive.
        RerankError: Whatever loading and scoring raise.
    """
    asked = as_read(query, texts)
    if not asked.texts:
        raise InputError("tuning needs a query and at least one text that is not blank")
    if not seconds > 0:
        raise InputError(f"seconds must be positive, got {seconds}")
    if bench is not None:
        return _Tuning(reranker, asked, seconds, progress, bench).report()
    with LoadedBench() as own:
        return _Tuning(reranker, asked, seconds, progress, own).report()


class _Tuning:
    def __init__(
        self,
        reranker: LocalReranker,
        asked: SampleQuestion,
        seconds: float,
        progress: Callable[[float], None] | None,
        bench: Bench,
    ) -> None:
        self.given = reranker
        self.reranker = reranker = replace(reranker, on_overflow="truncate")
        self.bench = bench
        self.seconds = seconds
        self.spent = 0.0
        self.progress = progress or (lambda share: None)
        engine = bench.engine(reranker)
        _check_on_cpu(reranker, engine)
        self.present = _present(reranker, engine)
        self.layouts = _first(self.present, _layouts(self.present))
        self.budgets = sorted({self.present.batch_tokens, *_BUDGETS[reranker.kind]})
        self.share = seconds / (len(self.layouts) + len(self.budgets) + 3)  # three meet in the last comparison
        self.asked = self.fitting(asked)
        self.wanted: Sequence[float] = ()
        self.int8: tuple[Timing, Agreement] | None = None

    def report(self) -> Report:
        layouts = self.compare(self.layouts) if len(self.layouts) > 1 else ()
        best = _best(layouts).setting if layouts else self.present
        budgets = self.compare(_first(best, (best._replace(batch_tokens=budget) for budget in self.budgets)))
        best = _best(budgets).setting
        eight = self.eight_bit(best)
        last = self.compare(_first(self.present, [best]), eight)
        chosen = _best(last)
        return Report(
            reranker=self.given,
            tuned=replace(self.given, **chosen.setting.changes(self.present)),
            texts=len(self.asked.texts),
            layouts=_by_setting(layouts),
            budgets=_by_setting(budgets),
            present=last[0],
            chosen=chosen,
            int8=self.int8,
        )

    def with_(self, setting: Setting) -> LocalReranker:
        return replace(self.reranker, **setting.changes(self.present))

    def eight_bit(self, setting: Setting) -> LocalReranker | None:
        """Return the same in int8 to compare with, or ``None`` where it cannot be had."""
        reranker = self.with_(setting)
        if not (isinstance(reranker, OnnxReranker) and reranker.precision == "fp32" and reranker.optimize):
            return None
        eight = replace(reranker, precision="int8")
        try:
            self.bench.engine(eight)
        except ModelLoadError:  # nothing in its graph can be computed in int8; in fp32 it has been loaded
            return None
        return eight

    def compare(self, settings: Sequence[Setting], eight: LocalReranker | None = None) -> tuple[TunedSetting, ...]:
        """Measure settings against each other; the first one's scores are those that all should have."""
        rerankers = [self.with_(setting) for setting in settings] + ([eight] if eight else [])
        self.bench.keep([self.reranker, *rerankers])
        warm = [self.run(reranker) for reranker in rerankers]
        scores = [values for _, values in warm]
        self.wanted = self.wanted or scores[0]
        fewest, most = _ROUNDS
        rounds = int(self.share * len(rerankers) / (sum(seconds for seconds, _ in warm) or 1e-9)) - 1
        timings = interleave(
            [lambda r=reranker: self.run(r)[0] for reranker in rerankers],  # type: ignore[misc]
            min(most, max(fewest, rounds)),
        )
        if eight:
            self.int8 = timings[-1], compare([self.wanted], [scores[-1]])
        return tuple(
            TunedSetting(setting=setting, timing=timing, moved=compare([self.wanted], [values]).relative)
            for setting, timing, values in zip(settings, timings, scores, strict=False)
        )

    def run(self, reranker: LocalReranker, asked: SampleQuestion | None = None) -> tuple[float, Sequence[float]]:
        seconds, values = self.bench.run(reranker, asked or self.asked)
        self.spent += seconds
        self.progress(min(1.0, self.spent / self.seconds))
        return seconds, values

    def fitting(self, asked: SampleQuestion) -> SampleQuestion:
        """Return as many of the texts as can be scored often enough in the time given."""
        probe = _thinned(asked, _PROBE)
        self.run(self.reranker, probe)
        seconds, _ = self.run(self.reranker, probe)
        expected = seconds * sum(map(len, asked.texts)) / sum(map(len, probe.texts))
        affordable = self.share / (_ROUNDS[0] + 1)
        return _thinned(asked, max(_FEWEST, int(len(asked.texts) * affordable / (expected or 1e-9))))


def _check_on_cpu(reranker: LocalReranker, engine: Engine) -> None:
    if isinstance(reranker, OnnxReranker):
        device = "cpu" if reranker.providers == ("CPUExecutionProvider",) else ", ".join(reranker.providers)
    elif isinstance(reranker, TorchReranker):
        device = str(getattr(engine, "device", "cpu"))
    else:
        raise ConfigError(f"{reranker.label}: the settings of {reranker.kind!r} are not known to tune")
    if device.partition(":")[0] != "cpu":
        raise ConfigError(f"{reranker.label} computes on {device}; tune measures settings of a CPU only")


def _present(reranker: LocalReranker, engine: Engine) -> Setting:
    budget = reranker.batch_tokens or engine.batch_tokens
    if isinstance(reranker, OnnxReranker):
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
    """Return the fastest whose scores are the first one's, or the first if none is faster by more than the spread."""
    present = measured[0]
    better = [row for row in measured if row.exact and row.timing.faster_than(present.timing)]
    return min(better, key=lambda row: row.timing.median, default=present)


def _by_setting(measured: Sequence[TunedSetting]) -> tuple[TunedSetting, ...]:
    return tuple(sorted(measured, key=lambda row: row.setting))


def _thinned(asked: SampleQuestion, count: int) -> SampleQuestion:
    """Return ``count`` of the texts, in their order, evenly spaced by length."""
    texts = asked.texts
    if len(texts) <= count:
        return asked
    by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    kept = {by_length[(2 * i + 1) * len(texts) // (2 * count)] for i in range(count)}
    return SampleQuestion(asked.query, tuple(texts[i] for i in sorted(kept)))
