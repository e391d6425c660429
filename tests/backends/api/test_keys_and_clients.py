"""Where keys come from, and clients that the caller injects."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from support.api.providers import COHERE, KEY, QUERY, TEXTS, Ask, Provider
from support.api.rerank_server import Answer, RerankServer

from rag_rerank import AuthenticationError, BadResponse, ConfigError, Secret, build, to_config
from rag_rerank.backends.api.event_loops import PerLoop
from rag_rerank.backends.cohere import CohereReranker
from rag_rerank.backends.http import HttpReranker
from rag_rerank.backends.voyage import VoyageReranker

VARIABLES = {
    "cohere": ("CO_API_KEY", "COHERE_API_KEY"),
    "voyage": ("VOYAGE_API_KEY",),
    "http:jina": ("JINA_API_KEY",),
    "http:mixedbread": ("MXBAI_API_KEY",),
    "http:nim": ("NVIDIA_API_KEY",),
    "http:cloudflare": ("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_API_KEY"),
    "http:contextual": ("CONTEXTUAL_API_KEY",),
    "http:dashscope": ("DASHSCOPE_API_KEY",),
    "http:deepinfra": ("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"),
    "http:fireworks": ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"),
    "http:google": ("GOOGLE_OAUTH_ACCESS_TOKEN",),
    "http:novita": ("NOVITA_API_KEY",),
    "http:openrouter": ("OPENROUTER_API_KEY",),
    "http:opper": ("OPPER_API_KEY",),
    "http:pinecone": ("PINECONE_API_KEY",),
    "http:prime": ("PRIME_API_KEY",),
    "http:scaleway": ("SCW_SECRET_KEY",),
    "http:siliconflow": ("SILICONFLOW_API_KEY",),
    "http:together": ("TOGETHER_API_KEY",),
    "http:vercel": ("AI_GATEWAY_API_KEY",),
    "http:watsonx": ("WATSONX_TOKEN",),
    "http:zeroentropy": ("ZEROENTROPY_API_KEY",),
}
"""The variables that a provider's key is read from at its own hosts."""


PROVIDERS_URL: dict[str, Callable[[], HttpReranker]] = {
    "http:jina": lambda: HttpReranker(dialect="jina", model="m"),
    "http:mixedbread": lambda: HttpReranker(dialect="mixedbread", model="m", base_url="https://eu.mixedbread.com"),
    "http:nim": lambda: HttpReranker(dialect="nim", model="m", base_url="https://ai.api.nvidia.com/v1/retrieval/m"),
    "http:watsonx": lambda: HttpReranker(dialect="watsonx", model="m", base_url="https://eu-de.ml.cloud.ibm.com"),
    **{
        label: partial(HttpReranker, dialect=label.removeprefix("http:"), model="m")  # type: ignore[arg-type]
        for label in VARIABLES
        if label.startswith("http:") and label not in ("http:nim", "http:watsonx", "http:mixedbread")
    },
}


@pytest.mark.parametrize("name", PROVIDERS_URL)
def test_a_provider_without_an_sdk_needs_a_key_at_its_own_hosts(name: str) -> None:
    with pytest.raises(AuthenticationError, match=VARIABLES[name][0]):
        PROVIDERS_URL[name]().key()


def keys(server: RerankServer) -> list[str]:
    headers = [request.headers for request in server.received]
    return [sent.get("api-key", sent.get("authorization", "")).removeprefix("Bearer ") for sent in headers]


def test_a_missing_key_is_an_error_that_names_the_variables_before_anything_is_sent(
    provider: Provider, ask: Ask, rerank_server: RerankServer
) -> None:
    if provider.package == "httpx":  # at the address of the test, a server of one's own
        ask(provider.reranker(rerank_server, api_key=None))
        assert ["authorization" in request.headers for request in rerank_server.received] == [False]
        return
    with pytest.raises(AuthenticationError) as caught:
        ask(provider.reranker(rerank_server, api_key=None))
    assert all(name in str(caught.value) for name in VARIABLES[provider.label])
    assert 'api_key="${VAR}"' in str(caught.value)
    assert rerank_server.received == []


def test_keys_come_from_the_usual_variables_and_may_be_rotated(
    provider: Provider, ask: Ask, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker = provider.reranker(rerank_server, api_key=None)
    for name in reversed(VARIABLES.get(provider.label, ())):
        for key in (f"{name}-1", f"{name}-2"):
            monkeypatch.setenv(name, key)
            if provider.dialect:
                assert PROVIDERS_URL[provider.label]().key() == key
            else:
                ask(reranker)
                assert keys(rerank_server)[-1] == key


@pytest.mark.parametrize("url", [None, "http://localhost:{}", "http://127.0.0.1:{}/v1", "https://jina.ai.gpu.test/v1"])
def test_a_server_of_ones_own_gets_no_key_from_the_environment_and_needs_none(
    url: str | None, dialect: Provider, ask: Ask, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for names in VARIABLES.values():
        for name in names:
            monkeypatch.setenv(name, f"secret of {name}".replace(" ", "-"))
    if url is None:
        reranker = dialect.reranker(rerank_server, api_key=None)
        ask(reranker)
        requests = rerank_server.received + rerank_server.info_requests
        assert not any("authorization" in request.headers for request in requests)
    else:
        reranker = dialect.reranker(rerank_server, api_key=None, base_url=url.format(8000))
    assert reranker.key() == ""


def test_an_empty_variable_counts_as_unset(
    ask: Ask, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CO_API_KEY", " ")
    monkeypatch.setenv("COHERE_API_KEY", "second")
    ask(COHERE.reranker(rerank_server, api_key=None))
    assert keys(rerank_server) == ["second"]


def test_a_reference_is_read_at_each_call_and_kept_in_the_config(
    provider: Provider, ask: Ask, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker = provider.reranker(rerank_server, api_key="${MY_KEY}")
    with pytest.raises(AuthenticationError, match="MY_KEY"):
        ask(reranker)
    assert rerank_server.received == []
    for key in ("one", "two"):
        monkeypatch.setenv("MY_KEY", key)
        ask(reranker)
    assert keys(rerank_server) == ["one", "two"]
    assert "Secret(${MY_KEY})" in repr(reranker)
    assert to_config(reranker)["api_key"] == "${MY_KEY}"


def test_a_key_given_as_itself_shows_nowhere(provider: Provider, rerank_server: RerankServer) -> None:
    reranker = provider.reranker(rerank_server)
    assert reranker.api_key == Secret(KEY)
    assert KEY not in repr(reranker)
    assert "Secret(***)" in repr(reranker)
    assert "api_key" not in to_config(reranker)
    node = {"type": provider.kind, "api_key": KEY, "base_url": "https://gpu.test", **provider.options}
    assert KEY not in repr(build(node))


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "smart\u2019quote", "", "\t"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(
    key: str, provider: Provider, ask: Ask, rerank_server: RerankServer
) -> None:
    with pytest.raises(AuthenticationError) as caught:
        ask(provider.reranker(rerank_server, api_key=key))
    assert not key.strip() or key not in str(caught.value)
    assert caught.value.__context__ is None
    assert rerank_server.received == []


@pytest.mark.parametrize("key", [f" {KEY}", f"{KEY}\n", "$MY_KEY", "{{ MY_KEY }}", "%MY_KEY%", "your-api-key", "<key>"])
def test_what_is_no_key_is_a_config_error_wherever_it_stands_and_nothing_is_sent(
    key: str, provider: Provider, ask: Ask, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"^api_key: the API key "):
        provider.reranker(rerank_server, api_key=key)
    monkeypatch.setenv("MY_KEY", key)
    for name in VARIABLES.get(provider.label, ()):
        monkeypatch.setenv(name, key)
    reads_environment = provider.label in VARIABLES and provider.label not in PROVIDERS_URL  # on 127.0.0.1
    for api_key in ("${MY_KEY}", *([None] if reads_environment else [])):
        with pytest.raises(ConfigError, match=r"^the key in \w+ ") as caught:
            ask(provider.reranker(rerank_server, api_key=api_key))
        assert KEY not in str(caught.value)
    if provider.label in PROVIDERS_URL:
        with pytest.raises(ConfigError, match=r"^the key in \w+ "):
            PROVIDERS_URL[provider.label]().key()
    assert rerank_server.received == []


@pytest.mark.parametrize("key", ["${MY_KEY:-}", "${MY_KEY}"])
def test_an_empty_reference_is_no_key_and_only_a_server_of_your_own_may_go_without(
    key: str, provider: Provider, ask: Ask, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "")
    reranker = provider.reranker(rerank_server, api_key=key)
    assert to_config(reranker)["api_key"] == key
    if key == "${MY_KEY:-}" and (provider.label not in VARIABLES or provider.label in PROVIDERS_URL):
        ask(reranker)
        assert "authorization" not in rerank_server.received[0].headers
        return
    with pytest.raises(ConfigError, match="MY_KEY" if key == "${MY_KEY}" else "needs an API key"):
        ask(reranker)
    assert rerank_server.received == []


def test_a_default_of_a_reference_is_sent_and_never_written(
    provider: Provider, ask: Ask, rerank_server: RerankServer
) -> None:
    reranker = provider.reranker(rerank_server, api_key=f"${{MY_KEY:-{KEY}}}")
    ask(reranker)
    assert keys(rerank_server) == [KEY]
    assert KEY not in f"{reranker} {to_config(reranker)}"


def test_an_injected_cohere_client_is_used_without_its_retries(rerank_server: RerankServer) -> None:
    import cohere

    with cohere.ClientV2(api_key="its-own", base_url=rerank_server.url, client_name="mine") as client:
        reranker = CohereReranker(client=client)
        assert len(reranker.rerank(QUERY, TEXTS)) == 2
        rerank_server.then(Answer(403, body={"message": "key 0123456789abcdef0123456789 may not"}))
        with pytest.raises(AuthenticationError) as caught:
            reranker.rerank(QUERY, TEXTS)
        reranker.close()
        assert len(asyncio.run(reranker.arerank(QUERY, TEXTS))) == 2
    assert [request.headers["x-client-name"] for request in rerank_server.received] == ["mine"] * 3
    assert keys(rerank_server) == ["its-own"] * 3
    assert "0123456789abcdef" not in str(caught.value)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 501, 503])
def test_an_injected_cohere_client_multiplies_no_requests(
    status: int, rerank_server: RerankServer, waits: list[float]
) -> None:
    import cohere

    rerank_server.rule = lambda request: Answer(status, body={"message": "no"})
    with cohere.ClientV2(api_key="k", base_url=rerank_server.url) as client:
        reranker = CohereReranker(client=client)
        with pytest.raises(Exception, match=f"answered {status}"):
            reranker.rerank(QUERY, TEXTS)
    assert len(rerank_server.received) == (1 if status == 501 else 3)


def test_an_injected_async_cohere_client_is_used(rerank_server: RerankServer) -> None:
    import cohere

    async def ask() -> int:
        async with cohere.AsyncClientV2(api_key="its-own", base_url=rerank_server.url) as client:
            reranker = CohereReranker(async_client=client)
            with pytest.raises(ConfigError, match="async_client only"):
                reranker.rerank(QUERY, TEXTS)
            return len(await reranker.arerank(QUERY, TEXTS))

    assert asyncio.run(ask()) == 2
    assert keys(rerank_server) == ["its-own"]


def test_injected_voyage_clients_are_used(rerank_server: RerankServer) -> None:
    import voyageai

    client = voyageai.Client(api_key="its-own", base_url=rerank_server.voyage_url)
    async_client = voyageai.AsyncClient(api_key="its-own-async", base_url=rerank_server.voyage_url)
    reranker = VoyageReranker(client=client, async_client=async_client)
    here = reranker.rerank(QUERY, TEXTS)
    there = asyncio.run(reranker.arerank(QUERY, TEXTS))
    assert here.hits == there.hits
    assert here.usage.tokens == there.usage.tokens != None  # noqa: E711
    assert keys(rerank_server) == ["its-own", "its-own-async"]


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: [{**row, "index": row["index"] - 1} for row in rows],
        lambda rows: [{**row, "index": row["index"] + 1} for row in rows],
        lambda rows: [{**row, "relevance_score": None} for row in rows],
        lambda rows: rows[1:],
    ],
    ids=["negative", "out of range", "no score", "short"],
)
def test_damage_that_an_injected_voyage_client_hides_is_noticed(change: Any, rerank_server: RerankServer) -> None:
    import voyageai

    rerank_server.then(Answer(rows=change))
    reranker = VoyageReranker(client=voyageai.Client(api_key="k", base_url=rerank_server.voyage_url))
    with pytest.raises(BadResponse):
        reranker.rerank(QUERY, TEXTS)


@pytest.mark.parametrize("retries", [2, 5, None])
def test_a_voyage_client_that_retries_is_refused(retries: Any) -> None:
    import voyageai

    for name, kind in (("client", voyageai.Client), ("async_client", voyageai.AsyncClient)):
        with pytest.raises(ConfigError, match="retries by itself") as caught:
            VoyageReranker(**{name: kind(api_key="k", max_retries=retries)})
        assert caught.value.path == name


def test_an_injected_client_excludes_a_key_and_a_url(sdk: Provider) -> None:
    for option in ({"api_key": KEY}, {"base_url": "https://example.org"}):
        with pytest.raises(ConfigError, match="leave api_key and base_url out"):
            sdk.make(client=object(), **option)


def test_no_config_can_express_an_injected_client(provider: Provider) -> None:
    with pytest.raises(ConfigError, match="client is a live object"):
        to_config(
            provider.make(
                client=object(), **({"base_url": "https://gpu.test"} if provider.dialect else {}), **provider.options
            )
        )


def test_an_sdk_that_is_absent_is_an_error_with_the_command(
    provider: Provider, ask: Ask, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, provider.package, None)
    reranker = provider.make(api_key=KEY, base_url=provider.url(rerank_server), **provider.options)
    extra = "http" if provider.package == "httpx" else provider.kind
    with pytest.raises(ImportError, match=rf'pip install "rag-rerank\[{extra}\]"'):
        ask(reranker)


class FakeClient:
    """A client that knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed = True


def clients_per_loop() -> tuple[PerLoop[FakeClient], list[FakeClient]]:
    clients: list[FakeClient] = []

    def make() -> FakeClient:
        clients.append(FakeClient())
        return clients[-1]

    return PerLoop(load=lambda: None, make=make, close=FakeClient.close), clients


def test_tasks_of_a_loop_share_one_client_that_closes_with_the_loop() -> None:
    per_loop, clients = clients_per_loop()

    async def use() -> None:
        assert len(set(await asyncio.gather(*(per_loop.get() for _ in range(20))))) == 1
        assert not clients[-1].closed

    for loops in (1, 2, 3):
        asyncio.run(use())
        assert [client.closed for client in clients] == [True] * loops


def test_a_closed_client_is_made_anew() -> None:
    per_loop, clients = clients_per_loop()

    async def use() -> None:
        first = await per_loop.get()
        await per_loop.aclose()
        await per_loop.aclose()
        assert first.closed
        assert await per_loop.get() is not first

    asyncio.run(use())
    assert [client.closed for client in clients] == [True, True]


def test_a_loop_that_ended_badly_is_forgotten() -> None:
    per_loop, clients = clients_per_loop()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(per_loop.get())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    reference = weakref.ref(loop)
    del loop
    asyncio.run(per_loop.get())  # type: ignore[arg-type]
    assert len(clients) == 2
    gc.collect()
    assert reference() is None
