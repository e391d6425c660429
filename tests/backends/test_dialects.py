"""What the dialects of providers share: projects, instructions, billed cost, substitutes, limits, ties by rounding."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
from support.api.providers import DIALECTS, KEY, PROJECT, QUERY, TEXTS, Ask
from support.api.rerank_server import Answer, RerankServer

import rag_rerank
from rag_rerank import ConfigError, CostExceeded, RequestRejected, SubstitutionWarning
from rag_rerank.backends.api.dialects import DIALECTS as ROWS
from rag_rerank.backends.api.dialects import Name
from rag_rerank.backends.api.pricing import list_price, text_tokens
from rag_rerank.backends.cohere import CohereReranker
from rag_rerank.backends.http import HttpReranker, Limits, Price
from rag_rerank.backends.voyage import VoyageReranker
from rag_rerank.execution.instruction import call_instruction

Make = Callable[..., HttpReranker]

INSTRUCTIONS = {
    "contextual": "instruction",
    "dashscope": "instruct",
    "deepinfra": "instruction",
    "prime": "instruction",
    "sglang": "instruct",
    "siliconflow": "instruction",
    "vllm": "instruction",
}
PROJECTS = {
    "cloudflare": "CLOUDFLARE_ACCOUNT_ID",
    "google": "GOOGLE_CLOUD_PROJECT",
    "watsonx": "WATSONX_PROJECT_ID",
}


def test_the_names_are_those_of_the_table() -> None:
    assert sorted(get_args(Name)) == list(ROWS) == sorted(ROWS)
    assert {name for name, row in ROWS.items() if row.instruction} == set(INSTRUCTIONS)
    assert {name for name, row in ROWS.items() if row.project_variables} == set(PROJECTS)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_whole(name: Name) -> None:
    row = ROWS[name]
    assert row.path.startswith("/") and row.title
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]+", variable) for variable in (*row.keys, *row.project_variables))
    if row.default_url is not None:
        assert row.default_url.startswith("https://") and row.is_provider(row.default_url)
    assert bool(row.keys) == bool(row.hosts)
    assert row.example_url.startswith("http")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("dashscope", "https://bucket.oss-cn-hangzhou.aliyuncs.com"),
        ("google", "https://storage.googleapis.com/bucket"),
        ("cloudflare", "https://site.pages.cloudflare.com"),
        ("openrouter", "https://openrouter.ai.example.com"),
    ],
)
def test_a_host_that_a_customer_may_own_is_not_the_providers(name: Name, url: str) -> None:
    assert not ROWS[name].is_provider(url)


@pytest.mark.parametrize("name", ROWS)
def test_no_key_of_the_environment_goes_to_a_server_of_ones_own(
    name: Name, make: Make, ask: Ask, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ROWS[name].keys:
        monkeypatch.setenv(variable, "kEy-of-the-environment-1")
    project = {"project": PROJECT} if name in PROJECTS else {}
    ask(make(name, **project))
    assert all("kEy-of" not in str(request.headers) for request in rerank_server.received)


class TestProject:
    @pytest.mark.parametrize("name", PROJECTS)
    def test_it_is_read_from_the_environment_at_each_call(
        self, name: Name, make: Make, ask: Ask, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reranker = make(name)
        with pytest.raises(ConfigError, match=f"needs a project: set {PROJECTS[name]} in the environment, or give"):
            ask(reranker)
        with pytest.raises(ConfigError, match=PROJECTS[name]):
            reranker.check_environment()
        for project in ("first", "second/../x?y"):
            monkeypatch.setenv(PROJECTS[name], project)
            ask(reranker)
        first, second = rerank_server.received
        assert "first" in f"{first.path} {first.body}"
        assert "second/../x?y" not in second.path  # in a path it is quoted

    def test_one_without_a_place_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"^project: Jina has no place for a project"):
            HttpReranker(dialect="jina", model="m", project="p")

    def test_the_team_of_prime_goes_in_a_header(self, make: Make, ask: Ask, rerank_server: RerankServer) -> None:
        for options in ({}, {"project": "team-1"}):
            ask(make("prime", **options))
        without, with_team = rerank_server.received
        assert "x-prime-team-id" not in without.headers
        assert with_team.headers["x-prime-team-id"] == "team-1"


class TestInstruction:
    @pytest.mark.parametrize("name", INSTRUCTIONS)
    def test_it_goes_in_the_field_of_the_dialect_and_that_of_the_call_wins(
        self, name: Name, make: Make, ask: Ask, rerank_server: RerankServer
    ) -> None:
        reranker = make(name, instruction="Prefer care sheets.")
        assert reranker.takes_instruction
        ask(reranker)
        with call_instruction("Prefer news."):
            ask(reranker)
        ask(make(name))
        bodies = [request.body.get(INSTRUCTIONS[name]) for request in rerank_server.received]
        assert bodies == ["Prefer care sheets.", "Prefer news.", None]

    @pytest.mark.parametrize("name", sorted(set(ROWS) - set(INSTRUCTIONS)))
    def test_a_dialect_without_one_refuses_it(self, name: Name) -> None:
        with pytest.raises(ConfigError, match=r"^instruction: .* takes no instruction"):
            HttpReranker(dialect=name, model="m", base_url="http://127.0.0.1:9", instruction="x")

    def test_a_call_for_all_does_not_reach_a_server_that_takes_none(
        self, make: Make, ask: Ask, rerank_server: RerankServer
    ) -> None:
        with call_instruction("Prefer news."):
            ask(make("tei"))
        assert "Prefer news." not in str(rerank_server.received[0].body)

    def test_twice_is_once_too_often(self) -> None:
        with pytest.raises(ConfigError, match="stands in extra_body too"):
            HttpReranker(dialect="vllm", base_url="http://h:1", instruction="a", extra_body={"instruction": "b"})

    def test_a_blank_one_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="instruction is blank"):
            HttpReranker(dialect="vllm", base_url="http://h:1", instruction=" ")

    def test_it_is_part_of_the_identity(self) -> None:
        one, two = (HttpReranker(dialect="prime", model="m", instruction=words) for words in ("a", "b"))
        assert one.identity != two.identity


class TestBilledCost:
    @pytest.mark.parametrize(("name", "cost"), [("openrouter", 0.002), ("deepinfra", 0.0004)])
    def test_what_the_answer_names_is_the_cost_whatever_the_price(
        self, name: str, cost: float, ask: Ask, rerank_server: RerankServer
    ) -> None:
        for key, price in (("1", None), ("2", Price(per_million_tokens=1_000_000.0))):
            reranker = DIALECTS[name].reranker(rerank_server, price=price, api_key=KEY + key)
            ranking = ask(reranker)
            assert (ranking.usage.cost, ranking.usage.estimated) == (cost, ())
            assert reranker.total_cost == pytest.approx(cost)

    def test_it_is_summed_over_requests_and_counts_for_the_ceiling(self, ask: Ask, rerank_server: RerankServer) -> None:
        limits, price = Limits(cost_per_process=0.005), Price(per_million_tokens=0.001)
        reranker = DIALECTS["openrouter"].reranker(rerank_server, limits=limits, price=price, max_texts=1)
        assert ask(reranker).usage.cost == pytest.approx(0.004)
        ask(reranker, TEXTS[:1])
        with pytest.raises(CostExceeded):
            ask(reranker)
        assert reranker.total_cost == pytest.approx(0.006)

    @pytest.mark.parametrize("cost", [-1, "0.1", True, None, float("1e400")])
    def test_what_cannot_be_a_cost_is_none(self, cost: Any, ask: Ask, rerank_server: RerankServer) -> None:
        body = b'{"results": [{"index": 0, "relevance_score": 0.5}, {"index": 1, "relevance_score": 0.4}], "usage": '
        value = {float("inf"): "1e400"}.get(cost, str(cost).lower() if not isinstance(cost, str) else f'"{cost}"')
        rerank_server.then(Answer(body=body + f'{{"cost": {"null" if cost is None else value}}}}}'.encode()))
        assert ask(DIALECTS["openrouter"].reranker(rerank_server)).usage.cost is None

    def test_list_prices_hold_at_the_provider_alone(self) -> None:
        assert list_price("zeroentropy", "zerank-2") == Price(per_million_tokens=0.025)
        there = HttpReranker(dialect="zeroentropy", model="zerank-2", api_key=KEY)
        elsewhere = HttpReranker(dialect="zeroentropy", model="zerank-2", api_key=KEY, base_url="http://127.0.0.1:9")
        assert there.estimate(QUERY, TEXTS).cost is not None
        assert elsewhere.estimate(QUERY, TEXTS).cost is None

    def test_google_bills_hundreds_of_records_whatever_their_length(
        self, ask: Ask, rerank_server: RerankServer
    ) -> None:
        texts = [f"text {i} " + "word " * 600 for i in range(150)]
        price = Price(per_thousand_search_units=1.0)
        usage = ask(DIALECTS["google"].reranker(rerank_server, price=price), texts).usage
        assert (usage.search_units, usage.cost) == (2, 0.002)


@pytest.fixture
def sdks(rerank_server: RerankServer) -> Iterator[dict[str, rag_rerank.Reranker]]:
    rerankers: dict[str, rag_rerank.Reranker] = {
        "cohere": CohereReranker(model="rerank-v3.5", api_key=KEY, base_url=rerank_server.url),
        "voyage": VoyageReranker(model="rerank-2.5", api_key=KEY, base_url=rerank_server.voyage_url),
    }
    yield rerankers
    for reranker in rerankers.values():
        reranker.close()


class TestSubstitutes:
    @pytest.mark.parametrize("name", ["cohere", "voyage"])
    @pytest.mark.parametrize(("answer", "other"), [("same", False), ("rerank-lite-1", True)])
    def test_those_of_the_sdks_are_seen_too(
        self, name: str, answer: str, other: bool, sdks: Any, rerank_server: RerankServer, recwarn: Any
    ) -> None:
        model = f"{name}/{sdks[name].model}" if answer == "same" else answer
        rerank_server.rule = lambda request: Answer(body={**request.shape.reply(request.body, list), "model": model})
        ranking = sdks[name].rerank(QUERY, TEXTS)
        assert bool(ranking.degraded) == other
        assert [w.category for w in recwarn if issubclass(w.category, SubstitutionWarning)] == [
            SubstitutionWarning
        ] * other

    @pytest.mark.parametrize("name", sorted(set(ROWS) - {"tei", "llamacpp", "sglang"}))
    @pytest.mark.filterwarnings("ignore::rag_rerank.SubstitutionWarning")
    def test_every_dialect_whose_answers_name_a_model_compares_it(
        self, name: Name, ask: Ask, rerank_server: RerankServer
    ) -> None:
        field = ROWS[name].model_field
        rerank_server.rule = lambda request: Answer(
            body={**request.shape.reply(request.body, list), field: "another-model"}
        )
        assert ask(DIALECTS[name].reranker(rerank_server)).degraded

    @pytest.mark.filterwarnings("ignore::rag_rerank.SubstitutionWarning")
    def test_sglang_names_it_in_its_list_of_models(self, make: Make, ask: Ask) -> None:
        assert ask(make("sglang", model="m")).degraded == ()
        assert ask(make("sglang", model="another")).degraded


class TestLimits:
    def test_a_request_of_contextual_has_at_most_half_of_its_tokens_by_estimate(
        self, ask: Ask, rerank_server: RerankServer
    ) -> None:
        texts = [f"{i} " + "word " * 4_000 for i in range(100)]
        ask(DIALECTS["contextual"].reranker(rerank_server), texts)
        sizes = [sum(text_tokens(text) for text in request.texts) for request in rerank_server.received]
        assert len(sizes) == 3 and max(sizes) < 200_000
        assert [text for request in rerank_server.received for text in request.texts] == texts

    def test_a_request_of_zeroentropy_has_at_most_what_a_minute_may_have(
        self, ask: Ask, rerank_server: RerankServer
    ) -> None:
        ask(DIALECTS["zeroentropy"].reranker(rerank_server), [f"{i} " + "ä" * 400_000 for i in range(5)])
        lengths = [int(request.headers["content-length"]) for request in rerank_server.received]
        assert len(lengths) == 2 and max(lengths) <= 2_500_000

    def test_the_queries_of_deepinfra_count(self, ask: Ask, rerank_server: RerankServer) -> None:
        ask(DIALECTS["deepinfra"].reranker(rerank_server), [f"text {i}" for i in range(40)], "q" * 1_000_000)
        lengths = [int(request.headers["content-length"]) for request in rerank_server.received]
        assert len(lengths) == 3 and max(lengths) <= 16_000_000


class TestTies:
    def test_a_note_counts_texts_that_google_rounds_to_one_score(self, ask: Ask, rerank_server: RerankServer) -> None:
        scores = [0.21, 0.5, 0.21, 0.0001, 0.0001]
        rows = [{"index": i, "relevance_score": score} for i, score in enumerate(scores)]
        rerank_server.then(Answer(rows=lambda _: rows[::-1]))
        ranking = ask(DIALECTS["google"].reranker(rerank_server), [f"text {i}" for i in range(5)])
        (note,) = ranking.trace.notes
        assert note.startswith("4 texts have the score of another: Google's Ranking API rounds scores to 2 decimals")
        assert [hit.id for hit in ranking] == ["1", "0", "2", "3", "4"]  # ties keep the order of the candidates

    def test_no_note_without_a_tie(self, ask: Ask, rerank_server: RerankServer) -> None:
        assert ask(DIALECTS["google"].reranker(rerank_server)).trace.notes == ()


class TestMistakesOfOthers:
    """Bugs that other libraries have with these services."""

    def test_tokens_of_fireworks_are_no_search_units(self, ask: Ask, rerank_server: RerankServer) -> None:
        usage = ask(DIALECTS["fireworks"].reranker(rerank_server)).usage
        assert usage.tokens is not None and usage.search_units is None

    def test_google_gets_no_made_up_title(self, ask: Ask, rerank_server: RerankServer) -> None:
        ask(DIALECTS["google"].reranker(rerank_server))
        assert all(set(record) == {"id", "content"} for record in rerank_server.received[0].body["records"])

    @pytest.mark.parametrize("name", sorted(ROWS))
    def test_no_request_asks_for_a_cutoff_and_each_text_has_a_score(
        self, name: str, ask: Ask, rerank_server: RerankServer
    ) -> None:
        texts = [f"text {i}" for i in range(12)]
        ranking = ask(DIALECTS[name].reranker(rerank_server), texts)
        assert len(ranking) == 12 and all(hit.raw_score is not None for hit in ranking)
        body = str(rerank_server.received[0].body)
        assert not re.search(r"top_?[nNkK]", body)

    @pytest.mark.parametrize("field", ["top_n", "topN", "top_k"])
    def test_a_cutoff_cannot_be_smuggled_in(self, field: str) -> None:
        with pytest.raises(ConfigError, match=f"{field} cannot be set here"):
            HttpReranker(dialect="google", model="m", extra_body={field: 3})

    def test_a_wrong_key_is_an_error_and_no_silent_order(self, ask: Ask, rerank_server: RerankServer) -> None:
        rerank_server.rule = lambda request: Answer(401, body={"detail": f"bad key {KEY}"})
        for name in ("pinecone", "zeroentropy"):
            with pytest.raises(rag_rerank.AuthenticationError) as caught:
                ask(DIALECTS[name].reranker(rerank_server))
            assert KEY not in str(caught.value)


def test_a_model_in_the_path_is_quoted_and_not_in_the_body(make: Make, ask: Ask, rerank_server: RerankServer) -> None:
    ask(make("cloudflare", model="@cf/baai/bge-reranker-base", project="p"))
    ask(make("deepinfra", model="org/a b?c#d"))
    cloudflare, deepinfra = rerank_server.received
    assert cloudflare.path == "/cloudflare/accounts/p/ai/run/@cf/baai/bge-reranker-base"
    assert deepinfra.path == "/deepinfra/v1/inference/org/a%20b%3Fc%23d"
    assert "model" not in cloudflare.body and "model" not in deepinfra.body


def test_the_international_address_of_dashscope(rerank_server: RerankServer) -> None:
    base_url = f"{rerank_server.base('dashscope')}/compatible-api/v1"
    with HttpReranker(dialect="dashscope", model="qwen3-rerank", base_url=base_url, api_key=KEY) as reranker:
        reranker.rerank(QUERY, TEXTS)
    assert rerank_server.received[0].path == "/dashscope/compatible-api/v1/reranks"


def test_a_long_text_that_is_refused_is_no_matter_of_the_key(ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.then(Answer(400, body={"error": {"message": "This prompt is longer than 32768 tokens"}}))
    with pytest.raises(RequestRejected, match="longer than 32768"):
        ask(DIALECTS["prime"].reranker(rerank_server))
