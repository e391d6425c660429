"""What the adapters for hosts (LlamaIndex, LangChain) share, so that each rule about options and texts stands once."""

from rag_rerank.hosts.hooks import acall_hooks, call_hooks, check_sync_hooks
from rag_rerank.hosts.items import ids_tag, take_items, unique_ids
from rag_rerank.hosts.options import HostOptions, option_signature, resolve_options, resolve_top_k
from rag_rerank.hosts.packing import pack_hits, with_text
from rag_rerank.hosts.templates import TextTemplate

__all__ = [
    "HostOptions",
    "TextTemplate",
    "acall_hooks",
    "call_hooks",
    "check_sync_hooks",
    "ids_tag",
    "option_signature",
    "pack_hits",
    "resolve_options",
    "resolve_top_k",
    "take_items",
    "unique_ids",
    "with_text",
]
