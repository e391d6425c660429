"""Check on real text that a model, as it runs, gives the logits of its own graph, and how far int8 agrees with fp32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rag_rerank.agreement import Agreement, compare
from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.backends.local.base import LocalReranker
from rag_rerank.backends.local.onnx_graphs.build import OWN_GRAPH
from rag_rerank.backends.local.samples import TOLERANCE
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.diagnostics.bench import Bench, LoadedBench, Timing, interleave
from rag_rerank.diagnostics.sample_texts import SampleQuestion, as_read
from rag_rerank.errors import InputError
from rag_rerank.execution.progress import Progress, progress_to

__all__ = ["Check", "check"]

_ROUNDS = 5


@dataclass(frozen=True, kw_only=True)
class Check:
    """The outcome of `check` for one model.

    Args:
        model: The model, with its revision.
        written_anew: Whether its graph could be rewritten; otherwise ONNX Runtime optimised the model's own.
        reason: Why it could not, as the note in the trace says; empty where it could.
        optimised: The optimised fp32 graph, compared with the model's own.
        int8: The optimised int8 graph, compared with the optimised fp32 graph. For ``late_interaction``, vectors of
            texts in int8, compared with those in fp32.
        own_time: Wall time of the model's own graph for the texts of the first query.
        fp32_time: The same of the optimised fp32 graph.
        int8_time: The same of the optimised int8 graph.
    """

    model: str
    written_anew: bool
    reason: str
    optimised: Agreement
    int8: Agreement
    own_time: Timing
    fp32_time: Timing
    int8_time: Timing

    @property
    def passed(self) -> bool:
        """Whether the optimised fp32 graph gives the model's own logits within 1e-4 (relative beyond -1..1)."""
        return self.optimised.relative <= TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; times in seconds."""
        return {
            "model": self.model,
            "graph": "written anew" if self.written_anew else "own",
            "reason": self.reason,
            "passed": self.passed,
            "optimised": self.optimised.to_dict(),
            "int8": self.int8.to_dict(),
            "seconds": {
                "own": self.own_time.to_dict(),
                "fp32": self.fp32_time.to_dict(),
                "int8": self.int8_time.to_dict(),
            },
            "speed": {
                "optimised": self.own_time.median / self.fp32_time.median,
                "int8": self.fp32_time.median / self.int8_time.median,
            },
        }


def check(
    reranker: OnnxReranker | LateInteractionReranker,
    queries: Sequence[tuple[str, Sequence[str]]],
    *,
    progress: Progress | bool | None = None,
    bench: Bench | None = None,
) -> Check:
    """Score the same texts with a model's own graph, its optimised graph, and its int8 graph, and compare.

    All three are timed in turn on the texts of the first query. Texts that do not fit are cut; for
    ``late_interaction``, which cuts elsewhere, they are left out.

    Args:
        reranker: Names the model; its ``precision``, ``optimize`` and ``store`` do not matter.
        queries: Pairs of a query and its texts. Blank texts are left out, and so is a query that is blank.
        progress: Called with the share that is done, from 0 to 1; ``True`` for a bar on stderr, if that is a terminal.
        bench: Runs the rerankers; by default in this process.

    Raises:
        InputError: There is nothing to score.
        RerankError: Loading or scoring failed.
    """
    questions = [question for query, texts in queries if (question := as_read(query, texts)).texts]
    if not questions:
        raise InputError("checking needs a query with at least one text that is not blank")
    with progress_to(progress, f"checking {reranker.label}") as show:
        if bench is not None:
            return _check(reranker, questions, show, bench)
        with LoadedBench() as loaded_bench:
            return _check(reranker, questions, show, loaded_bench)


def _check(
    reranker: OnnxReranker | LateInteractionReranker,
    questions: Sequence[SampleQuestion],
    progress: Progress,
    bench: Bench,
) -> Check:
    graphs = _graphs(reranker)
    plain = graphs[1]
    if isinstance(reranker, LateInteractionReranker):
        questions = _read_whole(graphs[0], questions)
    total = len(graphs) * (len(questions) + _ROUNDS)
    done = 0

    def run(graph: LocalReranker, question: SampleQuestion) -> tuple[float, Sequence[float]]:
        nonlocal done
        done += 1
        progress(done / total)
        return bench.run(graph, question)

    own, fp32, int8 = ([run(graph, question)[1] for question in questions] for graph in graphs)
    times = interleave([lambda g=graph: run(g, questions[0])[0] for graph in graphs], _ROUNDS)  # type: ignore[misc]
    reason = next((note for note in bench.engine(plain).notes if note.startswith(OWN_GRAPH)), "")
    return Check(
        model=plain.model_id,
        written_anew=not reason,
        reason=reason,
        optimised=compare(own, fp32),
        int8=compare(fp32, int8),
        own_time=times[0],
        fp32_time=times[1],
        int8_time=times[2],
    )


def _graphs(reranker: OnnxReranker | LateInteractionReranker) -> tuple[LocalReranker, LocalReranker, LocalReranker]:
    """Return the model's own graph, the model as it runs in fp32, and in int8; none refuses anything."""
    tolerant: dict[str, Any] = {
        "on_overflow": "truncate",
        "on_long_query": "truncate",
        "on_unreadable": "score",
    }
    if isinstance(reranker, LateInteractionReranker):
        late = replace(reranker, store=None, precision="fp32", **tolerant)
        same = {name: getattr(reranker, name) for name in ("model", "revision", "max_length")}
        return OnnxReranker(**same, optimize=False, **tolerant), late, replace(late, precision="int8")
    plain = replace(reranker, precision="fp32", optimize=True, **tolerant)
    return replace(plain, optimize=False), plain, replace(plain, precision="int8")


def _read_whole(own: LocalReranker, questions: Sequence[SampleQuestion]) -> list[SampleQuestion]:
    """Return the questions with the texts that fit into one window with their query.

    Raises:
        InputError: There are none.
    """
    whole = []
    with replace(own) as counter:
        for query, texts in questions:
            limits = counter.text_limits(query)
            fitting = tuple(text for text in texts if not any(limit.excess(text) for limit in limits))
            whole += [SampleQuestion(query, fitting)] if fitting else []
    if not whole:
        raise InputError("no text fits into the window with its query; check with shorter texts")
    return whole
