"""Values that load once, and keys that no output contains."""

import pickle
import threading
import time

import pytest

from rag_rerank import AuthenticationError, ConfigError, Secret
from rag_rerank._lazy import forget, load_once


class Thing:
    loads = 0

    @load_once
    def value(self) -> object:
        type(self).loads += 1
        time.sleep(0.01)
        return object()


def test_threads_that_meet_at_first_use_load_once() -> None:
    thing, values = Thing(), []
    Thing.loads = 0
    start = threading.Barrier(8)

    def use() -> None:
        start.wait()
        values.append(thing.value)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Thing.loads == 1 and len(set(map(id, values))) == 1


def test_an_error_while_loading_comes_alone_and_the_next_use_tries_again() -> None:
    class Failing:
        @load_once
        def value(self) -> object:
            raise OSError("no such file")

    for _ in range(2):
        with pytest.raises(OSError, match="no such file") as caught:
            _ = Failing().value
        assert caught.value.__context__ is None


def test_a_value_can_be_forgotten_and_loads_again() -> None:
    thing = Thing()
    first = thing.value
    assert forget(thing, "value") is first
    assert forget(thing, "value") is None
    assert thing.value is not first


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r}".format, "%s".__mod__])
def test_no_conversion_to_text_contains_the_key(show: object) -> None:
    assert show(Secret("s3cret")) == "Secret(***)"
    assert show(Secret("${MY_KEY}")) == "Secret(${MY_KEY})"


def test_a_reference_is_read_at_each_use(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Secret("${MY_KEY}")
    monkeypatch.setenv("MY_KEY", "one")
    assert secret.reveal() == "one"
    monkeypatch.setenv("MY_KEY", "two")
    assert secret.reveal() == "two"
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(AuthenticationError, match="MY_KEY"):
        secret.reveal()


def test_keys_compare_by_value_and_pickle() -> None:
    assert Secret("a") == Secret(Secret("a")) != Secret("b")
    assert pickle.loads(pickle.dumps(Secret("a"))) == Secret("a")
    with pytest.raises(ConfigError, match="must be the whole value"):
        Secret("a${B}")
