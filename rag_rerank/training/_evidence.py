"""What a model card shows for what it says: leakage, figures, and how far scores are probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rag_rerank.compose import Fit
from rag_rerank.training._shown import shown, table, words
from rag_rerank.training.card import Card, Figure

__all__ = ["calibration", "contamination", "figures"]


def contamination(card: Card) -> Iterator[str]:
    yield "## Evaluation text in the training text"
    if card.contamination is None:
        yield "Nobody looked for it. Figures on collections whose text was trained on say nothing."
        return
    if not card.contamination:
        yield "It was looked for in no collection."
        return
    keys = list(dict.fromkeys(key for row in card.contamination for key in row if key not in ("fingerprint", "first")))
    rows = [tuple(words(row.get(key)) for key in keys) for row in card.contamination]
    yield (
        "Exact copies and near duplicates were looked for in the collections below, and counted. What stands under "
        "*left out* was not trained on; where that is queries alone, passages were: the model knows that corpus."
    )
    yield table(keys, rows)


def figures(figures: Sequence[Figure]) -> Iterator[str]:
    yield "## How good it is"
    if not figures:
        yield "Nobody measured it. Do so on your own queries before you rely on it: `rag-rerank eval`."
        return
    rows = [
        (
            figure.data,
            "" if figure.queries is None else f"{figure.queries:,}",
            figure.measure,
            "" if figure.before is None else f"{figure.before:.3f} ({figure.baseline})",
            f"{figure.after:.3f}",
            _difference(figure),
        )
        for figure in figures
    ]
    yield table(("data", "queries", "measure", "before", "after", "difference (95 % interval)"), rows)


def _difference(figure: Figure) -> str:
    mean = "" if figure.before is None else f"{figure.after - figure.before:+.3f}"
    between = "" if figure.interval is None else " ({:+.3f} to {:+.3f})".format(*figure.interval)
    return (mean + between).strip()


def calibration(card: Card) -> Iterator[str]:
    yield "## Scores as probabilities"
    fitted = card.calibration
    if isinstance(fitted, str):
        yield (
            f"There is no `calibration.json`: {shown(fitted).rstrip('.')}. Scores order the candidates of a query; a "
            "threshold on them means nothing until you fit a map on your own judgments: `rag-rerank calibrate`."
        )
        return
    yield (
        "`calibration.json` makes probabilities of relevance of the scores of `onnx:DIR`, and `int8/calibration.json` "
        f"of those of `onnx:DIR/int8`. They were fitted on {fitted.pairs:,} judged candidates of {fitted.queries:,} "
        f"queries ({shown(fitted.data)}), of which {fitted.prior:.1%} are relevant, and are right where that share is "
        "the same. How far they are probabilities (0 is best), for `onnx:DIR`:"
    )
    fits = [("scores as they are", fitted.before), ("probabilities, on queries that were not fitted on", fitted.after)]
    yield table(("", "ECE", "Brier", "log loss"), [(name, *_fit(fit)) for name, fit in fits if fit is not None])


def _fit(fit: Fit) -> tuple[str, str, str]:
    return f"{fit.ece:.3f}", f"{fit.brier:.3f}", f"{fit.log_loss:.3f}"
