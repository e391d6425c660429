"""The arrows of the house, read from the imports themselves: they point down, and never sideways."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "rag_rerank"

ROOMS = {
    "ground": {
        *("errors", "trace", "types", "secret", "_clock", "_deadline", "_extras", "_json", "_lazy", "_orders"),
        *("_progress", "_writing"),
    },
    "base": {
        "base",
        "_fingerprint",
        "_drive",
        "_pace",
        "_plan",
        "_race",
        "_request",
        "_room",
        "_run",
        "_terms",
        "_tokens",
        "_watching",
    },
    "records": {"records"},
    "context": {"context"},
    "compose": {"compose"},
    "backends": {"backends"},
    "names": {"registry", "config", "_parse", "_schema"},
    "agreement": {"agreement"},
    "measuring": {"checking", "tuning", "_tuned", "_bench", "_passages"},
    "proof": {"evaluation", "probes"},
    "pages": {"pages"},
    "folders": {"export", "_bases", "_compact", "_tracing"},
    "training": {"training"},
    "tools": {"cli", "telemetry", "testing", "__main__"},
}
"""Room -> modules and packages directly inside ``rag_rerank``."""

MAY_IMPORT = {
    "ground": {"ground"},
    "base": {"base", "ground"},
    "records": {"records", "base", "ground"},
    "context": {"context", "base", "ground"},
    "compose": {"compose", "records", "base", "ground"},
    "backends": {"backends", "base", "ground"},
    "names": {"names", "base", "ground"},
    "agreement": {"agreement", "base", "ground"},
    "measuring": {"measuring", "agreement", "backends", "base", "ground"},
    "proof": {"proof", "names", "compose", "records", "base", "ground"},
    "pages": {"pages"},
    "folders": {"folders", "backends", "base", "ground"},
    "training": {
        *("training", "folders", "proof", "agreement", "names"),
        *("compose", "context", "records", "base", "ground"),
    },
    "tools": {
        *("tools", "pages", "training", "folders", "proof", "measuring", "agreement", "names"),
        *("backends", "compose", "context", "records", "base", "ground"),
    },
}

MODULES = sorted(file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")
ADAPTERS = sorted(file for file in ROOT.glob("integrations/*/*/**/*.py") if "tests" not in file.parts)


def imports(file: Path, *, top_only: bool = False) -> Iterator[tuple[str, str | None]]:
    """Yield (module, name imported from it); what stands under TYPE_CHECKING is no import at run time."""
    pending: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            pending += node.orelse
        elif top_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        elif isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield from ((node.module or "", alias.name) for alias in node.names)
        else:
            pending += ast.iter_child_nodes(node)


def room(module: str) -> str:
    """Return the room of ``rag_rerank.x.y``."""
    part = module.split(".")[1]
    found = [name for name, members in ROOMS.items() if part in members]
    assert found, f"{module} stands in no room: give it one in ROOMS"
    return found[0]


def own(file: Path) -> Iterator[str]:
    """Yield the modules of the package that a file imports; ``from rag_rerank import registry`` is registry."""
    for module, name in imports(file):
        if module == "rag_rerank" and name is not None:
            assert (PACKAGE / f"{name}.py").exists() or (PACKAGE / name).is_dir() or name == "__version__", (
                f"{file.name} imports {name} from the package's front door; name the module it lives in"
            )
            if name != "__version__":
                yield f"rag_rerank.{name}"
        elif module.startswith("rag_rerank."):
            yield module


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_arrows_point_down(file: Path) -> None:
    here = room("rag_rerank." + file.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."))
    for module in own(file):
        assert room(module) in MAY_IMPORT[here], f"{file.relative_to(ROOT)} ({here}) imports {module} ({room(module)})"


@pytest.mark.parametrize("file", [PACKAGE / "__init__.py", *MODULES], ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_third_party_is_imported_at_module_top(file: Path) -> None:
    allowed = {"rag_rerank", *sys.stdlib_module_names}
    if "cli" in file.relative_to(PACKAGE).parts:
        allowed.add("click")
    foreign = {module for module, _ in imports(file, top_only=True) if module.split(".")[0] not in allowed}
    assert not foreign, (
        f"{file.relative_to(ROOT)}: import {', '.join(sorted(foreign))} inside the function that needs it"
    )


@pytest.mark.parametrize("file", ADAPTERS, ids=lambda file: str(file.relative_to(ROOT / "integrations")))
def test_adapters_use_public_names_only(file: Path) -> None:
    import rag_rerank

    for module, name in imports(file):
        if module.split(".")[0] != "rag_rerank":
            continue
        assert module == "rag_rerank", f"{file.name} imports from {module}; adapters use the package's front door"
        assert name is None or name in rag_rerank.__all__, f"{file.name} imports {name}, which is not public"


def test_the_front_door_opens_no_backend_and_no_tool() -> None:
    rooms = {room(module) for module, _ in imports(PACKAGE / "__init__.py") if module.startswith("rag_rerank.")}
    assert rooms <= {"ground", "base", "records", "context", "compose", "names"}
