"""``trace report``: a file of records becomes a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.pages import samples

from rag_rerank.cli.trace import report
from rag_rerank.errors import ConfigError, InputError


def test_it_writes_the_page_and_says_where(tmp_path: Path) -> None:
    recording, page = tmp_path / "traces.jsonl", tmp_path / "report.html"
    recording.write_text("".join(json.dumps(samples.record(i)) + "\n" for i in range(3)), encoding="utf-8")
    ran = CliRunner().invoke(report, [str(recording), "-o", str(page)], catch_exceptions=False)
    assert ran.output == f"{page}: written\n"
    assert samples.record(2)["id"] in page.read_text(encoding="utf-8")


def test_a_line_that_is_no_record_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    recording, page = tmp_path / "traces.jsonl", tmp_path / "report.html"
    recording.write_text(json.dumps(samples.record()) + '\n{"text": "no record"}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"traces\.jsonl:2: "):
        CliRunner().invoke(report, [str(recording), "-o", str(page)], catch_exceptions=False)
    assert not page.exists()


def test_a_page_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    recording = tmp_path / "traces.jsonl"
    recording.write_text(json.dumps(samples.record()) + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot write"):
        CliRunner().invoke(report, [str(recording), "-o", str(tmp_path)], catch_exceptions=False)
