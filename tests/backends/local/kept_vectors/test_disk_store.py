"""Vectors on disk: shared, bounded, whole after a crash, and never of something else."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_rerank import ConfigError
from rag_rerank.backends.local.kept_vectors.disk_store import DiskStore

lmdb = pytest.importorskip("lmdb", reason="needs the extra store")


def key(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def row(name: str, size: int = 1000) -> bytes:
    return (name.encode() * size)[:size]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    store = DiskStore(tmp_path / "index")
    yield store
    store.close()


def test_rows_come_back_in_the_order_of_the_keys_and_stay_valid(store: DiskStore) -> None:
    store.put({key("a"): row("a"), key("b"): row("b")})
    rows = store.get([key("b"), key("x"), key("a")])
    store.close()
    assert rows == [row("b"), None, row("a")]


def test_rows_are_there_after_opening_the_folder_again(tmp_path: Path) -> None:
    first = DiskStore(tmp_path)
    first.put({key("a"): row("a")}, ids={"doc": key("a")})
    first.close()
    second = DiskStore(tmp_path)
    assert second.get([key("a")]) == [row("a")]
    assert (second.stats.texts, second.stats.bytes, second.ids) == (1, 1000, 1)
    second.close()


def test_two_stores_of_one_process_share_a_folder(tmp_path: Path) -> None:
    one, two = DiskStore(tmp_path), DiskStore(tmp_path)
    one.put({key("a"): row("a")})
    one.close()
    assert two.get([key("a")]) == [row("a")]
    two.close()
    with pytest.raises(ConfigError, match="was closed"):
        two.get([key("a")])


def test_a_kept_row_is_not_replaced(store: DiskStore) -> None:
    store.put({key("a"): b"first"})
    store.put({key("a"): b"second"})
    assert store.get([key("a")]) == [b"first"]
    assert store.stats.bytes == 5


def test_without_room_the_oldest_rows_without_an_id_go(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, max_bytes=3000)
    store.put({key("indexed"): row("i")}, ids={"doc": key("indexed")})
    for name in "abc":
        store.put({key(name): row(name)})
    assert store.has([key("indexed"), key("a"), key("b"), key("c")]) == [True, False, True, True]
    store.put({key("huge"): row("h", 4000)})
    assert not any(store.has([key("huge")]))
    assert store.stats.bytes == 3000
    store.close()


def test_an_index_that_is_full_keeps_nothing_of_the_call(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, max_bytes=2500)
    store.put({key("a"): row("a"), key("b"): row("b")}, ids={"1": key("a"), "2": key("b")})
    with pytest.raises(ConfigError, match="raise max_bytes") as error:
        store.put({key("c"): row("c", 400), key("d"): row("d")}, ids={"3": key("c"), "4": key("d")})
    assert error.value.path == "store.max_bytes"
    assert store.has([key("c"), key("d")]) == [False, False]
    assert store.ids == 2
    store.close()


def test_a_text_that_changed_under_its_id_replaces_the_old_row(store: DiskStore) -> None:
    store.put({key("old"): row("o"), key("shared"): row("s")}, ids={"1": key("old"), "2": key("shared")})
    store.put({key("new"): row("n")}, ids={"1": key("new"), "3": key("shared")})
    assert store.has([key("old"), key("new"), key("shared")]) == [False, True, True]
    store.put({}, ids={"2": key("new")})
    assert store.has([key("shared")]) == [True], "the id 3 still names it"


def test_deletion_by_id_keeps_rows_that_another_id_names(store: DiskStore) -> None:
    store.put({key("a"): row("a"), key("b"): row("b")}, ids={"1": key("a"), "2": key("a"), "3": key("b")})
    assert store.delete(["1", "3", "unknown"]) == 2
    assert store.has([key("a"), key("b")]) == [True, False]
    assert store.delete(["2"]) == 1
    assert (store.stats.texts, store.stats.bytes, store.ids) == (0, 0, 0)


def test_ids_of_any_length_and_alphabet(store: DiskStore) -> None:
    names = ["", "x" * 10_000, "x" * 10_001, "日本", "a\x00b", "\ud800"]
    store.put({key("a"): row("a")}, ids=dict.fromkeys(names, key("a")))
    assert store.ids == len(names)
    assert store.delete(names) == len(names)


def test_a_child_of_fork_opens_the_folder_for_itself(store: DiskStore) -> None:
    store.put({key("a"): row("a")})

    def child() -> None:
        store.put({key("child"): row("c")})
        os._exit(0 if store.get([key("a")]) == [row("a")] else 1)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert store.get([key("a"), key("child")]) == [row("a"), row("c")]


WRITER = """
    import hashlib, itertools, sys
    from rag_rerank.backends.local.kept_vectors.disk_store import DiskStore

    store = DiskStore(sys.argv[1])
    for number in itertools.count():
        name = str(number)
        row = (name.encode() + b".") * 20_000
        store.put({hashlib.sha256(name.encode()).digest(): row}, ids={name: hashlib.sha256(name.encode()).digest()})
        print(name, flush=True)
"""


def writer(folder: Path, code: str = WRITER) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def whole(name: str) -> bytes:
    return (name.encode() + b".") * 20_000


def test_what_was_acknowledged_before_a_kill_is_there(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline().strip() for _ in range(25)]
        process.send_signal(signal.SIGKILL)
        acknowledged += process.stdout.read().split()
    store = DiskStore(tmp_path)
    assert store.get([key(name) for name in acknowledged]) == [whole(name) for name in acknowledged]
    assert store.stats.bytes == sum(len(row or b"") for row in store.get([key(str(n)) for n in range(store.ids)]))
    store.put({key("after"): b"x"})
    store.close()


def test_readers_see_whole_rows_while_another_process_writes(tmp_path: Path) -> None:
    torn: list[str] = []
    rows_read = [0, 0]
    done = threading.Event()

    def look(reader: int) -> None:
        while not done.is_set():
            names = [str(n) for n in range(store.ids)]
            for name, kept in zip(names, store.get([key(name) for name in names]), strict=True):
                rows_read[reader] += 1
                if kept != whole(name):
                    torn.append(name)

    with writer(tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        store = DiskStore(tmp_path)
        threads = [threading.Thread(target=look, args=(reader,)) for reader in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(40):
            process.stdout.readline()
        done.set()
        for thread in threads:
            thread.join()
        process.kill()
        process.stdout.read()
    store.close()
    assert not torn
    assert min(rows_read) > 0


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    store.put({key(str(n)): row("x", 50_000) for n in range(20)})
    store.close()
    file = tmp_path / "data.mdb"
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(ConfigError, match="was cut off"):
        DiskStore(tmp_path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"something else" * 1000)
    with pytest.raises(ConfigError, match="cannot be used as a store"):
        DiskStore(tmp_path)
    assert (tmp_path / "data.mdb").read_bytes() == b"something else" * 1000
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be used as a store"):
        DiskStore(tmp_path / "file")


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    environment = lmdb.open(str(tmp_path), max_dbs=2)
    with environment.begin(write=True) as transaction:
        transaction.put(b"their key", b"their value")
    environment.close()
    with pytest.raises(ConfigError, match="a database of something else"):
        DiskStore(tmp_path)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    DiskStore(tmp_path).close()
    environment = lmdb.open(str(tmp_path), max_dbs=5)
    with environment.begin(write=True) as transaction:
        transaction.put(b"layout", b"rag_rerank.vectors/0", db=environment.open_db(b"facts", transaction))
    environment.close()
    with pytest.raises(ConfigError, match="another version"):
        DiskStore(tmp_path)


def test_a_read_only_index_is_read_and_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no index in it"):
        DiskStore(tmp_path / "absent", read_only=True)
    assert not (tmp_path / "absent").exists()
    first = DiskStore(tmp_path)
    first.put({key("a"): row("a")})
    first.close()
    store = DiskStore(tmp_path, read_only=True, max_bytes=10)
    assert store.get([key("a")]) == [row("a")]
    with pytest.raises(ConfigError, match="read_only"):
        store.put({key("b"): b"b"})
    store.close()


FULL_DISK = """
    import hashlib, resource, signal, sys
    from rag_rerank import ConfigError
    from rag_rerank.backends.local.kept_vectors.disk_store import DiskStore

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = DiskStore(sys.argv[1])
    store.put({b"1" * 32: b"x" * 1000})
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    try:
        store.put({b"2" * 32: b"x" * 1_000_000})
    except ConfigError as error:
        print(error)
    print(store.has([b"1" * 32, b"2" * 32]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_is_an_error_that_keeps_what_was_there(tmp_path: Path) -> None:
    with writer(tmp_path, FULL_DISK) as process:
        output, errors = process.communicate()
    assert "cannot be used as a store of text vectors" in output, errors
    assert "[True, False]" in output
