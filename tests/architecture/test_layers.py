"""The structure of the package, read from its files: arrows, cycles, names and sizes."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "rag_rerank"

GROUND = {
    *("_checks", "_files", "_lazy", "_version", "documentation", "errors", "rank_correlation", "secret", "text"),
    *("trace", "types"),
}
CALL = {*GROUND, "execution", "base"}

MAY_IMPORT = {
    **{name: set() for name in ("_version", "documentation", "pages", "rank_correlation")},
    "trace": {"text"},
    "errors": {"documentation", "trace"},
    **{name: {"errors"} for name in ("_checks", "_files", "_lazy")},
    "secret": {"_files", "errors"},
    "text": {"_checks", "_files", "_lazy", "errors"},
    "types": {"_checks", "errors", "text", "trace"},
    "execution": {"_checks", "context", "documentation", "errors", "text", "trace", "types"},
    "base": {"_checks", "errors", "execution", "text", "trace", "types"},
    "context": GROUND,
    "records": {*GROUND, "context", "execution"},
    "telemetry": {*GROUND, "context", "execution"},
    "hosts": {*CALL, "context"},
    "agreement": {*GROUND, "base"},
    "backends/api": CALL,
    "backends/local": CALL,
    **{
        f"backends/{name}": {*CALL, "backends/api"}
        for name in ("bedrock", "cohere", "decisions", "http", "llm", "voyage")
    },
    **{
        f"backends/{name}": {*CALL, "backends/local"}
        for name in ("embedding", "host_embedding", "late_interaction", "onnx", "sparse", "torch")
    },
    "backends/auto": {
        *CALL,
        *(f"backends/{name}" for name in ("embedding", "late_interaction", "local", "onnx", "sparse", "torch")),
    },
    "backends/first_stage": CALL,
    "backends/lexical": CALL,
    "compose": {*CALL, "records"},
    "registry": {"_files", "base", "documentation", "errors"},
    "config": {*CALL, "registry"},
    "testing": {*CALL, "config"},
    "export": {*CALL, "backends/local", "backends/onnx"},
    "diagnostics": {  # health/ builds the config that it examines, and knows all that a config may hold
        *CALL,
        *("agreement", "backends/api", "backends/auto", "backends/late_interaction", "backends/local", "backends/onnx"),
        *("backends/torch", "compose", "config", "registry"),
    },
    "evaluation": {*CALL, "compose", "config", "records", "registry"},
    "training": {
        *(*CALL, "agreement", "backends/local", "backends/torch", "compose"),
        *("config", "evaluation", "export", "records", "registry"),
    },
    "batch": {*CALL, "backends/api", "config", "evaluation"},
    "serving": {*CALL, "context"},
    "cli": {
        *("backends/auto", "backends/late_interaction"),
        *(*CALL, "agreement", "backends/api", "backends/local", "backends/onnx", "backends/torch", "compose", "config"),
        *(
            "batch",
            "context",
            "diagnostics",
            "evaluation",
            "export",
            "hosts",
            "pages",
            "records",
            "registry",
            "serving",
        ),
        "training",
    },
    "__main__": {"cli"},
    "__init__": {*CALL, "backends/api", "compose", "config", "context", "records"},
}
"""File or folder of the package -> what it may import. Arrows point down; nothing imports the command line."""

FILES = sorted(PACKAGE.rglob("*.py"))
ADAPTERS = sorted(file for file in ROOT.glob("integrations/*/*/**/*.py") if "tests" not in file.parts)
FOLDERS = sorted({file.parent for file in FILES})


def dotted(file: Path) -> str:
    """Return the module of a file."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def imports(file: Path) -> tuple[tuple[str, str | None], ...]:
    """Return (module, name imported from it) for all imports of a file, those under TYPE_CHECKING included."""
    return tuple(_imports([parse(file)], functions=True))


def _imports(pending: list[ast.AST], *, functions: bool) -> Iterator[tuple[str, str | None]]:
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not functions:
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not functions:
            pending += node.orelse
        elif isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((node.module or "", alias.name) for alias in node.names)
        else:
            pending += ast.iter_child_nodes(node)


@cache
def own_imports(file: Path) -> tuple[Path, ...]:
    """Return the files of the package that a file imports."""
    return tuple(_own_imports(file))


def _own_imports(file: Path) -> Iterator[Path]:
    for module, name in imports(file):
        if module.split(".")[0] != "rag_rerank":
            continue
        place = ROOT.joinpath(*module.split("."))
        target = place / (name or "")
        if name is not None and (target.with_suffix(".py").exists() or target.is_dir()):
            place = target
        yield place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def unit(file: Path) -> str:
    """Return the row of a file in `MAY_IMPORT`."""
    first, *rest = file.relative_to(PACKAGE).with_suffix("").parts
    return f"{first}/{rest[0]}" if first == "backends" and rest[0] != "__init__" else first


def names(files: list[Path]) -> list[str]:
    return [str(file.relative_to(ROOT)) for file in files]


@pytest.mark.parametrize("file", FILES, ids=dotted)
def test_arrows_point_down(file: Path) -> None:
    if file == PACKAGE / "backends" / "__init__.py":
        assert not list(own_imports(file))
        return
    here = unit(file)
    assert here in MAY_IMPORT, f"{here} is new: give it a row in MAY_IMPORT"
    for target in own_imports(file):
        assert unit(target) in MAY_IMPORT[here] | {here}, f"{dotted(file)} imports {dotted(target)}"


def test_no_cycle_between_files() -> None:
    graph = {file: set(own_imports(file)) - {file} for file in FILES}
    done: set[Path] = set()

    def visit(file: Path, path: list[Path]) -> None:
        assert file not in path, " -> ".join(names([*path[path.index(file) :], file]))
        if file not in done:
            for target in sorted(graph[file]):
                visit(target, [*path, file])
            done.add(file)

    for file in FILES:
        visit(file, [])


@pytest.mark.parametrize("file", FILES, ids=dotted)
def test_an_underscore_module_is_imported_from_its_own_folder_or_below(file: Path) -> None:
    for target in own_imports(file):
        for part in (target, *target.parents):
            if part.name.startswith("_") and not part.name.startswith("__"):
                assert part.parent in file.parents, f"{dotted(file)} imports the private {dotted(target)}"


@pytest.mark.parametrize("file", FILES, ids=dotted)
def test_no_third_party_is_imported_at_module_top(file: Path) -> None:
    allowed = {"rag_rerank", *sys.stdlib_module_names}
    if "cli" in file.relative_to(PACKAGE).parts:
        allowed.add("click")
    top = _imports([parse(file)], functions=False)
    foreign = {module for module, _ in top if module.split(".")[0] not in allowed}
    assert not foreign, f"{dotted(file)}: import {', '.join(sorted(foreign))} inside the function that needs it"


def test_a_class_name_stands_once() -> None:
    places = defaultdict(list)
    for file in FILES:
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(dotted(file))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_files_and_folders_stay_small() -> None:
    lines = {str(f.relative_to(ROOT)): len(f.read_text(encoding="utf-8").splitlines()) for f in FILES}
    assert {name: count for name, count in lines.items() if count > 400} == {}
    counts = {str(f.relative_to(ROOT)): len(list(f.glob("*.py"))) for f in FOLDERS}
    assert {name: count for name, count in counts.items() if count > 16} == {}


PARTICIPLES = frozenset(
    re.findall(
        r"\w+",
        "added allowed answered asked barred begun bound broken built came cast changed chosen come drawn "
        "ended fallen fetched found given gone heard held joined kept known laid learnt left listed lost made "
        "meant met moved named noted paid passed refused said seen sent shown spared spent stated taken told "
        "treated tried untold used wanted written ",
    )
)
"""Words that do not say what a thing is: a function is named by a verb, a value by a noun."""


SCHEMA_FIELDS = frozenset({"chosen", "moved", "passed", "seen"})
"""Fields of dataclasses that are keys of records, reports and ``--json``: they keep their names."""


def _bound_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    members = {
        member.target if isinstance(member, ast.AnnAssign) else member
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for member in node.body
    }
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if not (node in members and node.name in SCHEMA_FIELDS):
                yield node.lineno, node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            if not (node in members and node.id in SCHEMA_FIELDS):
                yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


@pytest.mark.parametrize("file", [*FILES, *ADAPTERS], ids=lambda file: str(file.relative_to(ROOT)))
def test_no_name_is_a_bare_participle(file: Path) -> None:
    tree = parse(file)
    bare = {f"{name}:{line}" for line, name in _bound_names(tree) if name.strip("_") in PARTICIPLES}
    assert not bare, f"{file.relative_to(ROOT)}: {', '.join(sorted(bare))}"


@pytest.mark.parametrize("file", FILES, ids=dotted)
def test_a_function_is_named_by_a_verb_and_not_by_a_participle(file: Path) -> None:
    """Properties and context managers may be: `finished`, `observed`; a decorator of work too: `detached`."""
    allowed = {"detached", "embed", "need", "seed"}
    for node in ast.walk(parse(file)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.decorator_list:
            name = node.name.strip("_")
            assert "_" in name or not name.endswith("ed") or name in allowed, f"{dotted(file)}:{node.lineno}: {name}"


@pytest.mark.parametrize("file", ADAPTERS, ids=lambda file: str(file.relative_to(ROOT / "integrations")))
def test_adapters_use_public_names_only(file: Path) -> None:
    import rag_rerank
    import rag_rerank.hosts

    public = {"rag_rerank": rag_rerank.__all__, "rag_rerank.hosts": rag_rerank.hosts.__all__}
    for module, name in imports(file):
        if module.split(".")[0] != "rag_rerank":
            continue
        assert module in public, f"{file.name} imports from {module}; adapters use the package's front door and hosts"
        assert name is None or name in public[module], f"{file.name} imports {name}, which is not public"
