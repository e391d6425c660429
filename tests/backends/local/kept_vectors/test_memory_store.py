"""The store in memory: bounded in bytes, least recently used out, shared by threads."""

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from rag_rerank.backends.local.kept_vectors.memory_store import MemoryVectorStore
from rag_rerank.backends.local.kept_vectors.store import StoreStats


def test_rows_come_back_in_the_order_of_the_keys() -> None:
    store = MemoryVectorStore()
    store.put({b"a": b"1", b"b": b"22"})
    assert store.get([b"b", b"x", b"a", b"b"]) == [b"22", None, b"1", b"22"]
    assert (store.stats.texts, store.stats.bytes, store.stats.bytes_per_text) == (2, 3, 1.5)


def test_the_row_used_least_recently_makes_room() -> None:
    store = MemoryVectorStore(max_bytes=10)
    store.put({b"a": b"1234", b"b": b"1234"})
    store.get([b"a"])
    store.put({b"c": b"1234"})
    assert store.get([b"a", b"b", b"c"]) == [b"1234", None, b"1234"]


def test_a_row_beyond_the_bound_is_not_kept_and_removes_nothing() -> None:
    store = MemoryVectorStore(max_bytes=4)
    store.put({b"a": b"1234"})
    store.put({b"b": b"12345"})
    assert store.get([b"a", b"b"]) == [b"1234", None]


def test_a_key_that_is_there_keeps_its_row() -> None:
    store = MemoryVectorStore()
    store.put({b"a": b"1"})
    store.put({b"a": b"22"})
    assert store.get([b"a"]) == [b"1"] and store.stats.bytes == 1


def test_nothing_is_left_after_close() -> None:
    store = MemoryVectorStore(max_bytes=9)
    store.put({b"a": b"1"})
    store.close()
    assert store.stats == StoreStats(0, 0, 9) and store.stats.bytes_per_text == 0.0


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 6))))
def test_the_bound_holds_and_the_bytes_are_those_of_the_rows(puts: list[tuple[str, int]]) -> None:
    store = MemoryVectorStore(max_bytes=10)
    for name, size in puts:
        store.put({name.encode(): bytes(size)})
        rows = [row for row in store.get([letter.encode() for letter in "abcdef"]) if row is not None]
        assert store.stats.bytes == sum(map(len, rows)) <= 10
        assert store.stats.texts == len(rows)


def test_threads_may_share_it() -> None:
    store = MemoryVectorStore(max_bytes=50)

    def work(number: int) -> None:
        for i in range(200):
            key = bytes([number, i % 16])
            store.put({key: bytes(5)})
            assert store.get([key])[0] in (None, bytes(5))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert store.stats.bytes == 5 * store.stats.texts <= 50
