"""Records of calls: one JSON object for each call, for inspection, evaluation and training."""

from rag_rerank.records.context_record import ContextRecord
from rag_rerank.records.reader import BadLine, files, read
from rag_rerank.records.record import SCHEMA, Entry, Record, schema
from rag_rerank.records.recorder import Counts, Recorder, recording

__all__ = [
    "SCHEMA",
    "BadLine",
    "ContextRecord",
    "Counts",
    "Entry",
    "Record",
    "Recorder",
    "files",
    "read",
    "recording",
    "schema",
]
