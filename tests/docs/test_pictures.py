"""The pictures of the pages: those in the repository are whole, and the command makes them anew."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.doc_pages import DOCS, PAGES

image = pytest.importorskip("PIL.Image", reason="pillow is not installed")

NAMES = ("evaluation-page-dark.png", "evaluation-page-light.png", "trace-page-dark.png", "trace-page-light.png")
SIZE = (1280, 900)
MAX_BYTES = 300_000


def check_picture(file: Path) -> None:
    """Check size and weight of a picture, and that it shows something: many colours, and no flat halves."""
    assert file.stat().st_size <= MAX_BYTES
    with image.open(file) as picture:
        assert picture.size == SIZE
        grey = picture.convert("L")
    for top in (0, SIZE[1] // 2):
        half = grey.crop((0, top, SIZE[0], top + SIZE[1] // 2))
        histogram = half.histogram()
        assert max(histogram) < 0.97 * sum(histogram), f"{file.name} is almost blank"
        assert sum(count > 0 for count in histogram) > 20


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_of_the_pages_is_whole(name: str) -> None:
    check_picture(DOCS / "images" / name)


def test_every_picture_is_on_a_page_and_has_words_for_those_who_do_not_see_it() -> None:
    texts = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in NAMES:
        alternatives = re.findall(rf"!\[([^\]]*)\]\([^)]*images/{re.escape(name)}", texts)
        assert alternatives, f"{name} is on no page"
        assert all(len(words) > 20 for words in alternatives)


def test_the_command_takes_all_pictures(tmp_path: Path) -> None:
    if shutil.which("chromium") is None and shutil.which("chromium-browser") is None:
        pytest.skip("there is no chromium on the PATH")
    for package in ("playwright", "ir_measures"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    paths = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
    command = [sys.executable, str(DOCS / "tools" / "pictures.py"), str(tmp_path), "--questions", "24"]
    process = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == list(NAMES)
    for name in NAMES:
        check_picture(tmp_path / name)
