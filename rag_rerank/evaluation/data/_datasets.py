"""Collections by their name in ir_datasets."""

from __future__ import annotations

from collections.abc import Collection as Ids
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rag_rerank._extras import need
from rag_rerank.errors import InputError
from rag_rerank.evaluation.data._collections import Text
from rag_rerank.evaluation.data._problems import Problems
from rag_rerank.evaluation.data._rows import Judgments, Run, as_grade

__all__ = ["Dataset"]


@dataclass(frozen=True)
class Dataset:
    """A dataset of ir_datasets; its files are fetched by ir_datasets on first use."""

    name: str
    problems: Problems = field(repr=False)
    dataset: Any = field(repr=False)

    @classmethod
    def load(cls, name: str, problems: Problems) -> Dataset:
        """Find a dataset.

        Raises:
            InputError: There is none of that name, or it has no documents or no queries.
            MissingExtraError: ir_datasets is not installed.
        """
        try:
            dataset = need("ir_datasets", extra="datasets").load(name)
        except KeyError as error:
            raise InputError(f"ir_datasets knows no dataset {name!r}") from error
        for part in ("docs", "queries"):
            if not dataset.has(part):
                raise InputError(f"the dataset {name!r} has no {part}")
        return cls(name, problems, dataset)

    def queries(self) -> Iterator[Text]:
        """Yield its queries."""
        for number, query in enumerate(self._told(lambda: self.dataset.queries_iter()), start=1):
            yield _text(query, "query_id", f"{self.name} queries:{number}")

    def corpus(self) -> Iterator[tuple[str, str]]:
        """Yield id and text of all its documents."""
        return ((row.doc_id, _text(row, "doc_id", "").text) for row in self._told(lambda: self.dataset.docs_iter()))

    def documents(self, ids: Ids[str]) -> Iterator[Text]:
        """Look documents up."""
        for row in self._told(lambda: self.dataset.docs_store().get_many_iter(sorted(ids))):
            yield _text(row, "doc_id", f"{self.name} docs")

    def judgments(self) -> Judgments:
        """Return its qrels."""
        if not self.dataset.has("qrels"):
            raise InputError(f"the dataset {self.name!r} has no qrels; name the judgments with qrels")
        if "relevance" not in self.dataset.qrels_cls()._fields:
            raise InputError(f"the qrels of {self.name!r} have no relevance; name other judgments with qrels")
        judgments = Judgments(f"{self.name} qrels", self.problems)
        for number, row in enumerate(self._told(lambda: self.dataset.qrels_iter()), start=1):
            judgments.add(row.query_id, row.doc_id, as_grade(row.relevance, f"{judgments.name}:{number}"), number)
        return judgments

    def run(self) -> Run | None:
        """Return its scoreddocs."""
        if not self.dataset.has("scoreddocs"):
            return None
        run = Run(f"{self.name} scoreddocs", self.problems)
        for number, row in enumerate(self._told(lambda: self.dataset.scoreddocs_iter()), start=1):
            run.add(row.query_id, row.doc_id, float(row.score), None, number)
        return run

    def _told(self, rows: Any) -> Iterable[Any]:
        """Yield rows; what keeps ir_datasets from reading or fetching them is an error of ours."""
        try:
            yield from rows()
        except (OSError, RuntimeError) as error:
            raise InputError(f"ir_datasets cannot read {self.name!r}: {error}") from error


def _text(row: Any, key: str, place: str) -> Text:
    """Turn a named tuple of ir_datasets into a text; its plain fields besides id, title and text are metadata."""
    fields = row._asdict()
    kept = {k: v for k, v in fields.items() if k not in (key, "title", "text") and isinstance(v, (str, int, float))}
    return Text(fields[key], row.default_text(), kept, place)
