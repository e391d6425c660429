"""Write the README.md of a model: its card in words and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rag_rerank.compose import FitQuality
from rag_rerank.training.model_card.card import Card, Figure, TeacherFacts
from rag_rerank.training.model_card.licences import hub_id
from rag_rerank.training.model_card.redaction import format_command, format_table, format_value, redact

__all__ = ["render"]

_TAGS = ("rag-rerank", "reranker", "cross-encoder", "sentence-transformers", "onnx")


def render(card: Card) -> str:
    """Return the ``README.md`` of a model: front matter of the Hugging Face Hub, and the card in words.

    Whatever the card's fields hold, the text contains no path that leads out of the working directory, no user name and
    no key. The licences of base, teacher and training text are listed as they are named; none is interpreted.
    """
    parts = (
        _front_matter(card),
        f"# {redact(card.name)}",
        redact(card.use),
        *_usage(card),
        *_model(card),
        *_licences(card),
        *_sources(card),
        *_contamination(card),
        *_figures(card.figures),
        *_calibration(card),
        *_training(card),
        *_limits(card),
    )
    return "\n\n".join(parts) + "\n"


def _front_matter(card: Card) -> str:
    import yaml

    licence_id = hub_id(card.licence)
    data: dict[str, Any] = {"license": licence_id or ("other" if card.licence else "unknown")}
    if card.licence and not licence_id:
        data["license_name"] = redact(card.licence).lower().replace(" ", "-")
    if card.base and _is_on_hub(card.base):
        data["base_model"] = card.base
    if card.languages:
        data["language"] = list(card.languages)
    data |= {"library_name": "sentence-transformers", "pipeline_tag": "text-ranking", "tags": list(_TAGS)}
    return f"---\n{yaml.safe_dump(data, sort_keys=False, allow_unicode=True)}---"


def _is_on_hub(base: str) -> bool:
    """Whether a name can be that of a repository, and is not that of a folder here."""
    owner, slash, name = base.partition("/")
    return bool(slash and owner and name) and "/" not in name and redact(base) == base and not Path(base).exists()


def _usage(card: Card) -> Iterator[str]:
    yield "## Use"
    yield (
        "`DIR` is the folder of this card. `onnx:DIR` needs no torch, `onnx:DIR/int8` needs a quarter of its space, "
        "and `torch:DIR` can use a GPU."
    )
    yield f"```python\n{_snippet(card)}\n```"
    if card.measured and card.measured.ours:
        yield "Its architecture is rag-rerank's own: other programs can read the ONNX files only."
    else:
        yield (
            '`sentence_transformers.CrossEncoder("DIR")` reads it too, with the same logits for pairs within the '
            "window."
        )


def _snippet(card: Card) -> str:
    calibrated = (
        "reranker = rag_rerank.build(",
        '    {"type": "calibrated", "reranker": "onnx:DIR", "map": "DIR/calibration.json"}',
        ')  # scores are probabilities of relevance; those of rag_rerank.build("onnx:DIR") are not',
    )
    plain = ('reranker = rag_rerank.build("onnx:DIR")',)
    lines = (
        "import rag_rerank",
        "",
        *(plain if isinstance(card.calibration, str) else calibrated),
        'for hit in reranker.rerank("a question", ["a passage", "another"]):',
        "    print(hit.score, hit.text)",
    )
    return "\n".join(lines)


def _model(card: Card) -> Iterator[str]:
    yield "## Model"
    revision = f" at revision {redact(card.base_revision)}" if card.base_revision else ""
    base = f"{redact(card.base)}{revision}" if card.base else "random weights"
    rows = [("initialised from", base), ("languages", ", ".join(card.languages) or "not stated")]
    if (measured := card.measured) is not None:
        rows += [
            ("parameters", f"{measured.parameters / 1e6:.1f} M"),
            ("window", f"{measured.window:,} tokens, for query, text and special tokens together"),
            *((f"`{file}`", f"{size / 1e6:.1f} MB") for file, size in measured.bytes.items()),
            *(
                (
                    f"logits of `{folder}/`",
                    f"differ from PyTorch's by at most {worst:.1e} on {measured.pairs} sample pairs",
                )
                for folder, worst in measured.differences.items()
            ),
        ]
    yield format_table(("", ""), rows)


def _licences(card: Card) -> Iterator[str]:
    yield "## Licence"
    if card.licence:
        yield f"The weights are declared as {redact(card.licence)}."
    else:
        yield "No licence is declared for the weights. Ask their author before you use them."
    rows = [(f"{kind} {name}", licence or "not stated") for kind, name, licence in _ingredients(card)]
    if rows:
        yield "The model was made from the following. Whether their licences allow your use is for you to check."
        yield format_table(("made from", "licence"), rows)


def _ingredients(card: Card) -> Iterator[tuple[str, str, str | None]]:
    """Yield what the model was made from: its kind, its name and its licence."""
    if card.base:
        yield "base", card.base, card.base_licence
    if card.teacher:
        yield (
            "teacher",
            card.teacher.name,
            card.teacher.licence or ("its provider's terms" if card.teacher.remote else None),
        )
    for source in card.sources:
        yield "text", source.name, source.licence


def _sources(card: Card) -> Iterator[str]:
    yield "## Training text"
    rows = [
        (s.name, s.licence or "not stated", f"{s.queries:,}", f"{s.pairs:,}", f"`{s.sha256[:16]}`")
        for s in card.sources
    ]
    yield format_table(("source", "licence", "queries", "pairs", "SHA-256"), rows) if rows else "Not stated."
    if card.teacher is not None:
        yield " ".join(_teacher(card.teacher))


def _teacher(teacher: TeacherFacts) -> Iterator[str]:
    pairs = f" of {teacher.pairs:,} pairs of query and passage" if teacher.pairs is not None else ""
    yield f"The model learned from scores{pairs} by {redact(teacher.name)}."
    if teacher.remote:
        yield (
            "That is a provider's model. **A provider's terms may forbid training a model on its answers, using such a "
            "model, or passing it on:** read them before you do."
        )
    elif teacher.licence:
        yield f"The licence of that model: {redact(teacher.licence)}."
    else:
        yield "The licence of that model is not stated. It may restrict models that learn from it."


def _contamination(card: Card) -> Iterator[str]:
    yield "## Evaluation text in the training text"
    if card.contamination is None:
        yield (
            "The training text was not searched for text of evaluations. Figures on a collection whose text was "
            "trained on are meaningless."
        )
        return
    if not card.contamination:
        yield "The training text was compared with no collection."
        return
    keys = list(dict.fromkeys(key for row in card.contamination for key in row if key not in ("fingerprint", "first")))
    rows = [tuple(format_value(row.get(key)) for key in keys) for row in card.contamination]
    yield (
        "The training text was searched for exact copies and near duplicates of these collections. The column *left "
        "out* says what was removed before training. Where only queries were removed, the model may have been trained "
        "on the collection's passages."
    )
    yield format_table(keys, rows)


def _figures(figures: Sequence[Figure]) -> Iterator[str]:
    yield "## Quality"
    if not figures:
        yield "It was not measured. Measure it on your own queries before you rely on it: `rag-rerank eval`."
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
    yield format_table(("data", "queries", "measure", "before", "after", "difference (95 % interval)"), rows)


def _difference(figure: Figure) -> str:
    mean = "" if figure.before is None else f"{figure.after - figure.before:+.3f}"
    interval = "" if figure.interval is None else " ({:+.3f} to {:+.3f})".format(*figure.interval)
    return (mean + interval).strip()


def _calibration(card: Card) -> Iterator[str]:
    yield "## Scores as probabilities"
    provenance = card.calibration
    if isinstance(provenance, str):
        yield (
            f"There is no `calibration.json`: {redact(provenance).rstrip('.')}. Scores order the candidates of a "
            "query. Before you use a threshold, fit a map on your own judgments: `rag-rerank calibrate`."
        )
        return
    yield (
        "`calibration.json` maps the scores of `onnx:DIR` to probabilities of relevance, and `int8/calibration.json` "
        f"those of `onnx:DIR/int8`. The maps were fitted on {provenance.pairs:,} judged candidates of "
        f"{provenance.queries:,} queries ({redact(provenance.data)}), of which {provenance.prior:.1%} are relevant; "
        "they hold where that share is the same. Calibration error of `onnx:DIR` (0 is best):"
    )
    fits = [
        ("scores as they are", provenance.before),
        ("probabilities, on queries outside the fit", provenance.after),
    ]
    yield format_table(
        ("", "ECE", "Brier", "log loss"), [(name, *_errors(fit)) for name, fit in fits if fit is not None]
    )


def _errors(fit: FitQuality) -> tuple[str, str, str]:
    return f"{fit.ece:.3f}", f"{fit.brier:.3f}", f"{fit.log_loss:.3f}"


def _training(card: Card) -> Iterator[str]:
    yield "## Training"
    seed = "" if card.seed is None else f" Seed: {card.seed}."
    yield f"If the folder has a `training.json`, that is the record of the run.{seed}"
    if card.settings:
        rows = [(key, redact(format_value(value))) for key, value in card.settings.items()]
        yield format_table(("setting", "value"), rows)
    if card.commands:
        yield "To repeat it:"
        yield "```sh\n" + "\n".join(map(format_command, card.commands)) + "\n```"


def _limits(card: Card) -> Iterator[str]:
    yield "## Limits"
    window = f" It reads {card.measured.window:,} tokens; of longer texts only the beginning." if card.measured else ""
    limits = (*card.limits, f"It predicts which passage is relevant to a query, not which one is true.{window}")
    yield "\n".join(f"- {redact(limit)}" for limit in limits)
