"""Records of calls: one JSON object a call, for looking back, for evaluation and for training."""

from rag_rerank.records._line import Counts
from rag_rerank.records.reading import BadLine, files, read
from rag_rerank.records.record import SCHEMA, Entry, Record
from rag_rerank.records.recorder import Recorder, recording
from rag_rerank.records.schema import schema

__all__ = ["SCHEMA", "BadLine", "Counts", "Entry", "Record", "Recorder", "files", "read", "recording", "schema"]
