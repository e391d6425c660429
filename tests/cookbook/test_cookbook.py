"""The notebooks run, print what their saved outputs say, and contain nothing of the machine that made them."""

import base64
import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs the dependency group cookbook")
pytest.importorskip("nbclient", reason="needs the dependency group cookbook")
pytest.importorskip("matplotlib", reason="needs the dependency group cookbook")

ROOT = Path(__file__).parents[2]
COOKBOOK = ROOT / "cookbook"
SITE = ROOT / "tests" / "support" / "doc_site"
NOTEBOOKS = sorted(COOKBOOK.glob("*.ipynb"))
NEEDS = {"08_a_model_of_your_own": ("torch", "sentence_transformers", "accelerate", "datasets")}
"""Packages that a notebook needs in addition to those of all tests."""

RUN_FIELD = re.compile(r"\b(time|version|fingerprint|seconds|p50|p95)=('[^']*'|[\d.e-]+)")
"""Fields of a printed object that differ from run to run, or from release to release."""

IMAGE_BYTES = 60_000
"""Bytes of a saved image at most."""

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


def read(file: Path) -> Any:
    return nbformat.read(file, as_version=4)


def load_run() -> ModuleType:
    """Return ``cookbook/run.py`` as a module."""
    spec = importlib.util.spec_from_file_location("cookbook_run", COOKBOOK / "run.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def output_text(cell: Any) -> str:
    """Return what a cell printed, and what its charts and tables say in words; figures that vary are masked."""
    text = "".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)
    text = re.sub(r"about 0\.\d\d", "about N", re.sub(r"[\d,]+ ms", "N ms", text))
    return RUN_FIELD.sub(r"\1=N", text)


def rich_outputs(notebook: Any, kind: str) -> list[Any]:
    """Return the outputs of a notebook that have this MIME type."""
    outputs = (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    return [output for output in outputs if kind in output.get("data", {})]


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


@pytest.fixture
def kernel_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel import what this process imports, in any working directory, and reach no other machine."""
    paths = (SITE, *(Path(entry).absolute() for entry in sys.path if entry))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_there_are_nine_notebooks() -> None:
    assert [file.name[:2] for file in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06", "07", "08", "09"]


@pytest.mark.filterwarnings("default")  # Jupyter's own
@pytest.mark.usefixtures("kernel_environment")
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_and_prints_its_saved_outputs(file: Path) -> None:
    for package in NEEDS.get(file.stem, ()):
        pytest.importorskip(package, reason="needs the extra train")
    notebook = read(file)
    run = load_run()
    new = run.clean(run.run_notebook(file))
    before, after = (
        [output_text(cell) for cell in notebook.cells if cell.cell_type == "code"] for notebook in (notebook, new)
    )
    for old, new in zip(before, after, strict=True):
        assert NUMBER.sub("N", new) == NUMBER.sub("N", old)
        assert numbers(new) == pytest.approx(numbers(old), abs=0.005)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_clean_and_ends_with_a_check(file: Path) -> None:
    notebook = read(file)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "assert " in code[-1].source
    assert all(cell.execution_count is None and not cell.metadata for cell in code)
    outputs = [output for cell in code for output in cell.outputs]
    assert all(output.output_type != "error" and output.get("name") != "stderr" for output in outputs)
    assert all(output.get("execution_count") is None for output in outputs)
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|tmp|work|Users|usr)/|[A-Z]:\\\\", text)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_says_what_its_reader_can_do_and_shows_it(file: Path) -> None:
    notebook = read(file)
    title, promise = notebook.cells[0].source.split("\n\n")[:2]
    assert title.startswith(f"# {int(file.name[:2])}. ")
    assert re.fullmatch(r"\*\*At the end of this notebook you can .+\.\*\*", promise, re.DOTALL)
    images = rich_outputs(notebook, "image/png")
    assert images
    for image in images:
        assert len(base64.b64decode(image.data["image/png"])) < IMAGE_BYTES
        assert len(image.data["text/plain"]) > 20 and image.metadata["image/png"]["alt"] == image.data["text/plain"]


@pytest.mark.parametrize("file", [*NOTEBOOKS, COOKBOOK / "README.md"], ids=lambda file: file.stem)
def test_links_lead_to_files(file: Path) -> None:
    text = file.read_text(encoding="utf-8") if file.suffix == ".md" else "\n".join(c.source for c in read(file).cells)
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    assert targets
    assert [target for target in targets if not (COOKBOOK / target).is_file()] == []


def test_the_readme_lists_every_notebook() -> None:
    readme = (COOKBOOK / "README.md").read_text(encoding="utf-8")
    names = re.findall(r"^\|.*?\(([^)]+\.ipynb)\)", readme, re.MULTILINE)
    assert names == [file.name for file in NOTEBOOKS]


def test_a_cell_that_writes_to_stderr_is_not_saved() -> None:
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("stream", name="stderr", text="a warning")])
    with pytest.raises(SystemExit, match="a warning"):
        load_run().clean(nbformat.v4.new_notebook(cells=[cell]))


def test_the_demo_gives_the_same_order_three_ways(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(COOKBOOK)
    import demo

    monkeypatch.setattr(demo, "QUESTIONS", 10)
    demo.main()
    output = capsys.readouterr().out
    assert output.count("The same order as in part 1: True") == 2
    assert len(re.findall(r"The passage with the answer \(\*\): ", output)) == 4
    sentence = r"moved up in (\d+) questions, down in (\d+), and kept its rank in (\d+)\.\n  In (\d+), BM25 did not"
    counts = list(map(int, re.search(sentence, output).groups()))
    assert sum(counts) == 10
    chart = re.findall(r"^ +(?:\d+-)?\d+ {3} ?(\d+) (#*) +(\d+)(?: (#*))?$", output, flags=re.MULTILINE)
    assert len(chart) == 6 and all(len(bar) == 4 * int(count) for row in chart for count, bar in (row[:2], row[2:]))
    assert sum(int(row[0]) for row in chart) == sum(int(row[2]) for row in chart) == 10 - counts[3]
    assert "scores: sigmoid" in output and "scores: unbounded" in output
