"""The notebooks run, print what their saved outputs say, and contain nothing of the machine that made them."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs the dependency group cookbook")
nbclient = pytest.importorskip("nbclient", reason="needs the dependency group cookbook")

COOKBOOK = Path(__file__).parents[2] / "cookbook"
NOTEBOOKS = sorted(COOKBOOK.glob("*.ipynb"))
NEEDS = {"08_a_model_of_your_own": ("torch", "sentence_transformers", "accelerate", "datasets")}
"""Packages that a notebook needs in addition to those of all tests."""

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


def read(file: Path) -> Any:
    return nbformat.read(file, as_version=4)


def output_text(cell: Any) -> str:
    """Return the output of a cell; times and training figures ("about 0.94") are masked, because they vary."""
    outputs = "".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)
    return re.sub(r"about 0\.\d\d", "about N", re.sub(r"[\d,]+ ms", "N ms", outputs))


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


@pytest.fixture
def kernel_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel import what this process imports, in any working directory."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_there_are_eight_notebooks() -> None:
    assert [file.name[:2] for file in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06", "07", "08"]


@pytest.mark.filterwarnings("default")  # Jupyter's own
@pytest.mark.usefixtures("kernel_environment")
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_and_prints_its_saved_outputs(file: Path) -> None:
    for package in NEEDS.get(file.stem, ()):
        pytest.importorskip(package, reason="needs the extra train")
    notebook = read(file)
    before = [output_text(cell) for cell in notebook.cells if cell.cell_type == "code"]
    nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(COOKBOOK)}}
    ).execute()
    after = [output_text(cell) for cell in notebook.cells if cell.cell_type == "code"]
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
    assert all(output.output_type != "error" and output.get("name") != "stderr" for c in code for output in c.outputs)
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|tmp|work|Users|usr)/|[A-Z]:\\\\", text)


def test_the_demo_gives_the_same_order_three_ways(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(COOKBOOK)
    import demo

    monkeypatch.setattr(demo, "QUESTIONS", 10)
    demo.main()
    output = capsys.readouterr().out
    assert output.count("same order as directly: True") == 2
    assert len(re.findall(r"judged passage \(\*\): ", output)) == 4
    pattern = r"moved up in (\d+), moved down in (\d+), kept its\s+rank in (\d+), and was not found by BM25 in (\d+)"
    counts = re.search(pattern, output)
    assert counts and sum(map(int, counts.groups())) == 10
    assert "scale sigmoid" in output and "scale unbounded" in output
