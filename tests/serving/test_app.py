"""What the server does besides ranking: keys, limits, errors, warnings, figures, start and stop."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar

import httpx
import pytest
from support.served import served

from rag_rerank import PointwiseReranker, Scores, build
from rag_rerank.errors import (
    BackendTimeout,
    BackendUnavailable,
    BadResponse,
    ConfigError,
    ModelLoadError,
    RateLimited,
    UnusableKey,
)
from rag_rerank.serving import ServerSettings
from rag_rerank.testing import ScriptedReranker

BODY = {"query": "how tall is K2?", "documents": ["K2 is 8,611 m high.", "Lake Garda is 346 m deep."]}


@dataclass(frozen=True, kw_only=True)
class Waiting(ScriptedReranker):
    """Answers when it is let."""

    kind: ClassVar[str] = "waiting"
    let: threading.Event = field(default_factory=threading.Event, compare=False, metadata={"live": True})

    def score(self, query: str, texts: Any) -> Scores:
        assert self.let.wait(30)
        return super().score(query, texts)


def post(url: str, body: Any = BODY, path: str = "/v2/rerank", **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else None
    return httpx.post(url + path, json=None if content else body, content=content, headers=headers, timeout=30)


def wait_until(holds: Any) -> None:
    for _ in range(2000):
        if holds():
            return
        time.sleep(0.005)
    raise AssertionError("it never held")


def figure(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


def test_a_key_is_asked_for_and_read_at_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_KEY", "first-key-123")
    settings = ServerSettings(api_keys=("${SERVER_KEY}", "another-key-456"))
    assert "another" not in repr(settings)
    with served(ScriptedReranker(), settings) as url:
        assert post(url).status_code == 401
        assert post(url, authorization="Bearer wrong").headers["www-authenticate"] == "Bearer"
        assert post(url, authorization="Basic first-key-123").status_code == 401
        assert post(url, authorization="Bearer first-key-123").status_code == 200
        assert post(url, authorization="bearer another-key-456").status_code == 200
        monkeypatch.setenv("SERVER_KEY", "second-key-789")
        assert post(url, authorization="Bearer first-key-123").status_code == 401
        assert post(url, authorization="Bearer second-key-789").status_code == 200
        assert httpx.get(f"{url}/health").status_code == 200


def test_an_empty_key_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnusableKey, match="SERVER_KEY"):
        ServerSettings(api_keys=("${SERVER_KEY}",))
    with pytest.raises(ConfigError, match="empty"):
        ServerSettings(api_keys=("${SERVER_KEY:-}",))


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "not JSON"),
        (b'{"query": NaN}', 400, "not JSON"),
        (b"[]", 400, "an object"),
        (b'\xff{"query": "q"}', 400, "not JSON"),
        ({"query": "q"}, 400, "no texts"),
        ({"documents": ["a"]}, 400, "query"),
        ({"query": " ", "documents": ["a"]}, 400, "blank"),
        ({"query": "q", "documents": []}, 400, "empty"),
        ({"query": "q", "documents": "a"}, 400, "a list"),
        ({"query": "q", "documents": ["a", 3]}, 400, r"documents[1]"),
        ({"query": "q", "documents": [{"title": "a"}]}, 400, "rank_fields"),
        ({"query": "q", "documents": ["a"], "top_n": -1}, 400, "top_n"),
        ({"query": "q", "documents": ["a"], "top_n": True}, 400, "top_n"),
        ({"query": "q", "documents": ["a"], "top_n": "1"}, 400, "whole number"),
        ({"query": "q", "documents": ["a"], "return_documents": 1}, 400, "true or false"),
        ({"query": "q", "documents": ["a"] * 6}, 400, "at most 5"),
        ({"query": "q", "documents": ["a"], "instruction": "prefer short texts"}, 400, "instruction"),
        ({"query": "q", "documents": ["a"], "model": "other"}, 404, "mine"),
        ({"query": "q", "documents": ["a" * 2000]}, 413, "1,000 bytes"),
    ],
)
def test_a_wrong_request_is_refused_in_words(body: Any, status: int, words: str) -> None:
    settings = ServerSettings(max_texts=5, max_body_bytes=1000, model_names=("mine",))
    with served(ScriptedReranker(), settings) as url:
        answer = post(url, body)
        assert answer.status_code == status
        assert words in answer.json()["message"]
        assert answer.json()["error"]["message"] == answer.json()["detail"] == answer.json()["message"]
        if isinstance(body, dict) and "documents" in body:
            texts = {"texts" if name == "documents" else name: value for name, value in body.items()}
            assert set(post(url, texts, "/rerank").json()) <= {"error", "error_type", "message", "detail"}


@pytest.mark.parametrize(
    ("error", "status", "wait"),
    [
        (RateLimited("slow down", retry_after=2.3), 429, "3"),
        (BackendTimeout("too slow"), 504, None),
        (BackendUnavailable("down"), 503, None),
        (BadResponse("no JSON"), 502, None),
        (ModelLoadError("no such file"), 500, None),
    ],
)
def test_an_error_of_the_reranker_is_a_status(error: Exception, status: int, wait: str | None) -> None:
    with served(ScriptedReranker(error=error)) as url:
        answer = post(url)
        assert (answer.status_code, answer.headers.get("retry-after")) == (status, wait)
        assert str(error) in answer.json()["message"]
        tei = post(url, {"query": "q", "texts": ["a"]}, "/rerank").json()
        assert tei == {"error": tei["error"], "error_type": tei["error_type"]}
        assert str(error) in tei["error"]


def test_when_the_queue_is_full_a_request_is_turned_away_and_the_others_are_answered() -> None:
    reranker = Waiting()
    settings = ServerSettings(concurrency=2, max_queue=3)
    with served(reranker, settings) as url, ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(post, url) for _ in range(5)]
        wait_until(lambda: (figure(url, "rag_rerank_running"), figure(url, "rag_rerank_waiting")) == (2, 3))
        answer = post(url)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        reranker.let.set()
        assert [future.result().status_code for future in asked] == [200] * 5
        assert figure(url, "rag_rerank_running") == figure(url, "rag_rerank_waiting") == 0


def test_a_client_that_hangs_up_frees_its_place() -> None:
    reranker = Waiting()
    with served(reranker, ServerSettings(concurrency=1)) as url:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/rerank", json=BODY, timeout=0.2)
        wait_until(lambda: figure(url, "rag_rerank_running") == 0)
        reranker.let.set()
        assert post(url).status_code == 200


def test_a_server_that_is_told_to_stop_answers_what_runs() -> None:
    reranker = Waiting()
    with ThreadPoolExecutor(3) as pool:
        with served(reranker) as url:
            asked = [pool.submit(post, url) for _ in range(3)]
            wait_until(lambda: figure(url, "rag_rerank_running") == 3)
            threading.Timer(0.3, reranker.let.set).start()
        assert [future.result().status_code for future in asked] == [200] * 3


def test_it_is_ready_when_the_reranker_is_warm() -> None:
    warm = threading.Event()

    @dataclass(frozen=True, kw_only=True)
    class Slow(ScriptedReranker):
        kind: ClassVar[str] = "slow"

        def warm_up(self) -> None:
            assert warm.wait(30)

    with served(Slow()) as url, ThreadPoolExecutor(1) as pool:
        assert httpx.get(f"{url}/health").status_code == 200
        assert httpx.get(f"{url}/ready").status_code == 503
        asked = pool.submit(post, url)
        wait_until(lambda: figure(url, "rag_rerank_running") == 1)
        warm.set()
        assert asked.result().status_code == 200
        assert httpx.get(f"{url}/ready").status_code == 200


def test_a_reranker_that_cannot_be_loaded_is_an_error_for_each_request() -> None:
    with served(build("onnx", model="./no-such-folder")) as url:
        assert post(url).status_code == 500
        assert "no-such-folder" in post(url).json()["message"]
        ready = httpx.get(f"{url}/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": "failed"})


def test_texts_without_a_score_come_last_with_the_lowest_number_and_are_told() -> None:
    texts = ["low", " ", "high"]
    with served(ScriptedReranker(by_text={"low": -2.0, "high": 3.0})) as url:
        answer = post(url, {"query": "q", "documents": texts})
        rows = [(row["index"], row["relevance_score"]) for row in answer.json()["results"]]
        assert rows == [(2, 3.0), (0, -2.0), (1, -2.0)]
        assert any("blank" in words for words in answer.json()["meta"]["warnings"])
        assert "blank" in answer.headers["x-rerank-warnings"]
        assert answer.headers["x-rerank-scale"] == answer.json()["scale"] == "unbounded"
        rows = post(url, {"query": "q", "texts": [" ", "  "]}, "/rerank").json()
        assert rows == [{"index": 0, "score": 1.0}, {"index": 1, "score": 0.5}]


def test_options_that_are_not_applied_are_named() -> None:
    with served(ScriptedReranker()) as url:
        answer = post(url, BODY | {"max_tokens_per_doc": 5, "user": "someone", "top_n": None}).json()
        assert answer["meta"]["warnings"] == ["not applied: max_tokens_per_doc"]


@pytest.mark.filterwarnings("ignore::rag_rerank.TruncationWarning")
def test_a_long_text_is_cut_and_told_or_refused() -> None:
    body = {"query": "how tall is K2?", "texts": ["K2 is 8,611 m high.", "word " * 3000]}
    with served(build("embedded")) as url:
        answer = post(url, body, "/rerank")
        assert "beginning of 1 of 2" in answer.headers["x-rerank-warnings"]
        assert int(answer.headers["x-compute-tokens"]) > 500
        refusal = post(url, body | {"truncate": False}, "/rerank")
        assert refusal.status_code == 422
        assert "texts[1]" in refusal.json()["error"]


def test_a_request_keeps_its_id_if_it_is_harmless() -> None:
    with served(ScriptedReranker()) as url:
        assert post(url, **{"x-request-id": "abc-1.2:3"}).headers["x-request-id"] == "abc-1.2:3"
        assert post(url, **{"x-request-id": "a b<script>"}).headers["x-request-id"].isalnum()


def test_figures_and_models() -> None:
    with served(ScriptedReranker(), ServerSettings(model_names=("mine", "also-mine"))) as url:
        post(url, BODY | {"top_n": 1})
        post(url, b"{")
        assert figure(url, 'rag_rerank_requests_total{route="/v2/rerank",status="200"}') == 1
        assert figure(url, 'rag_rerank_requests_total{route="/v2/rerank",status="400"}') == 1
        assert figure(url, 'rag_rerank_request_seconds_count{route="/v2/rerank"}') == 2
        assert figure(url, "rag_rerank_texts_total") == 2
        assert (figure(url, "rag_rerank_ready"), figure(url, "rag_rerank_concurrency")) == (1, 64)
        assert figure(url, "process_resident_memory_bytes") > 1e6
        assert [row["id"] for row in httpx.get(f"{url}/v1/models").json()["data"]] == ["mine", "also-mine"]
        assert httpx.get(f"{url}/info").json()["model_id"] == "mine"
        assert "/v2/rerank" in httpx.get(f"{url}/openapi.json").json()["paths"]


def test_a_backend_that_breaks_is_no_silent_answer() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Broken(PointwiseReranker):
        kind: ClassVar[str] = "broken"
        scale = "unbounded"

        def score(self, query: str, texts: Any) -> Scores:
            raise ZeroDivisionError

    with served(Broken()) as url:
        answer = post(url, **{"x-request-id": "number-7"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
        assert "number-7" in answer.json()["message"]
        assert "ZeroDivision" not in answer.text
