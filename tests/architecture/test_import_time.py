"""What ``import rag_rerank`` and a look at the command line may cost."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    *("asyncio", "bm25s", "click", "cohere", "httpx", "huggingface_hub", "langchain_core", "llama_index", "numpy"),
    *(
        "onnx",
        "onnxruntime",
        "pydantic",
        "sentence_transformers",
        "tenacity",
        "tiktoken",
        "tokenizers",
        "torch",
        "transformers",
    ),
    *("voyageai", "yaml"),
}

PROBE = """
import json, sys, time
before, started = set(sys.modules), time.perf_counter()
{statement}
seconds = time.perf_counter() - started
print(json.dumps([sorted(module for module in set(sys.modules) - before if "." not in module), seconds]))
"""


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a statement loads in a fresh interpreter; the time is printed only."""
    run = subprocess.run([sys.executable, "-c", PROBE.format(statement=statement)], capture_output=True, check=True)
    modules, seconds = json.loads(run.stdout.splitlines()[-1])
    print(f"{statement}: {seconds * 1000:.0f} ms")
    return set(modules)


def test_importing_the_package_loads_nothing_but_the_standard_library() -> None:
    loaded = loaded_by("import rag_rerank")
    assert "rag_rerank" in loaded
    assert not loaded.intersection(HEAVY)
    assert loaded - {"rag_rerank"} <= set(sys.stdlib_module_names)


def test_building_a_reranker_loads_no_engine() -> None:
    built = "import rag_rerank; rag_rerank.build('lexical'); rag_rerank.build('embedded')"
    loaded = loaded_by(built)
    assert not loaded.intersection({"numpy", "onnxruntime", "tokenizers", "torch", "transformers", "bm25s"})


@pytest.mark.parametrize("arguments", [["--help"], ["rank", "--help"], ["--version"]], ids=" ".join)
def test_asking_the_command_line_for_help_loads_click_only(arguments: list[str]) -> None:
    loaded = loaded_by(f"from rag_rerank.cli import app; app({arguments!r}, standalone_mode=False)")
    assert "click" in loaded
    assert not loaded.intersection(HEAVY) - {"click"}
