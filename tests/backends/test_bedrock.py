"""BedrockReranker: the contract and the faults with a double of boto3's client, and what real boto3 sends."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.api.providers import QUERY, TEXTS, Ask
from support.api.wire_formats import relevance

import rag_rerank
from rag_rerank import BadResponse, ConfigError, Ranking, Reranker, build
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.backends.bedrock import BedrockReranker, Limits
from rag_rerank.testing import RerankerContract

PAYLOADS = json.loads((Path(__file__).parent / "api" / "payloads" / "bedrock.json").read_text(encoding="utf-8"))


class Client:
    """A double of boto3's client: it notes what it is asked, and answers as boto3 would."""

    def __init__(self, *script: Any, region: str = "us-west-2", retries: dict[str, Any] | None = None) -> None:
        self.script = list(script)
        self.received: list[dict[str, Any]] = []
        config = SimpleNamespace(retries={"total_max_attempts": 1} if retries is None else retries)
        self.meta = SimpleNamespace(region_name=region, partition="aws", config=config)

    def close(self) -> None:
        pass

    def rerank(self, **request: Any) -> Any:
        self.received.append(request)
        action = self.script.pop(0) if self.script else None
        if isinstance(action, Exception):
            raise action
        if action is not None:
            return action
        query = request["queries"][0]["textQuery"]["text"]
        texts = [source["inlineDocumentSource"]["textDocument"]["text"] for source in request["sources"]]
        rows = [{"index": i, "relevanceScore": relevance(query, text)} for i, text in enumerate(texts)]
        return {"results": rows[::-1], "ResponseMetadata": {"HTTPStatusCode": 200}}


class ClientError(Exception):
    """An error as botocore raises it."""

    def __init__(self, code: str, status: int, message: str = "no", headers: dict[str, str] | None = None) -> None:
        super().__init__(f"An error occurred ({code}) when calling the Rerank operation: {message}")
        meta = {"HTTPStatusCode": status, "HTTPHeaders": headers or {}}
        self.response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": meta}


def _named(name: str) -> Exception:
    error: Exception = type(name, (Exception,), {})("no answer from https://bedrock.test")
    return error


class TestContract(RerankerContract):
    @pytest.fixture
    def reranker(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reranker]:
        monkeypatch.setattr(BedrockReranker, "_new_client", lambda self: Client())
        with BedrockReranker(region="us-west-2") as reranker:
            yield reranker


def test_the_request_is_what_boto3_sends(ask: Ask) -> None:
    client = Client()
    ranking = ask(BedrockReranker(model="cohere.rerank-v3-5:0", client=client))
    assert client.received == [PAYLOADS["request"]["body"]]
    assert {hit.text: hit.raw_score for hit in ranking} == {text: relevance(QUERY, text) for text in TEXTS}
    assert (ranking.usage.search_units, ranking.usage.estimated) == (1, ("search_units",))
    assert (ranking.scale, ranking.degraded) == ("relevance", ())


@pytest.mark.parametrize("answer", PAYLOADS["answers"], ids=lambda answer: answer["name"])
def test_each_answer_gives_its_scores_or_its_error(answer: dict[str, Any], ask: Ask) -> None:
    body, expected = answer["body"], answer["expect"]
    error = ClientError(body.get("__type", ""), answer["status"], body.get("message", ""), answer["headers"])
    action = body if answer["status"] == 200 else error
    reranker = BedrockReranker(client=Client(action), retry=RetryPolicy(attempts=1))
    if isinstance(expected, list):
        assert {hit.text: hit.raw_score for hit in ask(reranker)} == dict(zip(TEXTS, expected, strict=True))
        return
    kind, _, words = expected.partition(": ")
    with pytest.raises(getattr(rag_rerank, kind)) as caught:
        ask(reranker)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ReadTimeoutError", "BackendTimeout"),
        ("ConnectTimeoutError", "BackendTimeout"),
        ("EndpointConnectionError", "BackendUnavailable"),
        ("NoCredentialsError", "AuthenticationError"),
    ],
)
def test_errors_of_botocore_without_an_answer(name: str, kind: str, ask: Ask) -> None:
    with pytest.raises(getattr(rag_rerank, kind)) as caught:
        ask(BedrockReranker(client=Client(_named(name)), retry=RetryPolicy(attempts=1)))
    assert caught.value.__cause__ is None and caught.value.__context__ is None


def test_a_failure_that_may_pass_is_tried_again(ask: Ask, waits: list[float]) -> None:
    client = Client(ClientError("ThrottlingException", 429), ClientError("InternalServerException", 500))
    ranking = ask(BedrockReranker(client=client, retry=RetryPolicy(jitter=0)))
    assert (len(client.received), ranking.trace.attempts) == (3, 3)


def test_more_texts_than_one_request_takes_and_never_more_results_than_sources(ask: Ask) -> None:
    client = Client()
    texts = [f"text {i}" for i in range(1_500)]
    assert len(ask(BedrockReranker(client=client), texts)) == 1_500
    sizes = [len(request["sources"]) for request in client.received]
    ranking = "bedrockRerankingConfiguration"
    limits = [request["rerankingConfiguration"][ranking]["numberOfResults"] for request in client.received]
    assert sizes == limits == [1_000, 500]


def test_an_answer_with_too_few_rows_is_refused(ask: Ask) -> None:
    client = Client({"results": [{"index": 0, "relevanceScore": 0.5}], "nextToken": "more"})
    with pytest.raises(BadResponse, match="no score for 1 of 2 texts"):
        ask(BedrockReranker(client=client))


ARN = "arn:aws:bedrock:eu-west-1::foundation-model/amazon.rerank-v1:0"


@pytest.mark.parametrize(
    ("model", "client"), [("amazon.rerank-v1:0", Client(region="eu-west-1")), (ARN, Client(region="us-west-2"))]
)
def test_the_model_is_named_by_its_arn_in_the_region_of_the_client(model: str, client: Client) -> None:
    BedrockReranker(model=model, client=client).rerank(QUERY, TEXTS)
    (request,) = client.received
    ranking = request["rerankingConfiguration"]["bedrockRerankingConfiguration"]
    assert ranking["modelConfiguration"]["modelArn"] == ARN


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"api_key": "k"}, "AWS takes no key here"),
        ({"client": Client(), "region": "us-west-2"}, "leave region out"),
        ({"async_client": object()}, "no async client"),
        ({"client": Client(retries={"mode": "standard"})}, "the client retries by itself"),
        ({"client": Client(retries={"total_max_attempts": 4})}, "the client retries by itself"),
        ({"model": ""}, "model is empty"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BedrockReranker(**options)


def test_boto3_is_imported_at_first_use_only() -> None:
    before = "boto3" in sys.modules
    reranker = build("bedrock:amazon.rerank-v1:0", region="us-west-2")
    assert reranker == build("amazon.rerank-v1:0", region="us-west-2") == build(rag_rerank.to_config(reranker))
    assert reranker.estimate(QUERY, TEXTS).cost == 0.001
    assert ("boto3" in sys.modules) == before


def test_the_list_price_makes_a_ceiling_of_cost() -> None:
    client = Client()
    reranker = BedrockReranker(model="cohere.rerank-v3-5:0", client=client, limits=Limits(concurrency=1))
    assert reranker.rerank(QUERY, TEXTS).usage.cost is None  # an injected client may belong to another account
    with pytest.raises(ConfigError, match="a ceiling of cost needs a price"):
        BedrockReranker(client=client, limits=Limits(cost_per_call=1.0))


def test_async_calls_run_on_a_thread() -> None:
    async def both() -> list[Ranking]:
        reranker = BedrockReranker(client=Client())
        return list(await asyncio.gather(reranker.arerank(QUERY, TEXTS), reranker.arerank(QUERY, TEXTS)))

    first, second = asyncio.run(both())
    assert [hit.id for hit in first] == [hit.id for hit in second]


def test_real_boto3_sends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where boto3 is installed; its stubber checks the request against AWS's own description of the service."""
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    stub = pytest.importorskip("botocore.stub")
    for name, value in (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")):
        monkeypatch.setenv(name, value)
    config = sys.modules["botocore.config"].Config(retries={"total_max_attempts": 1})
    client = boto3.client("bedrock-agent-runtime", region_name="us-west-2", config=config)
    answer = {"results": [{"index": 1, "relevanceScore": 0.5}, {"index": 0, "relevanceScore": 0.25}]}
    with stub.Stubber(client) as stubber:
        stubber.add_response("rerank", answer, PAYLOADS["request"]["body"])
        stubber.add_client_error("rerank", "ThrottlingException", "slow down", 429)
        reranker = BedrockReranker(client=client, retry=RetryPolicy(attempts=1))
        assert [hit.raw_score for hit in reranker.rerank(QUERY, TEXTS)] == [0.5, 0.25]
        with pytest.raises(rag_rerank.RateLimited, match="slow down"):
            reranker.rerank(QUERY, TEXTS)
    lazy = BedrockReranker(region="us-west-2")
    lazy.warm_up()
    lazy.close()
