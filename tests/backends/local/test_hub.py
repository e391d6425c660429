"""What a hub that fails means: a failure that may pass moves a fallback on, and a wrong name does not."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hub_server import COMMIT, MODEL, HubAnswer, HubServer, point_to

import rag_rerank
from rag_rerank import (
    ConfigError,
    DeadlineExceeded,
    MissingExtraError,
    ModelLoadError,
    ModelUnavailable,
    TransientError,
    build,
)
from rag_rerank.backends.local import hub as hub_module
from rag_rerank.backends.local.model_files import list_files
from rag_rerank.backends.onnx import OnnxReranker

EMBEDDED = Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1"
FILES = {
    name: (EMBEDDED / Path(name).name).read_bytes()
    for name in ("onnx/model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json")
}
PAGE = HubAnswer(200, {"content-type": "text/html"}, b"<html>log in to the network</html>")
PASSING = {
    "a server error": HubAnswer(503),
    "a gateway error with a page": HubAnswer(502, {"content-type": "text/html"}, b"<html>bad gateway</html>"),
    "too many requests": HubAnswer(429, {"retry-after": "3600"}),
    "a login page": PAGE,
    "facts of something else": HubAnswer(200, body=b'["no", "model"]'),
    "a redirect to a login page": HubAnswer(302, {"Location": "/login"}),
    "a dropped connection": HubAnswer(0),
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one model, and an empty cache."""
    with HubServer(FILES) as server:
        point_to(server.url, tmp_path / "cache", monkeypatch)
        yield server


def rank(reranker: rag_rerank.Reranker, how: str = "rerank", **options: Any) -> rag_rerank.Ranking:
    arguments = ("how warm?", ["warm"])
    if how == "rerank":
        return reranker.rerank(*arguments, **options)
    return asyncio.run(reranker.arerank(*arguments, **options))


def with_lexical(spec: Any) -> rag_rerank.Reranker:
    return build({"type": "fallback", "members": [spec, "lexical"]})


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_model_is_fetched_once_and_then_needs_no_hub(hub: HubServer) -> None:
    reranker = OnnxReranker(model=MODEL, optimize=False)
    assert not reranker.is_cached()
    assert reranker.rerank("how warm?", ["warm"]).trace.notes[0].endswith(COMMIT)
    hub.paths.clear()
    hub.answers = lambda path: HubAnswer(503)
    assert OnnxReranker(model=MODEL, optimize=False).rerank("how warm?", ["warm"]).degraded == ()
    assert hub.paths == []


@pytest.mark.parametrize("how", ["rerank", "arerank"])
@pytest.mark.parametrize("failure", PASSING)
def test_a_hub_that_fails_moves_a_fallback_on_after_one_request(hub: HubServer, failure: str, how: str) -> None:
    hub.answers = lambda path: PAGE if path == "/login" else PASSING[failure]
    ranking = rank(with_lexical(f"onnx:{MODEL}"), how)
    (reason,) = ranking.degraded
    assert reason.startswith(f"lexical answered in place of onnx:{MODEL} (ModelUnavailable: not in the local cache")
    assert len([path for path in hub.paths if path != "/login"]) == 1


def test_the_files_of_a_model_are_listed_with_the_same_errors(hub: HubServer) -> None:
    assert set(list_files(MODEL, backend="onnx", revision=None)) == set(FILES)
    hub.answers = lambda path: HubAnswer(503)
    with pytest.raises(ModelUnavailable, match="answered 503"):
        list_files(MODEL, backend="onnx", revision=None)


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_the_error_names_the_model_the_reason_and_the_command(hub: HubServer, kind: str) -> None:
    hub.answers = lambda path: HubAnswer(503)
    with pytest.raises(
        ModelUnavailable, match=f"{hub.url} answered 503; .*: rag-rerank pull {kind}:{MODEL}(?m:$)"
    ) as caught:
        build(f"{kind}:{MODEL}").fetch()
    assert isinstance(caught.value, TransientError) and isinstance(caught.value, ModelLoadError)
    assert (caught.value.backend, caught.value.model, caught.value.status) == (kind, MODEL, 503)


def test_files_that_cannot_be_fetched_move_a_fallback_on(hub: HubServer) -> None:
    hub.answers = lambda path: HubAnswer(0) if "/resolve/" in path else None
    assert "ModelUnavailable" in rank(with_lexical(f"onnx:{MODEL}")).degraded[0]
    hub.answers = lambda path: None
    assert rank(with_lexical({"type": "onnx", "model": MODEL, "optimize": False})).degraded == ()


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (HubAnswer(404, {"X-Error-Code": "RepoNotFound"}), "the hub shows no model .* check its name"),
        (HubAnswer(401, {"X-Error-Code": "RepoNotFound"}), "if it is private, give a token"),
        (HubAnswer(403, {"X-Error-Code": "GatedRepo"}), "accept its terms at https://huggingface.co/someone/cross-enc"),
        (HubAnswer(404, {"X-Error-Code": "RevisionNotFound"}), "has no revision 'v9' on the hub"),
        (HubAnswer(401), r"the hub refuses .*token.*HF_TOKEN"),
        (HubAnswer(403), r"the hub refuses .*token.*HF_TOKEN"),
    ],
)
def test_a_wrong_name_or_right_is_permanent(hub: HubServer, answer: HubAnswer, advice: str) -> None:
    hub.answers = lambda path: answer
    with pytest.raises(ModelLoadError, match=advice) as caught:
        rank(with_lexical({"type": "onnx", "model": MODEL, "revision": "v9"}))
    assert not isinstance(caught.value, TransientError)


def test_what_the_user_typed_is_named(hub: HubServer) -> None:
    hub.answers = lambda path: HubAnswer(503)
    with pytest.raises(
        ModelUnavailable, match=r"^minilm \(cross-encoder/ms-marco.*@c5ee24cb1601\).*pull onnx:minilm(?m:$)"
    ):
        build("onnx:minilm").warm_up()
    with pytest.raises(ModelUnavailable, match=rf"^{MODEL} \({MODEL}@v9\).*pull onnx:{MODEL}@v9(?m:$)"):
        OnnxReranker(model=MODEL, revision="v9").warm_up()


def test_offline_mode_asks_nobody_and_moves_a_fallback_on(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    ranking = rank(with_lexical("onnx:minilm"))
    assert "not in the local cache, and offline mode is on (HF_HUB_OFFLINE)" in ranking.degraded[0]
    assert hub.paths == []


def test_cached_revisions_are_named_where_another_is_wanted(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    build(f"onnx:{MODEL}").fetch()
    wanted = OnnxReranker(model=MODEL, revision="b" * 40)
    for offline in (True, False):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
        with pytest.raises(ModelLoadError, match=rf"bbbbbb.*other revisions: {COMMIT[:12]} \(main\)"):
            wanted.warm_up()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnavailable, match=f"rag-rerank pull onnx:{MODEL}@{'b' * 40}(?m:$)"):
        wanted.warm_up()


def test_a_hub_that_refuses_connections_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(f"http://127.0.0.1:{unused_port()}", tmp_path, monkeypatch)
    assert "ModelUnavailable" in rank(with_lexical("onnx:minilm")).degraded[0]


def test_an_endpoint_that_is_no_url_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to("hub.example.com", tmp_path, monkeypatch)
    with pytest.raises(ConfigError, match=r"HF_ENDPOINT must look like https://host, got 'hub\.example\.com'"):
        build("onnx:minilm").warm_up()


def test_a_name_that_cannot_be_resolved_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    point_to("https://hub.invalid", tmp_path, monkeypatch)
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ModelUnavailable, match="Name or service not known"):
        build("onnx:minilm").warm_up()


def test_a_hub_without_any_answer_is_waited_for_once(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.2)
    monkeypatch.setattr(hub_module, "_CONNECT_SECONDS", 0.2)
    hub.answers = lambda path: HubAnswer(-1)
    for said in ("gave no answer in time;", "gave no answer in time 0 s ago"):
        with pytest.raises(ModelUnavailable, match=said):
            build(f"onnx:{MODEL}").warm_up()
    assert len(hub.paths) == 1


@pytest.mark.parametrize("how", ["rerank", "arerank"])
def test_a_call_with_a_deadline_does_not_wait_for_the_hub(hub: HubServer, how: str) -> None:
    hub.answers = lambda path: HubAnswer(-1)
    try:
        with pytest.raises(DeadlineExceeded):
            rank(build(f"onnx:{MODEL}"), how, timeout=0.1)
        late = build({"type": "deadline", "reranker": f"onnx:{MODEL}", "seconds": 0.1})
        assert "late" in rank(late, how).degraded[0]
        assert not hub.released.is_set()
    finally:
        hub.released.set()


@pytest.mark.parametrize("kind", ["windows", "cached"])
def test_what_composites_load_for_themselves_keeps_the_deadline_too(hub: HubServer, kind: str) -> None:
    spec = {"type": kind, "reranker": f"onnx:{MODEL}"}
    hub.answers = lambda path: HubAnswer(-1)
    try:
        for how in ("rerank", "arerank"):
            with pytest.raises(DeadlineExceeded):
                rank(build(spec), how, timeout=0.1)
        assert not hub.released.is_set()
    finally:
        hub.released.set()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"ALL_PROXY": "socks5://127.0.0.1:9"}, MissingExtraError),
        ({"HTTPS_PROXY": "ftp://x:1", "HTTP_PROXY": "ftp://x:1"}, ConfigError),
    ],
)
def test_an_environment_without_a_client_is_not_taken_for_an_outage(
    environment: dict[str, str], expected: type[Exception], tmp_path: Path
) -> None:
    code = f"""
import rag_rerank
try:
    rag_rerank.build({{"type": "fallback", "members": ["onnx:{MODEL}", "lexical"]}}).rerank("how?", ["warm"])
except rag_rerank.{expected.__name__} as error:
    print("as expected", error)
"""
    names = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
    clean = {name: value for name, value in os.environ.items() if name.upper() not in names}
    child = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.stdout.startswith("as expected"), child.stderr


def test_a_cache_that_cannot_be_written_says_so(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in its place")
    with pytest.raises(ModelLoadError, match="HF_HUB_CACHE") as caught:
        build(f"onnx:{MODEL}").warm_up()
    assert not isinstance(caught.value, TransientError)


def test_a_cache_without_a_home_says_so(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "~/.cache/huggingface/hub")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(ModelLoadError, match=r"no home directory.*HF_HOME"):
        build(f"onnx:{MODEL}").warm_up()
    assert not Path("~").exists()
