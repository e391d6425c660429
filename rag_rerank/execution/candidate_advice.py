"""Advice on values that are no candidates: which adapter takes them, or the code that makes candidates of them.

Nothing is imported for it. A library's class is recognised by its module and attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MappingView, Set
from typing import Any

from rag_rerank.types import Candidate, Hit, Ranking

__all__ = ["advice_on_candidate", "advice_on_candidates"]

_TEXT_KEYS = ("text", "page_content", "content", "document", "passage", "chunk", "body")
_ID_KEYS = ("id", "_id", "doc_id", "chunk_id", "node_id", "docid", "document_id")

_LANGCHAIN = (
    "langchain_rag_rerank.RagRerank reranks Documents; or write "
    "[Candidate(str(i), document.page_content, metadata=document.metadata) for i, document in enumerate(documents)]"
)
_LLAMA_INDEX = (
    "llama_index.postprocessor.rag_rerank.RagRerank reranks nodes; or write "
    "[Candidate(node.node_id, node.get_content(), metadata=node.metadata) for node in nodes]"
)
_HAYSTACK = (
    "haystack_integrations.components.rankers.rag_rerank.RagRerankRanker reranks Documents; or write "
    "[Candidate(document.id, document.content or '', metadata=document.meta) for document in documents]"
)


def advice_on_candidates(value: Any) -> str | None:
    """Say how to turn a value into a list of candidates; ``None`` if it can be one, as far as its class shows."""
    kind = type(value).__name__
    if value is None:
        return "got None; an empty list is [] (or did the retriever return nothing?)"
    if isinstance(value, str):
        return "got one text, put it into a list"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"got {kind}; decode it: [data.decode()]"
    if isinstance(value, Candidate):
        return "got one Candidate, put it into a list"
    if isinstance(value, (Hit, Ranking)):
        return f"got a {kind}; to rerank its hits again, write [hit.candidate for hit in ranking]"
    if isinstance(value, Mapping):
        return _on_mapping(value)
    if _is_from(value, "pandas", "polars", "pyarrow", "modin", "cudf", "dask") or hasattr(value, "columns"):
        return _on_table(value)
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return f"got {kind}, an array; write array.tolist() for texts whose ids are their positions"
    if isinstance(value, Set) and not isinstance(value, MappingView):
        return f"got {kind}, which has no order, and ties keep the incoming order; pass sorted(texts), or a list"
    if (one := _on_object(value)) is not None:
        return f"got one {kind}, and needs a list; {one}"
    if hasattr(value, "__aiter__"):
        return f"got {kind}, which is asynchronous; collect it first: [text async for text in texts]"
    if hasattr(value, "__await__"):
        return f"got {kind}, which is not awaited; await it first"
    return None if isinstance(value, Iterable) else f"got {kind}"


def advice_on_candidate(value: Any) -> str:
    """Say how to turn an item that is no candidate into one."""
    kind = type(value).__name__
    if value is None or (isinstance(value, float) and value != value):  # how tables hold an absent text
        return f"got {value}; leave it out"
    if isinstance(value, (bytes, bytearray)):
        return f"got {kind}; decode it: data.decode()"
    if isinstance(value, Hit):
        return "got a Hit; write [hit.candidate for hit in ranking]"
    if isinstance(value, Mapping):
        return f"got {kind}; write [{_from_record(value)} for row in rows]"
    if isinstance(value, (tuple, list)):
        return f"got {kind}; {_on_row(value)}"
    if (one := _on_object(value)) is not None:
        return f"got {kind}; {one}"
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):  # a row of sqlite3 and others
        return f'got {kind}; write [Candidate(str(row["id"]), row["text"]) for row in rows]'
    return f"got {kind}; write Candidate(id, text), or the text alone"


def _is_from(value: object, *packages: str) -> bool:
    return any(parent.__module__.partition(".")[0] in packages for parent in type(value).__mro__)


def _on_object(value: Any) -> str | None:
    """Say it of one document, node or search result of another library; ``None`` for anything else."""
    if _is_from(value, "langchain_core", "langchain", "langchain_community") or hasattr(value, "page_content"):
        return _LANGCHAIN
    if _is_from(value, "llama_index") or hasattr(value, "get_content"):
        return _LLAMA_INDEX
    if hasattr(value, "payload") and hasattr(value, "score"):  # of Qdrant
        return 'write [Candidate(str(p.id), p.payload["text"], p.score, p.payload) for p in points]'
    if _is_from(value, "haystack"):
        return _HAYSTACK
    if isinstance(getattr(value, "content", None), str):
        return "write [Candidate(str(i), document.content) for i, document in enumerate(documents)]"
    if isinstance(getattr(value, "text", None), str):
        name = "str(item.id)" if hasattr(value, "id") else "str(i)"
        return f"write [Candidate({name}, item.text) for i, item in enumerate(items)]"
    return None


def _on_mapping(value: Mapping[Any, Any]) -> str:
    if isinstance(value.get("documents"), list) and isinstance(value.get("ids"), list):  # of Chroma
        return (
            'got the result of a vector store; write [Candidate(id, text) for id, text in zip(result["ids"][0], '
            'result["documents"][0])]'
        )
    if any(isinstance(value.get(key), str) for key in _TEXT_KEYS):
        return f"got one {type(value).__name__}; write [{_from_record(value)} for row in rows]"
    return f"got {type(value).__name__}; write [Candidate(str(id), text) for id, text in texts.items()]"


def _from_record(row: Mapping[Any, Any]) -> str:
    text = next((key for key in _TEXT_KEYS if isinstance(row.get(key), str)), "text")
    id = next((key for key in _ID_KEYS if key in row), "id")
    return f'Candidate(str(row["{id}"]), row["{text}"])'


def _on_row(row: tuple[Any, ...] | list[Any]) -> str:
    if hasattr(row, "_fields"):  # a named tuple, such as a row of DataFrame.itertuples()
        names = row._fields
        text = next((name for name in _TEXT_KEYS if name in names), "text")
        id = next((name for name in (*_ID_KEYS, "Index") if name in names), "id")
        return f"write [Candidate(str(row.{id}), row.{text}) for row in rows]"
    first = row[0] if row else None
    if first is not None and not isinstance(first, str) and (advice := _on_object(first)) is not None:
        return f"its first part is a {type(first).__name__}: take it out of the {type(row).__name__}, and {advice}"
    if len(row) == 2 and isinstance(first, str) and _is_number(row[1]):
        return "write [Candidate(str(i), text, score) for i, (text, score) in enumerate(rows)]"
    if len(row) == 2 and isinstance(first, float) and isinstance(row[1], str):
        return "write [Candidate(str(i), text, score) for i, (score, text) in enumerate(rows)]"
    if len(row) == 2 and (isinstance(first, str) or _is_number(first)) and isinstance(row[1], str):
        return "write [Candidate(str(id), text) for id, text in rows]"
    return "with the columns of id and text, write [Candidate(str(row[0]), row[1]) for row in rows]"


def _is_number(value: object) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, str)


def _on_table(value: Any) -> str:
    kind = type(value).__name__
    columns = getattr(value, "columns", None)
    if columns is None or not isinstance(columns, Iterable):
        if hasattr(value, "items"):  # a Series of pandas, with ids in its index
            return f"got a {kind}; write [Candidate(str(id), text) for id, text in series.items()]"
        return f"got a {kind}; write its values as a list: list(values)"
    names = list(getattr(value, "column_names", None) or columns)  # columns of pyarrow are arrays
    text = next((name for name in _TEXT_KEYS if name in names), "text")
    if hasattr(value, "iter_rows"):
        return f'got a {kind}; write [Candidate(str(i), text) for i, text in enumerate(table["{text}"])]'
    if hasattr(value, "to_pylist"):
        return f'got a {kind}; write [Candidate(str(i), row["{text}"]) for i, row in enumerate(table.to_pylist())]'
    return f'got a {kind}; write [Candidate(str(id), text) for id, text in df["{text}"].items()]'
