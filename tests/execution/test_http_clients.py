"""Environments in which no HTTP client can work: the error names the variable to mend, and no password."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.api.rerank_server import RerankServer

from rag_rerank import BackendUnavailable, ConfigError, MissingExtraError, RerankError, build
from rag_rerank.execution.http_clients import is_loopback

FAR = "https://rerank.example.com"
PASSWORD = "pass-word-of-the-proxy"
SOCKS = {"ALL_PROXY": f"socks5://me:{PASSWORD}@127.0.0.1:1"}

SPECS: dict[str, dict[str, Any]] = {
    "cohere": {"type": "cohere", "api_key": "k"},
    "voyage": {"type": "voyage", "api_key": "k", "model": "rerank-2.5"},
    "http": {"type": "http", "dialect": "vllm", "model": "m"},
}
ONE_ATTEMPT = {"retry": {"attempts": 1}}


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def server() -> Iterator[RerankServer]:
    with RerankServer() as running:
        yield running


def call(spec: dict[str, Any], how: str) -> Any:
    with build(spec) as reranker:
        if how == "warm_up":
            return reranker.warm_up()
        if how == "rerank":
            return reranker.rerank("how warm?", ["warm"])
        return asyncio.run(reranker.arerank("how warm?", ["warm"]))


def everything_in(error: BaseException) -> str:
    texts = []
    seen: BaseException | None = error
    while seen is not None:
        texts += [str(seen), repr(seen), repr(vars(seen))]
        seen = seen.__cause__ or seen.__context__
    return " ".join(texts)


@pytest.mark.parametrize("how", ["warm_up", "rerank", "arerank"])
@pytest.mark.parametrize("kind", ["cohere", "http"])
@pytest.mark.parametrize(
    ("environment", "expected", "named"),
    [
        (SOCKS, MissingExtraError, r'ALL_PROXY .*pip install "httpx\[socks\]"'),
        ({"SSL_CERT_FILE": "/missing.pem"}, ConfigError, "SSL_CERT_FILE names /missing.pem"),
        ({"SSL_CERT_FILE": __file__}, ConfigError, "SSL_CERT_FILE names .*test_http_clients.py"),
        ({"HTTPS_PROXY": f"ftp://me:{PASSWORD}@x:1"}, ConfigError, "HTTPS_PROXY cannot be used"),
        ({"https_proxy": f"http://me:{PASSWORD}@x:port"}, ConfigError, "https_proxy cannot be used"),
        ({"HTTP_PROXY": "http://x:1", "NO_PROXY": "fd00::/8"}, ConfigError, "NO_PROXY cannot be used"),
    ],
)
def test_an_environment_without_a_client_is_a_typed_error_that_names_what_to_mend(
    kind: str,
    how: str,
    environment: dict[str, str],
    expected: type[RerankError],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(expected, match=named) as caught:
        call({**SPECS[kind], "base_url": FAR}, how)
    assert PASSWORD not in everything_in(caught.value)


@pytest.mark.parametrize(
    ("environment", "expected", "named"),
    [
        (SOCKS, MissingExtraError, r'ALL_PROXY .*pip install "requests\[socks\]"'),
        ({"REQUESTS_CA_BUNDLE": "/missing.pem"}, ConfigError, "REQUESTS_CA_BUNDLE names /missing.pem"),
        ({"HTTPS_PROXY": f"ftp://me:{PASSWORD}@x:1"}, ConfigError, "HTTPS_PROXY cannot be used"),
        ({"HTTPS_PROXY": f"http://me:{PASSWORD}@[::1"}, ConfigError, "HTTPS_PROXY cannot be used"),
    ],
)
def test_the_errors_of_requests_are_the_same_ones(
    environment: dict[str, str], expected: type[RerankError], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(expected, match=named) as caught:
        call({**SPECS["voyage"], "base_url": f"{FAR}/v1"}, "rerank")
    assert PASSWORD not in everything_in(caught.value)


@pytest.mark.parametrize("how", ["rerank", "arerank"])
def test_a_fallback_does_not_hide_such_an_environment(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/missing.pem")
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        call({"type": "fallback", "members": [{**SPECS["http"], "base_url": FAR}, "lexical"]}, how)


@pytest.mark.parametrize("how", ["rerank", "arerank"])
@pytest.mark.parametrize("kind", ["cohere", "http"])
@pytest.mark.parametrize(
    "environment",
    [SOCKS, {"HTTP_PROXY": "http://127.0.0.1:9"}, {"SSL_CERT_FILE": "/missing.pem"}, {"http_proxy": "ftp://x:1"}],
)
def test_a_server_on_this_machine_is_reached_without_proxy_and_certificates(
    kind: str, how: str, environment: dict[str, str], server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    url = server.url if kind == "cohere" else server.base("vllm")
    for host in ("127.0.0.1", "localhost"):
        ranking = call({**SPECS[kind], "base_url": url.replace("127.0.0.1", host), **ONE_ATTEMPT}, how)
        assert len(ranking) == 1


def test_other_hosts_go_through_the_proxy_unless_no_proxy_lists_them(
    server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    spec = {**SPECS["http"], "base_url": "http://rerank.invalid", **ONE_ATTEMPT}
    with pytest.raises(BackendUnavailable, match="refused"):  # by the proxy
        call(spec, "rerank")
    monkeypatch.setenv("NO_PROXY", "rerank.invalid")
    with pytest.raises(BackendUnavailable) as caught:
        call(spec, "rerank")
    assert "refused" not in str(caught.value)


def test_a_proxy_that_is_down_moves_a_fallback_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    spec = {"type": "fallback", "members": [{**SPECS["http"], "base_url": FAR, **ONE_ATTEMPT}, "lexical"]}
    assert call(spec, "rerank").degraded


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://127.8.9.1", True),
        ("https://[::1]:8443/v1", True),
        ("http://LOCALHOST.:80", True),
        ("http://models.localhost", True),
        ("http://0.0.0.0:8000", True),
        ("http://localhost.example.com", False),
        ("http://10.0.0.1", False),
        ("https://api.example.com", False),
        ("", False),
    ],
)
def test_which_urls_lead_to_this_machine(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_certificates_that_can_be_read_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import certifi

    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
    monkeypatch.setenv("SSL_CERT_DIR", str(Path(certifi.where()).parent))
    call({**SPECS["http"], "base_url": FAR}, "warm_up")
