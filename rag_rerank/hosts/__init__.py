"""What the adapters for hosts (LlamaIndex, LangChain, Haystack) share, so that each of their rules stands once."""

from rag_rerank.hosts.failure import OnFailure
from rag_rerank.hosts.hooks import acall_hooks, call_hooks, check_sync_hooks, log_remarks
from rag_rerank.hosts.items import finite_score, make_ids, tag_ids, take_items
from rag_rerank.hosts.late_interaction import find_explainers, find_indexes, index_texts
from rag_rerank.hosts.options import (
    CONFIG_SCHEMA,
    PACKING_SCHEMA,
    HostOptions,
    check_instruction_option,
    make_signature,
    parse_text_option,
    resolve_options,
    resolve_top_k,
)
from rag_rerank.hosts.packing import describe_changes, pack_hits, with_text
from rag_rerank.hosts.recent_values import RecentValues
from rag_rerank.hosts.tool_choice import Choice, KeptBecause, ToolChoice, ToolChooser, tool_text, turn_query
from rag_rerank.hosts.tool_results import ResultTrimmer, TrimmedResult, find_scalars, result_query
from rag_rerank.text.templates import TextTemplate
from rag_rerank.text.tokenizers import Tokenizer

__all__ = [
    "CONFIG_SCHEMA",
    "PACKING_SCHEMA",
    "Choice",
    "HostOptions",
    "KeptBecause",
    "OnFailure",
    "RecentValues",
    "ResultTrimmer",
    "TextTemplate",
    "Tokenizer",
    "ToolChoice",
    "ToolChooser",
    "TrimmedResult",
    "acall_hooks",
    "call_hooks",
    "check_instruction_option",
    "check_sync_hooks",
    "describe_changes",
    "find_explainers",
    "find_indexes",
    "find_scalars",
    "finite_score",
    "index_texts",
    "log_remarks",
    "make_ids",
    "make_signature",
    "pack_hits",
    "parse_text_option",
    "resolve_options",
    "resolve_top_k",
    "result_query",
    "tag_ids",
    "take_items",
    "tool_text",
    "turn_query",
    "with_text",
]
