"""Files and folders are written in one step; JSON is read strictly; files are hashed."""

import errno
import hashlib
import stat
import sys
from pathlib import Path

import pytest

from rag_rerank import ConfigError, ModelLoadError
from rag_rerank._files import check_folder, parse_json, sha256_of, write, write_folder

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="links, modes and devices are POSIX's")


def test_a_file_is_written_and_an_older_one_replaced_without_a_trace(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    for content in (b"one", b"two"):
        write(file, content)
        assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_a_draft_that_is_refused_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(b"old")

    def refuse(draft: Path) -> None:
        assert (draft.suffix, draft.read_bytes()) == (".yaml", b"new")
        raise ConfigError("not this one")

    with pytest.raises(ConfigError, match="not this one"):
        write(file, b"new", check=refuse)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("name", ["", "no/such/file.json"])
def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot write"):
        write(tmp_path / name, b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_an_error_before_the_work(tmp_path: Path) -> None:
    check_folder(tmp_path / "file")
    check_folder(Path("file"))
    with pytest.raises(ConfigError, match="there is no such folder"):
        check_folder(tmp_path / "nowhere" / "file")


@POSIX
def test_a_link_stays_and_permissions_too(tmp_path: Path) -> None:
    file, link = tmp_path / "real", tmp_path / "link"
    file.write_bytes(b"old")
    file.chmod(0o600)
    link.symlink_to(file)
    write(link, b"new")
    assert link.is_symlink() and file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@POSIX
def test_a_device_is_written_to_and_not_replaced() -> None:
    write(Path("/dev/null"), b"gone")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.parametrize("empty", [False, True])
def test_a_folder_appears_when_all_of_it_is_there(tmp_path: Path, empty: bool) -> None:
    out = tmp_path / "new" / "folder"
    if empty:
        out.mkdir(parents=True)
    with write_folder(out) as draft:
        (draft / "one").write_text("1")
        assert not out.exists() or not list(out.iterdir())
    assert [file.read_text() for file in out.iterdir()] == ["1"]
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ConfigError, "cannot write .*out: No space left on device"),
        (ModelLoadError("no model"), ModelLoadError, "no model"),
        (KeyboardInterrupt("stopped"), KeyboardInterrupt, "stopped"),
    ],
)
def test_a_folder_that_fails_midway_leaves_nothing(
    tmp_path: Path, error: BaseException, kind: type[BaseException], message: str
) -> None:
    with pytest.raises(kind, match=message), write_folder(tmp_path / "out") as draft:
        (draft / "half").write_text("1")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    for out in (tmp_path, tmp_path / "file"):
        with pytest.raises(ConfigError, match="exists already"), write_folder(out):
            pytest.fail("the block ran")
    with pytest.raises(ConfigError, match="no folder can be made in"), write_folder(tmp_path / "file" / "below"):
        pytest.fail("the block ran")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1])
def test_a_file_is_hashed_in_blocks(tmp_path: Path, size: int) -> None:
    file = tmp_path / "weights"
    file.write_bytes(bytes(i % 251 for i in range(size)))
    assert sha256_of(file) == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("text", ["{", '{"a": NaN}', '{"a": -Infinity}', "[" * 100_000, b"\xff\xfe", "1 2"])
def test_text_that_is_not_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_repeated_keys_are_refused_on_request() -> None:
    text = '{"a": {"b": 1, "c": 2, "b": 3}}'
    assert parse_json(text) == {"a": {"c": 2, "b": 3}}
    with pytest.raises(ValueError, match="the key 'b' occurs twice"):
        parse_json(text, unique_keys=True)
