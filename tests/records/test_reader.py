"""Reading records: every line is a record, or is reported."""

import gzip
import json
import warnings
from pathlib import Path

import pytest

import rag_rerank
from rag_rerank import InputError
from rag_rerank.records import BadLine, files, read
from rag_rerank.testing import ScriptedReranker


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with three records."""
    path = tmp_path / "traces.jsonl"
    with rag_rerank.recording(path):
        for query in ("one", "two", "three"):
            ScriptedReranker().rerank(query, ["a", "b"])
    return path


def test_records_come_one_at_a_time(file: Path) -> None:
    lines = file.read_bytes()
    file.write_bytes(lines + b"nonsense\n")
    reading = read(file)
    assert next(reading).id != next(reading).id
    next(reading)
    with pytest.raises(InputError, match=r"traces\.jsonl:4: not valid JSON"):
        next(reading)


def test_blank_lines_and_a_missing_last_line_feed_are_no_matter(file: Path) -> None:
    file.write_bytes(b"\n" + file.read_bytes().rstrip(b"\n").replace(b"\n", b"\r\n\r\n"))
    assert len(list(read(file))) == 3


def test_a_packed_file_is_read_too(file: Path, tmp_path: Path) -> None:
    packed = tmp_path / "traces.jsonl.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert list(read(packed)) == list(read(file))
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot read"):
        list(read(packed))
    packed.write_bytes(b"not packed")
    with pytest.raises(InputError, match="cannot read"):
        list(read(packed))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"[1, 2]", "there is no 'schema'"),
        (b'{"a": 1}', "there is no 'schema'"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"schema": "rag_rerank.record/1", "id": "x"}', "'usage' is missing"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_a_line_that_is_no_record_is_reported_with_its_place(file: Path, line: bytes, problem: str) -> None:
    first, *others = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([first, line + b"\n", *others]))
    with pytest.raises(InputError) as caught:
        list(read(file))
    assert str(caught.value).startswith(f"{file}:2: ") and problem in str(caught.value)
    bad_lines: list[BadLine] = []
    assert len(list(read(file, bad=bad_lines.append))) == 3
    assert [(bad.where, bad.torn) for bad in bad_lines] == [(f"{file}:2", False)]
    assert problem in str(bad_lines[0])


@pytest.mark.parametrize("key", ["id", "trace", "candidates", "tags"])
def test_a_record_with_a_key_too_few_or_too_many_is_reported(file: Path, key: str) -> None:
    data = json.loads(file.read_text().splitlines()[0])
    file.write_text(json.dumps({**data, "more": 1}) + "\n" + json.dumps({k: v for k, v in data.items() if k != key}))
    bad_lines: list[BadLine] = []
    if key == "tags":  # the only one with a default worth having
        assert len(list(read(file, bad=bad_lines.append))) == 1
        assert len(bad_lines) == 1
        return
    assert list(read(file, bad=bad_lines.append)) == []
    assert [bad.where for bad in bad_lines] == [f"{file}:1", f"{file}:2"]
    assert "more" in bad_lines[0].problem and key in bad_lines[1].problem


def test_every_torn_last_line_is_left_out_with_a_warning(file: Path) -> None:
    whole = file.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for end in (start + 1, start + 12, start + 40, len(whole) - 20, len(whole) - 2):
        file.write_bytes(whole[:end])
        with pytest.warns(UserWarning, match=r"traces\.jsonl:3: a record that was not written to its end"):
            assert len(list(read(file))) == 2
        bad_lines: list[BadLine] = []
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(list(read(file, bad=bad_lines.append))) == 2
        assert [bad.torn for bad in bad_lines] == [True]


def test_another_version_of_the_layout_is_always_refused(file: Path) -> None:
    file.write_text(file.read_text().replace("rag_rerank.record/1", "rag_rerank.record/2"))
    for options in ({}, {"bad": lambda bad: None}):
        with pytest.raises(InputError, match=r":1: a record of the layout 'rag_rerank.record/2'.*install a newer one"):
            list(read(file, **options))
    with pytest.raises(rag_rerank.ConfigError, match="something else"), rag_rerank.recording(file):
        raise AssertionError("not reached")


def test_a_file_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*nowhere\.jsonl: No such file"):
        list(read(tmp_path / "nowhere.jsonl"))


def test_rotated_files_come_before_the_newest_oldest_first(file: Path) -> None:
    for number in (1, 2, 4):
        file.with_name(f"{file.name}.{number}").touch()
    assert [part.name for part in files(file)] == ["traces.jsonl.2", "traces.jsonl.1", "traces.jsonl"]
