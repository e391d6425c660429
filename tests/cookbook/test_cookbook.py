"""The notebooks run, print what their saved outputs say, and hold nothing of the machine that made them."""

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
"""What a notebook cannot run without, beside what all tests have."""

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


def read(file: Path) -> Any:
    return nbformat.read(file, as_version=4)


def printed(cell: Any) -> str:
    """Return what a cell gave, times and figures of a training ("about 0.94") masked: they are never quite the same."""
    outputs = "".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)
    return re.sub(r"about 0\.\d\d", "about N", re.sub(r"[\d,]+ ms", "N ms", outputs))


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


@pytest.fixture
def at_the_cookbook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let other processes import what this one imports, wherever they run."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_there_are_eight_notebooks() -> None:
    assert [file.name[:2] for file in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06", "07", "08"]


@pytest.mark.filterwarnings("default")  # Jupyter's own
@pytest.mark.usefixtures("at_the_cookbook")
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_and_prints_what_it_says(file: Path) -> None:
    for package in NEEDS.get(file.stem, ()):
        pytest.importorskip(package, reason="needs the extra train")
    notebook = read(file)
    saved = [printed(cell) for cell in notebook.cells if cell.cell_type == "code"]
    nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(COOKBOOK)}}
    ).execute()
    now = [printed(cell) for cell in notebook.cells if cell.cell_type == "code"]
    for then, text in zip(saved, now, strict=True):
        assert NUMBER.sub("N", text) == NUMBER.sub("N", then)
        assert numbers(text) == pytest.approx(numbers(then), abs=0.005)


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


def test_the_demo_gives_one_order_three_ways(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(COOKBOOK)
    import demo

    monkeypatch.setattr(demo, "COUNTED", 10)
    demo.main()
    shown = capsys.readouterr().out
    assert shown.count("same order as directly: True") == 2
    assert len(re.findall(r"judged passage \(\*\): ", shown)) == 4
    moved = re.search(r"moved up in (\d+), down in (\d+), stayed in\s+(\d+), and was not found by BM25 in (\d+)", shown)
    assert moved and sum(map(int, moved.groups())) == 10
    assert "scale sigmoid" in shown and "scale unbounded" in shown
