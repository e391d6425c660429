"""What is no list of candidates is refused, and the code in the message makes candidates of it."""

import sqlite3
from collections import OrderedDict, namedtuple
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_rerank import Candidate, InputError, Ranking
from rag_rerank.testing import ScriptedReranker

RERANKER = ScriptedReranker()
RANKING: Ranking = RERANKER.rerank("q", [Candidate("a", "K2")])
Row = namedtuple("Row", ["Index", "text"])


@dataclass
class Passage:
    text: str
    id: int = 7


@dataclass
class Point:
    """As Qdrant returns it."""

    id: int
    score: float
    payload: dict[str, str]


@dataclass
class DocumentWithContent:
    content: str


def sql_row() -> sqlite3.Row:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    row: sqlite3.Row = connection.execute("select '7' as id, 'K2' as text").fetchone()
    connection.close()
    return row


def message_of(candidates: Any) -> str:
    with pytest.raises(InputError) as caught:
        RERANKER.rerank("q", candidates)
    return str(caught.value)


def run_code(message: str, value: Any) -> list[Candidate | str]:
    """Run the code in a message, with the value under each name that the code may use for it."""
    code = message[message.index("[", message.rindex("write ")) :].split(" for texts whose")[0]
    names = ("df", "series", "texts", "rows", "documents", "nodes", "points", "items", "result", "table", "ranking")
    candidates: list[Candidate | str] = eval(code, {"Candidate": Candidate, **dict.fromkeys(names, value)})
    return candidates


WITH_CODE: dict[str, Any] = {
    "a mapping": {"a": "K2", "b": "Garda"},
    "an ordered mapping": OrderedDict(a="K2", b="Garda"),
    "records": [{"id": 1, "text": "K2"}, {"id": 2, "text": "Garda"}],
    "records with other names": [{"doc_id": "a", "content": "K2"}, {"doc_id": "b", "content": "Garda"}],
    "pairs of id and text": [("a", "K2"), ("b", "Garda")],
    "pairs of number and text": [(1, "K2"), (2, "Garda")],
    "pairs of text and score": [("K2", 0.5), ("Garda", 0.25)],
    "pairs of score and text": [(0.5, "K2"), (0.25, "Garda")],
    "rows of three": [("a", "K2", "x"), ("b", "Garda", "y")],
    "lists": [["a", "K2"], ["b", "Garda"]],
    "named tuples": [Row(0, "K2"), Row(1, "Garda")],
    "rows of a database": [sql_row()],
    "objects with a text": [Passage("K2", 1), Passage("Garda", 2)],
    "points": [Point(1, 0.5, {"text": "K2"}), Point(2, 0.25, {"text": "Garda"})],
    "documents with a content": [DocumentWithContent("K2"), DocumentWithContent("Garda")],
    "the result of Chroma": {"ids": [["a", "b"]], "documents": [["K2", "Garda"]], "distances": [[0.5, 0.25]]},
    "a ranking": RANKING,
    "hits": list(RANKING),
}


@pytest.mark.parametrize("name", WITH_CODE)
def test_the_code_in_the_message_makes_candidates(name: str) -> None:
    value = WITH_CODE[name]
    message = message_of(value)
    assert "K2" not in message
    candidates = run_code(message, value)
    assert all(isinstance(candidate, Candidate) for candidate in candidates)
    assert RERANKER.rerank("q", candidates)[0].text == "K2"


def test_tables_are_never_ranked_by_the_names_of_their_columns() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"url": ["x", "y"], "text": ["K2", "Garda"]}, index=["a", "b"])
    for value in (table, table["text"], table[["text"]], list(table.itertuples())):
        candidates = run_code(message_of(value), value)
        assert [candidate.id for candidate in candidates] == ["a", "b"]
        assert [candidate.text for candidate in candidates] == ["K2", "Garda"]
    assert "leave it out" in message_of(["K2", float("nan")])


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_tables_of_other_libraries_are_named(library: str) -> None:
    module = pytest.importorskip(library)
    table = (module.DataFrame if library == "polars" else module.table)({"url": ["x"], "text": ["K2"]})
    (candidate,) = run_code(message_of(table), table)
    assert candidate == Candidate("0", "K2")


def test_documents_and_nodes_are_sent_to_their_adapters() -> None:
    documents = pytest.importorskip("langchain_core.documents")
    document = documents.Document(page_content="K2", metadata={"page": 1})
    for value in (document, [document], [(document, 0.5)]):
        message = message_of(value)
        assert "langchain_rag_rerank.RagRerank" in message
        (candidate,) = run_code(message, [document])
        assert candidate == Candidate("0", "K2", metadata={"page": 1})


def test_nodes_are_sent_to_their_adapter() -> None:
    schema = pytest.importorskip("llama_index.core.schema")
    node = schema.NodeWithScore(node=schema.TextNode(text="K2", id_="n"), score=0.5)
    for value in (node, [node], [node.node], node.node):
        message = message_of(value)
        assert "llama_index.postprocessor.rag_rerank.RagRerank" in message
        (candidate,) = run_code(message, [node])
        assert (candidate.id, candidate.text) == ("n", "K2")


def test_documents_of_haystack_are_sent_to_their_adapter() -> None:
    haystack = pytest.importorskip("haystack", reason="needs haystack-ai")
    document = haystack.Document(id="d", content="K2", meta={"page": 1})
    for value in (document, [document]):
        message = message_of(value)
        assert "rankers.rag_rerank.RagRerankRanker" in message
        (candidate,) = run_code(message, [document])
        assert candidate == Candidate("d", "K2", metadata={"page": 1})


async def texts() -> AsyncIterator[str]:
    yield "K2"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "got None; an empty list is []"),
        ("K2", "got one text, put it into a list"),
        (Candidate("a", "K2"), "got one Candidate, put it into a list"),
        (b"K2", "got bytes; decode it"),
        ([b"K2"], "got bytes; decode it"),
        ([None], "got None; leave it out"),
        ({"K2", "Garda"}, "got set, which has no order"),
        (frozenset({"K2"}), "got frozenset, which has no order"),
        (np.array(["K2", "Garda"]), "got ndarray, an array; write array.tolist()"),
        (3, "got int"),
        ([3], "got int"),
        (Path("K2"), "got PosixPath"),
        (texts(), "got async_generator, which is asynchronous; collect it first"),
        (object(), "got object"),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
async def test_other_values_get_their_own_sentence(value: Any, words: str) -> None:
    assert words in message_of(value)
    with pytest.raises(InputError, match=r"^candidates(\[0\])? must be"):
        await RERANKER.arerank("q", value)


def test_what_can_be_read_in_order_is_taken() -> None:
    texts = {"a": "K2", "b": "Garda"}
    values: list[Any] = [texts.values(), texts.keys(), iter(["K2"]), (text for text in ["K2"]), ("K2",), np.array([])]
    assert [len(RERANKER.rerank("q", value)) for value in values[:-1]] == [2, 2, 1, 1, 1]
