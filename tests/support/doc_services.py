"""What the code of a page finds where a reader has providers, servers and the hub: stand-ins on this machine.

- Keys of Cohere, Voyage, TypeSafe, OpenAI and all providers that are dialects, and those providers themselves: a
  `RerankServer`, to which `support.doc_site` sends the clients. No other machine can be reached.
- Ollama at its usual address, with any decision model; ``SYSTEMONE_URL`` is the same server.
- ``TEI_URL``, ``VLLM_URL``, ``SGLANG_URL``, ``INFINITY_URL``, ``LLAMACPP_URL``, ``NIM_URL``, ``WATSONX_URL`` and
  ``GATEWAY_URL``: the same server in those dialects. All say that they serve `SERVED`.
- ``LLM_URL``: the same server as a chat endpoint, whose model is a judge of shared words.
- The hub's cache, with random checkpoints under the ids and pinned commits of `HUB_MODELS`; the hub itself is off.
  Their scores mean nothing: they show that a page's code runs.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from support.api.rerank_server import RerankServer
from support.doc_pages import Block

from rag_rerank.backends.api.dialects import DIALECTS
from rag_rerank.backends.local import catalogue

SERVED = "BAAI/bge-reranker-v2-m3"
"""The model that servers of one's own say they have."""

HUB_MODELS = ("minilm", "tinybert", "bge-base", "bge", "mxbai")
"""Aliases of the models in the cache."""

_SITE = Path(__file__).parent / "doc_site"
_TESTS = Path(__file__).parents[1]

# as random as a provider's; a word such as "key" in them would be refused as a placeholder
_KEYS = {
    "CO_API_KEY": "Zq81mVtB4xHsW9nLr2Yd",
    "COHERE_API_KEY": "Zq81mVtB4xHsW9nLr2Yd",
    "VOYAGE_API_KEY": "pa-7Hq2sVbX9dKw4LmRz",
    "JINA_API_KEY": "jina_5c1e8b07f94d42a6",
    "MXBAI_API_KEY": "mxb_9f3c7a1d5e8b2046",
    "TYPESAFE_API_KEY": "Rk72nXwQ9vTzJ4cLpB6m",
    "OPENAI_API_KEY": "Wd83hYsK1fNqV5gMtC7x",
    "OPENROUTER_API_KEY": "Pj94bUrG2eZkS6dHyL8v",
}
_OWN_SERVERS = ("tei", "vllm", "sglang", "infinity", "llamacpp", "nim", "watsonx")


def page_environment(server: RerankServer, home: Path) -> dict[str, str]:
    """Return the environment of a page's processes.

    Args:
        server: Answers for all providers and servers.
        home: Folder of the hub's cache (``HF_HOME``).
    """
    paths = [Path(entry).absolute() for entry in sys.path if entry]
    dialects = {"GATEWAY": "cohere", **{name.upper(): name for name in _OWN_SERVERS}}
    server.info = {**server.info, "model_id": SERVED} if isinstance(server.info, dict) else server.info
    for models in server.models.values():
        models["data"][0]["id"] = SERVED
    kept = {name: value for name, value in os.environ.items() if not name.casefold().endswith("_proxy")}
    return {
        **{name: value for name, value in kept.items() if name not in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")},
        **{row.keys[0]: "q7Vt2MfXc9Lw4RzB" for row in DIALECTS.values() if row.keys},
        **{variable: "my-project" for row in DIALECTS.values() for variable in row.project_variables},
        **_KEYS,
        **{f"{name}_URL": server.base(dialect) for name, dialect in dialects.items()},
        "LLM_URL": server.base("chat"),
        "SYSTEMONE_URL": server.base("systemone"),
        "COLUMNS": "120",  # the width of tables on the command line
        "DOC_SERVER": server.url,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PYTHONPATH": os.pathsep.join(map(str, (_SITE, *(path for path in paths if path != _TESTS)))),
    }


def needs_hub_models(blocks: Iterable[Block]) -> bool:
    """Whether code of a page names a model of the hub; a config that is only built loads none."""
    names = {name for row in _rows() for name in (row.alias, row.id, *row.former_ids)}
    named = re.compile(rf"(?<![\w/.-])({'|'.join(map(re.escape, names))})(?![\w-])")
    return any(
        named.search(block.code)
        for block in blocks
        if not block.not_run and (block.language in ("python", "bash") or block.title)
    )


def write_hub_cache(home: Path) -> None:
    """Write the hub's cache with `HUB_MODELS`, as if they had been pulled."""
    from support.tiny_checkpoints import checkpoint, onnx_export

    folders = {
        "minilm": (checkpoint("bert"), onnx_export("bert")),
        "tinybert": (checkpoint("bert"), onnx_export("bert")),
        "bge-base": (checkpoint("xlm-roberta"), onnx_export("xlm-roberta")),
        "bge": (checkpoint("xlm-roberta", positions=8192),),
        "mxbai": (checkpoint("mxbai-v2", positions=8192),),
    }
    for row in _rows():
        for id in (row.id, *row.former_ids):
            repository = home / "hub" / f"models--{id.replace('/', '--')}"
            for folder in folders[row.alias]:
                shutil.copytree(folder, repository / "snapshots" / str(row.revision), dirs_exist_ok=True)
            (repository / "refs").mkdir()
            (repository / "refs" / "main").write_text(str(row.revision))


def _rows() -> list[catalogue.Model]:
    return [row for row in map(catalogue.find, HUB_MODELS) if row is not None]


def has_torch() -> bool:
    """Whether the checkpoints can be written here."""
    return find_spec("torch") is not None and find_spec("transformers") is not None
