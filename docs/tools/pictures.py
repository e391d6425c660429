"""Take the pictures of the documentation: ``python docs/tools/pictures.py [FOLDER]``, by default into ``docs/images``.

Real calls are made, offline: questions over the passages of ``docs/samples`` for the page of a recording, and judged
questions of the cookbook for the page of an evaluation. The commands that a user would type write the pages, and a
headless Chromium takes the pictures. Times and dates differ from run to run; everything else is the same.

Needs Chromium on the PATH, and the packages playwright and pillow of the dependency group ``dev``.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rag_rerank

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "docs" / "samples"

WIDTH, HEIGHT = 1280, 900
"""Size of each picture in pixels."""

MAX_BYTES = 300_000
"""Largest size of a picture."""

COLOURS = 128
"""Colours of a picture; pages have few, and a palette makes the file small."""

QUESTIONS = (
    "When did the Nazis take over Poland?",
    "Where did Dali find his idea to have clocks melting?",
    "How is handball different then association football?",
    "What medium did Leonardo Da Vinci use to paint The Last Supper?",
    "How far away from the vault do gymnasts start?",
    "Is MRI bad?",
    "What are arguments against astrology?",
)
"""The questions of ``docs/samples/judged.jsonl`` that are recorded; the page shows the last one."""

DEPTH = 15
"""Candidates of BM25 for each question of the evaluation."""

OPTIONS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--hide-scrollbars")
"""Options of Chromium."""


def record_calls(file: Path) -> None:
    """Record calls with sample questions and their candidates, each packed into a context."""
    lines = (SAMPLES / "judged.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {row["query"]: row for row in map(json.loads, lines)}
    with rag_rerank.build("embedded") as reranker, rag_rerank.recording(file, texts=True):
        for number, row in enumerate((rows[question] for question in QUESTIONS), start=1):
            candidates = [
                rag_rerank.Candidate(one["id"], f"{one['title']}: {one['text']}", score=one["score"])
                for one in row["candidates"]
            ]
            with rag_rerank.tagged(request=f"r-{number}"):
                ranking = reranker.rerank(row["query"], candidates, top_k=10)
                rag_rerank.pack(ranking, max_tokens=300, tokenizer=count_words, duplicates="exact")


def count_words(text: str) -> int:
    """Return the number of words of a text."""
    return len(text.split())


def write_judged(file: Path, count: int) -> None:
    """Write some of the judged questions of the cookbook, evenly chosen, with the candidates of BM25."""
    sys.path.insert(0, str(ROOT / "cookbook"))
    import corpus  # type: ignore[import-not-found]

    texts = corpus.chunks()
    first_stage = corpus.Bm25(texts)
    questions = corpus.questions()
    with file.open("w", encoding="utf-8") as out:
        for question in questions[:: len(questions) // count][:count]:
            ids = [id for id, _ in first_stage.search(question["text"], DEPTH)]
            candidates = [{"id": id, "text": texts[id]} for id in ids]
            row = {"id": question["id"], "query": question["text"], "candidates": candidates}
            out.write(json.dumps({**row, "relevant": question["relevant"]}) + "\n")


def command(*words: str) -> None:
    """Run a rag-rerank command."""
    subprocess.run([sys.executable, "-m", "rag_rerank", *words], check=True, stdout=subprocess.DEVNULL)


def trace_page(folder: Path) -> Path:
    """Return the page of a recording."""
    record_calls(folder / "traces.jsonl")
    command("trace", "report", str(folder / "traces.jsonl"), "-o", str(folder / "trace.html"))
    return folder / "trace.html"


def evaluation_page(folder: Path, count: int) -> Path:
    """Return the page of an evaluation."""
    write_judged(folder / "judged.jsonl", count)
    rerankers = ("-r", "embedded", "-r", "lexical")
    store = ("--records", str(folder / "answers"))
    command("eval", str(folder / "judged.jsonl"), *rerankers, *store, "--html", str(folder / "evaluation.html"))
    return folder / "evaluation.html"


def show_trace(page: Any) -> None:
    """Scroll to the last call, which is open."""
    page.get_by_role("heading", name="Calls", exact=True).evaluate("node => node.scrollIntoView()")


def take_pictures(pages: dict[str, tuple[Path, Callable[[Any], None]]], out: Path) -> list[Path]:
    """Take a light and a dark picture of each page.

    Args:
        pages: Name of the picture -> the page, and a function that prepares it.
        out: The folder of the pictures.

    Returns:
        The pictures.
    """
    from PIL import Image
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("pictures need Chromium: there is no chromium on the PATH")
    pictures = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(OPTIONS))
        for name, (file, prepare) in pages.items():
            for scheme in ("light", "dark"):
                size = {"width": WIDTH, "height": HEIGHT}
                page = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")
                page.goto(file.as_uri())
                prepare(page)
                page.wait_for_timeout(300)  # until the charts are drawn
                image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
                picture = out / f"{name}-{scheme}.png"
                image.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
                    picture, optimize=True
                )
                pictures.append(picture)
                page.close()
        browser.close()
    return pictures


def main() -> None:
    """Take all pictures and print their sizes."""
    parser = argparse.ArgumentParser(description="Take the pictures of the documentation.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--questions", type=int, default=120, help="judged questions of the evaluation [120]")
    options = parser.parse_args()
    out: Path = options.folder
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        trace, evaluation = trace_page(Path(folder)), evaluation_page(Path(folder), options.questions)
        pages = {"trace-page": (trace, show_trace), "evaluation-page": (evaluation, lambda page: None)}
        pictures = take_pictures(pages, out)
    for picture in pictures:
        size = picture.stat().st_size
        print(f"{picture.name}: {size / 1000:.0f} kB")
        if size > MAX_BYTES:
            raise SystemExit(f"{picture.name} is larger than {MAX_BYTES / 1000:.0f} kB")


if __name__ == "__main__":
    main()
