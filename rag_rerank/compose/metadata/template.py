"""Template: the reranker inside reads chosen metadata together with the text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, NamedTuple

from rag_rerank._lazy import load_once
from rag_rerank.compose.wrapper import Wrapper
from rag_rerank.errors import ConfigError
from rag_rerank.execution.plan import Call, InThread, Plan, PlanResult
from rag_rerank.execution.ranking import place_in_part
from rag_rerank.text.templates import TextTemplate
from rag_rerank.text.tokenizers import TextLimit
from rag_rerank.types import Candidate, Hit, Ranking

__all__ = ["Template"]

CONTENT = "text"
"""The name of the candidate's own text in a template."""

_MANY = 2000
"""Candidates whose texts take some ten milliseconds to make."""


@dataclass(frozen=True, kw_only=True)
class Template(Wrapper):
    r"""A reranker that reads metadata with each text: a title, a date, a source, by a template.

    The template makes the text that is scored, and nothing else changes. Each hit has the caller's own candidate, with
    its own text and metadata. ``hit.window`` and ``hit.spans`` are places in that text: what lies in the metadata is
    left out. ``hit.coverage`` counts the tokens of what was scored, metadata included. A candidate whose own text is
    blank is not scored, unless the template leaves ``{text}`` out.

    A key with dots (``"file.title"``) is first looked up as it is, then as a path into nested metadata. A list is
    joined by commas. What is absent, ``None``, NaN or blank is left out, with the words around it in its line; a line
    of which nothing is left is left out, too. A note in the trace counts the candidates that lack a key.

    The same template stands in ``text`` of the LangChain adapter, where ``{page_content}`` is the text. Use one of the
    two. This type is for config files, for the command line, and where each reranker of a pipeline reads something
    else.

    Metadata differ from text to text, so it is not known how much room they leave for a text. `Windows` around a
    template needs ``tokens`` and a ``tokenizer`` for that reason. Each window is then read with the metadata. Costs
    are estimated without the metadata.

    Args:
        reranker: The reranker that reads the texts that the template makes.
        text: A text with metadata keys in braces and ``{text}`` for the candidate's own text
            (``"Title: {title}\n{text}"``; ``{{`` is a brace), or the metadata keys to read, a line each, before the
            text (``[title, date]``).

    Raises:
        ConfigError: The template has no key in braces, a brace or a key is ill-formed, or it has nothing but
            ``{text}``.
    """

    kind: ClassVar[str] = "template"

    text: str | Sequence[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            template = self._template
        except ConfigError as error:
            raise error.under("text") from error.__cause__
        if not template.keys:
            raise ConfigError(
                "the template reads no metadata, so it changes nothing; name a key, as in '{title}\\n{text}'",
                path="text",
            )

    @property
    def knows_text_limit(self) -> bool:
        """False: the metadata of each candidate take another part of the reranker's window."""
        return False

    def text_limits(self, query: str) -> tuple[TextLimit, ...]:
        """Return nothing, because it is not known; see `knows_text_limit`."""
        return ()

    def texts_within(self, query: str, texts: Sequence[str], seconds: float) -> None:
        """Return ``None``: how long the texts become is not known without their metadata."""

    @load_once
    def _template(self) -> TextTemplate:
        return TextTemplate.parse(self.text, content=CONTENT)

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        work = partial(self._render, candidates)
        rendered: list[_Rendered] = (yield InThread(work)) if len(candidates) > _MANY else work()
        ranking: Ranking = yield Call(self.reranker, query, tuple(item.candidate for item in rendered))
        by_id = {item.original.id: item for item in rendered}
        return PlanResult(
            tuple(by_id[hit.id].take_back(hit) for hit in ranking),
            ranking.scale,
            notes=tuple(self._missing(candidates)),
            substituted=ranking.substituted,
            answerable=ranking.answerable,
        )

    def _render(self, candidates: Sequence[Candidate]) -> list[_Rendered]:
        rendered = []
        for candidate in candidates:
            text, start = self._template.render(candidate.metadata, candidate.text)
            rendered.append(_Rendered(candidate, replace(candidate, text=text), start))
        return rendered

    def _missing(self, candidates: Sequence[Candidate]) -> Iterator[str]:
        """Yield a note for each key that some candidates lack."""
        counts = Counter(key for candidate in candidates for key in self._template.find_missing(candidate.metadata))
        for key in self._template.keys:
            if counts[key]:
                yield f"metadata {key!r}: missing in {counts[key]} of {len(candidates)} candidates, and left out there"


class _Rendered(NamedTuple):
    """A candidate, the one with the text that is scored, and the character in it at which the own text begins."""

    original: Candidate
    candidate: Candidate
    start: int | None

    def take_back(self, hit: Hit) -> Hit:
        """Return a hit of the scored text as one of the candidate, with places in its own text."""
        return place_in_part(hit, self.original, self.start)
