"""The cache's file: processes share it, a foreign file is refused, and a full disk costs no score."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from rag_rerank import Cached, ConfigError, Coverage, RelevantSpan, Usage
from rag_rerank.compose.cache.cache_stores import FileStore, StoredScore, check_cache_file
from rag_rerank.testing import ScriptedReranker

WORKER = """
import sys
from rag_rerank import Cached
from rag_rerank.testing import ScriptedReranker

path, number = sys.argv[1], int(sys.argv[2])
texts = [f"text {i}" for i in range(200)]
inner = ScriptedReranker(by_text={text: i / 7 for i, text in enumerate(texts)})
sys.stdin.readline()
with Cached(reranker=inner, path=path) as cached:
    for turn in range(10):
        own = cached.rerank(f"query {number} {turn}", texts[:50])
        shared = cached.rerank(f"query {turn}", texts)
        for ranking in (own, shared):
            assert all(hit.raw_score == inner.by_text[hit.text] for hit in ranking)
            assert not any("could not be written" in note for note in ranking.trace.notes), ranking.trace.notes
"""


def key(number: int) -> bytes:
    return sha256(str(number).encode()).digest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "scores.db"


@pytest.fixture
def store(file: Path) -> Iterator[FileStore]:
    opened = FileStore(str(file), 100_000, None)
    yield opened
    opened.close()


def test_stored_scores_are_found_again_exactly(store: FileStore, file: Path) -> None:
    scores = {key(i): StoredScore(value, coverage) for i, (value, coverage) in enumerate(EXACT)}
    notes: list[str] = []
    store.put(scores, notes)
    again = FileStore(str(file), 100_000, None)
    for opened in (store, again):
        assert opened.find([*scores, key(99)], notes) == scores
    again.close()
    assert notes == []


EXACT = [
    (0.1 + 0.2, Coverage(7, 5)),
    (-1.7976931348623157e308, Coverage(0, 0)),
    (5e-324, None),
    (3.0, Coverage(2**40, 1)),
]


def test_thousands_of_keys_are_found_at_once(store: FileStore) -> None:
    scores = {key(i): StoredScore(float(i), None) for i in range(3000)}
    store.put(scores, [])
    assert store.find(list(scores), []) == scores
    assert store.find([], []) == {}


def test_processes_write_and_read_one_file_at_once(file: Path) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(file), str(number)], stdin=subprocess.PIPE, stderr=-1)
        for number in range(4)
    ]
    for worker in workers:
        worker.stdin.write(b"\n")
        worker.stdin.flush()
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors.decode()
    texts = [f"text {i}" for i in range(200)]
    inner = ScriptedReranker(by_text={text: i / 7 for i, text in enumerate(texts)})
    with Cached(reranker=inner, path=str(file)) as cached:
        for turn in range(10):
            assert cached.rerank(f"query {turn}", texts).usage == Usage(cached=200)
            for number in range(4):
                assert cached.rerank(f"query {number} {turn}", texts[:50]).usage == Usage(cached=50)
    assert sqlite3_check(file) == "ok"


def sqlite3_check(file: Path) -> str:
    connection = sqlite3.connect(file)
    (state,) = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    return str(state)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_opens_its_own_connection(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processes: list[int] = []
    connect = sqlite3.connect

    def noting(*args: Any, **options: Any) -> sqlite3.Connection:
        processes.append(os.getpid())
        return connect(*args, **options)

    monkeypatch.setattr(sqlite3, "connect", noting)
    inner = ScriptedReranker(by_text={"a": 1.0})
    with Cached(reranker=inner, path=str(file)) as cached:
        cached.rerank("q", ["a"])
        child = os.fork()
        if child == 0:
            try:
                hits = cached.rerank("q", ["a"]).usage.cached
                own = os.getpid() in processes
                cached.rerank("q", ["of the child"])
                cached.close()
                os._exit(0 if hits == 1 and own else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert cached.rerank("q", ["a", "of the child"]).usage.cached == 2
        assert processes == [os.getpid()]


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "scores.db"
    with Cached(reranker=ScriptedReranker(), path=str(file)) as cached:
        cached.rerank("q", ["a"])
        assert {stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()} == {0o600}
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_tilde_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with Cached(reranker=ScriptedReranker(), path="~/scores.db") as cached:
        cached.rerank("q", ["a"])
    assert (tmp_path / "scores.db").is_file()


def test_no_text_and_no_query_is_in_the_file(file: Path) -> None:
    with Cached(reranker=ScriptedReranker(), path=str(file)) as cached:
        cached.rerank("a secret query", ["a secret text"])
        assert not any(b"secret" in path.read_bytes() for path in file.parent.iterdir())


def foreign(file: Path, statement: str = "CREATE TABLE other (x)") -> None:
    connection = sqlite3.connect(file)
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: file.write_text("some notes\n" * 200), "file is not a database.*or delete this one if it is a"),
        (lambda file: file.write_text("x"), "file is not a database"),
        (lambda file: file.mkdir(), "unable to open database file"),
        (foreign, "is a database of something else; name another file"),
        (lambda file: foreign(file, "PRAGMA application_id = 7"), "is a database of something else"),
    ],
)
def test_a_file_that_is_something_else_is_refused_and_left_alone(file: Path, make: Any, message: str) -> None:
    make(file)
    before = file.is_file() and file.read_bytes()
    cached = Cached(reranker=ScriptedReranker(), path=str(file))
    for _ in range(2):
        with pytest.raises(ConfigError, match=message) as caught:
            cached.rerank("q", ["a"])
    assert str(file) in str(caught.value) and caught.value.path == "path"
    assert caught.value.trace is not None
    assert (file.is_file() and file.read_bytes()) == before


def test_a_check_of_a_file_reads_it_and_leaves_it_alone(file: Path) -> None:
    FileStore(str(file), 10, None).put({b"key": StoredScore(0.5, None)}, [])
    before = file.read_bytes()
    assert check_cache_file(str(file), 1.0) == 1
    assert file.read_bytes() == before
    foreign(file, "PRAGMA user_version = 3")
    with pytest.raises(ConfigError, match="another version of rag_rerank"):
        check_cache_file(str(file), 1.0)
    file.write_text("some notes\n" * 200)
    with pytest.raises(ConfigError, match="file is not a database"):
        check_cache_file(str(file), 1.0)


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"scores\.db cannot be used as a score cache: (Not a directory|File exists)"):
        Cached(reranker=ScriptedReranker(), path=str(tmp_path / "file" / "scores.db")).warm_up()


def test_a_file_that_cannot_be_written_is_refused_at_once(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect  # permissions bind nobody who runs the tests as root, so the connection is read-only

    def read_only(path: Path, **options: Any) -> sqlite3.Connection:
        return connect(f"file:{path}?mode=ro", uri=True, **options)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    with pytest.raises(ConfigError, match="attempt to write a readonly database; make its folder writable"):
        FileStore(str(store._path), 10, None)


def test_the_file_of_another_version_is_refused(file: Path, store: FileStore) -> None:
    foreign(file, "PRAGMA user_version = 3")
    with pytest.raises(ConfigError, match="another version of rag_rerank; name another file, or delete this one"):
        FileStore(str(file), 10, None)


def test_a_file_from_before_relevant_spans_is_used_on(file: Path) -> None:
    old = (
        "CREATE TABLE scores (key BLOB PRIMARY KEY, score REAL NOT NULL, total INTEGER, seen INTEGER, "
        "made REAL NOT NULL, used REAL NOT NULL) WITHOUT ROWID"
    )
    with sqlite3.connect(file) as connection:
        connection.execute(old)
        connection.execute("CREATE INDEX by_use ON scores (used)")
        connection.execute("INSERT INTO scores VALUES (x'01', 0.5, 4, 4, 0, 0)")
        connection.execute(f"PRAGMA application_id = {0x52524B43}")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    span = RelevantSpan(0, 4, 0.75, 0.75, is_relevant=True)
    for _ in range(2):
        store = FileStore(str(file), 10, None)
        assert store.find([b"\x01"], []) == {b"\x01": StoredScore(0.5, Coverage(4, 4))}
        store.put({b"\x02": StoredScore(0.25, None, (span,)), b"\x03": StoredScore(0.1, None, ())}, [])
        assert store.find([b"\x02"], [])[b"\x02"].spans == (span,)
        assert store.find([b"\x03"], [])[b"\x03"].spans == ()
        store.close()


def test_a_file_damaged_on_the_way_is_an_error_and_no_miss(file: Path) -> None:
    texts = [f"text {i}" for i in range(2000)]
    with Cached(reranker=ScriptedReranker(), path=str(file)) as cached:
        cached.rerank("q", texts)
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(content)
    with (
        Cached(reranker=ScriptedReranker(), path=str(file)) as cached,
        pytest.raises(ConfigError, match=r"malformed.*delete this one if it is a damaged cache"),
    ):
        cached.rerank("q", texts)


def test_a_full_disk_costs_a_note_and_no_score(file: Path) -> None:
    inner = ScriptedReranker(by_text={f"text {i}": float(i) for i in range(2000)})
    with Cached(reranker=inner, path=str(file)) as cached:
        cached.rerank("q", ["text 0"])
        connection = cached._store._opened.connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite now says what it says on a full disk
        ranking = cached.rerank("q", list(inner.by_text))
        assert [hit.raw_score for hit in ranking] == sorted(inner.by_text.values(), reverse=True)
        assert ranking.trace.notes == (
            f"the cache {file} could not be written: database or disk is full",
            "1 of 2000 scores came from the cache",
        )
        assert cached.rerank("q", list(inner.by_text)).usage.cached == 1  # nothing by halves
        connection.execute("PRAGMA max_page_count = 100000")
        cached.rerank("q", list(inner.by_text))
        assert cached.rerank("q", list(inner.by_text)).usage.cached == 2000


def test_a_writer_that_does_not_end_is_noted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rag_rerank.compose.cache.cache_stores._BUSY_SECONDS", 0.0)
    with Cached(reranker=ScriptedReranker(), path=str(file)) as cached:
        cached.rerank("q", ["a"])
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        ranking = cached.rerank("q", ["a", "b"])
        assert (ranking.usage.cached, ranking.usage.texts) == (1, 1)
        assert "could not be written: database is locked" in ranking.trace.notes[0]
        other.execute("ROLLBACK")
        other.close()
        cached.rerank("q", ["b"])
        assert cached.rerank("q", ["a", "b"]).usage.cached == 2


def test_two_caches_of_one_process_share_a_file(file: Path) -> None:
    inner = ScriptedReranker()
    with Cached(reranker=inner, path=str(file)) as one, Cached(reranker=inner, path=str(file), name="two") as two:
        one.rerank("q", ["a"])
        assert two.rerank("q", ["a", "b"]).usage.cached == 1
        assert one.rerank("q", ["b", "a"]).usage.cached == 2
