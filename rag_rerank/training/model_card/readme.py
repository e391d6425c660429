"""The README.md of a model: its card in words and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rag_rerank.compose import FitQuality
from rag_rerank.training.model_card.card import Card, Figure, TeacherFacts
from rag_rerank.training.model_card.licences import demands, goes_with, hub_id
from rag_rerank.training.model_card.redaction import command, redacted, table, words

__all__ = ["text"]


def _contamination(card: Card) -> Iterator[str]:
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


def _figures(figures: Sequence[Figure]) -> Iterator[str]:
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


def _calibration(card: Card) -> Iterator[str]:
    yield "## Scores as probabilities"
    fitted = card.calibration
    if isinstance(fitted, str):
        yield (
            f"There is no `calibration.json`: {redacted(fitted).rstrip('.')}. Scores order the candidates of a query; "
            "a threshold on them means nothing until you fit a map on your own judgments: `rag-rerank calibrate`."
        )
        return
    yield (
        "`calibration.json` makes probabilities of relevance of the scores of `onnx:DIR`, and `int8/calibration.json` "
        f"of those of `onnx:DIR/int8`. They were fitted on {fitted.pairs:,} judged candidates of {fitted.queries:,} "
        f"queries ({redacted(fitted.data)}), of which {fitted.prior:.1%} are relevant, and are right where that share "
        "is the same. How far they are probabilities (0 is best), for `onnx:DIR`:"
    )
    fits = [("scores as they are", fitted.before), ("probabilities, on queries that were not fitted on", fitted.after)]
    yield table(("", "ECE", "Brier", "log loss"), [(name, *_fit(fit)) for name, fit in fits if fit is not None])


def _fit(fit: FitQuality) -> tuple[str, str, str]:
    return f"{fit.ece:.3f}", f"{fit.brier:.3f}", f"{fit.log_loss:.3f}"


_TAGS = ("rag-rerank", "reranker", "cross-encoder", "sentence-transformers", "onnx")


def text(card: Card) -> str:
    """Return the ``README.md`` of a model: front matter of the Hugging Face Hub, and the card in words.

    It holds no path that leads out of the working directory, no user name and no key, whatever the card's fields hold.
    Licences are told by their names: where those of the training text or of the base ask for what the declared one does
    not, the card says so, and decides nothing.
    """
    parts = (
        _front_matter(card),
        f"# {redacted(card.name)}",
        _licence_line(card),
        redacted(card.use),
        *_using(card),
        *_model(card),
        *_licences(card),
        *_sources(card),
        *_contamination(card),
        *_figures(card.figures),
        *_calibration(card),
        *_training(card),
        *_limits(card),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(card: Card) -> str:
    import yaml

    known = hub_id(card.licence)
    data: dict[str, Any] = {"license": known or ("other" if card.licence else "unknown")}
    if card.licence and not known:
        data["license_name"] = redacted(card.licence).lower().replace(" ", "-")
    if card.base and _on_hub(card.base):
        data["base_model"] = card.base
    if card.languages:
        data["language"] = list(card.languages)
    data |= {"library_name": "sentence-transformers", "pipeline_tag": "text-ranking", "tags": list(_TAGS)}
    return f"---\n{yaml.safe_dump(data, sort_keys=False, allow_unicode=True)}---"


def _on_hub(base: str) -> bool:
    """Whether a name can be a repository's, and is not that of a folder here."""
    owner, slash, name = base.partition("/")
    return bool(slash and owner and name) and "/" not in name and redacted(base) == base and not Path(base).exists()


def _named_licences(card: Card) -> Iterator[tuple[str, str | None]]:
    """Yield what the model is made of, and its licence."""
    if card.base:
        yield f"the base {_base(card)}", card.base_licence
    if card.teacher and card.teacher.licence:
        yield f"the teacher {redacted(card.teacher.name)}", card.teacher.licence
    for source in card.sources:
        yield redacted(source.name), source.licence


def _licence_line(card: Card) -> str:
    """Return one line on what is bound, or whose licence nobody knows; empty where there is nothing of the kind."""
    found = [
        f"{name} ({redacted(licence or 'no licence named')}: {', '.join(sorted(demands(licence)))})"
        for name, licence in _named_licences(card)
        if demands(licence)
    ]
    return f"> **Licences to look at before use:** {'; '.join(found)}." if found else ""


def _licences(card: Card) -> Iterator[str]:
    yield "## Licence"
    if card.licence:
        yield f"The weights are declared as {redacted(card.licence)}."
    else:
        yield "No licence is declared for the weights: ask who made them before you use them."
    against = [
        f"{name} ({redacted(licence)})"
        for name, licence in _named_licences(card)
        if card.licence and not goes_with(licence, card.licence)
    ]
    if against:
        yield (
            "It asks for less than the licence of some of what the model is made of: "
            f"{'; '.join(against)}. Whether such a licence binds the weights of a model is not decided here: settle it "
            "before you use the model in a product or hand it on."
        )
    unknown = [name for name, licence in _named_licences(card) if "unknown" in demands(licence)]
    if unknown:
        yield f"What {', '.join(unknown)} may be used for cannot be told: no licence is named, or none known here."


def _using(card: Card) -> Iterator[str]:
    yield "## Use"
    yield (
        "`DIR` is the folder of this card. `onnx:DIR` needs no torch, `onnx:DIR/int8` takes a fourth of its space, and "
        "`torch:DIR` can use a GPU."
    )
    yield f"```python\n{_snippet(card)}\n```"
    if card.measured and card.measured.ours:
        yield "Its architecture is one of rag-rerank's own: other programs read the ONNX files."
    else:
        others = '`sentence_transformers.CrossEncoder("DIR")`'
        yield f"{others} reads it too, with the same logits for pairs within the window."


def _snippet(card: Card) -> str:
    calibrated = (
        "reranker = rag_rerank.build(",
        '    {"type": "calibrated", "reranker": "onnx:DIR", "map": "DIR/calibration.json"}',
        ')  # scores are probabilities of relevance; rag_rerank.build("onnx:DIR") gives them as they are',
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
    revision = f" at revision {redacted(card.base_revision)}" if card.base_revision else ""
    licence = redacted(card.base_licence or "not named")
    base = f"{_base(card)}{revision}; licence: {licence}" if card.base else "nothing: its weights were random"
    rows = [("initialised from", base), ("languages", ", ".join(card.languages) or "not told")]
    if (found := card.measured) is not None:
        rows += [
            ("parameters", f"{found.parameters / 1e6:.1f} M"),
            ("window", f"{found.window:,} tokens, for query, text and special tokens together"),
            *((f"`{file}`", f"{size / 1e6:.1f} MB") for file, size in found.bytes.items()),
            *(
                (
                    f"logits of `{folder}/`",
                    f"differ from PyTorch's by at most {worst:.1e} on {found.pairs} sample pairs",
                )
                for folder, worst in found.differences.items()
            ),
        ]
    yield table(("", ""), rows)


def _base(card: Card) -> str:
    return redacted(card.base)


def _sources(card: Card) -> Iterator[str]:
    yield "## Training text"
    rows = [
        (s.name, s.licence or "not named", f"{s.queries:,}", f"{s.pairs:,}", f"`{s.sha256[:16]}`") for s in card.sources
    ]
    yield table(("source", "licence", "queries", "pairs", "SHA-256"), rows) if rows else "Not told."
    if (teacher := card.teacher) is not None:
        yield " ".join(_taught(teacher))


def _taught(teacher: TeacherFacts) -> Iterator[str]:
    pairs = f" of {teacher.pairs:,} pairs of query and passage" if teacher.pairs is not None else ""
    yield f"Scores{pairs} by {redacted(teacher.name)} went into the training."
    if teacher.remote:
        yield (
            "That is a provider's model. **A provider's terms may forbid to make a model from its answers, or to use "
            "such a model or hand it on:** read them before you do."
        )
    elif teacher.licence:
        yield f"The licence of that model: {redacted(teacher.licence)}."
    else:
        yield "The licence of that model is not named; it may have something to say about models that learn from it."


def _training(card: Card) -> Iterator[str]:
    yield "## How it was trained"
    seed = "" if card.seed is None else f" Seed: {card.seed}."
    yield f"The record of the run, where it was kept, is `training.json`.{seed}"
    if card.settings:
        yield table(("setting", "value"), [(key, redacted(words(value))) for key, value in card.settings.items()])
    if card.commands:
        yield "To repeat it:"
        yield "```sh\n" + "\n".join(map(command, card.commands)) + "\n```"


def _limits(card: Card) -> Iterator[str]:
    yield "## Limits"
    window = f" It reads {card.measured.window:,} tokens; of longer texts only the beginning." if card.measured else ""
    limits = (*card.limits, f"It tells which passage is relevant to a query, not which one is true.{window}")
    yield "\n".join(f"- {redacted(limit)}" for limit in limits)
