"""The dialects of rerank servers, one row each: the path of a request, its fields, and where the scores are.

The facts come from the servers themselves (Infinity 0.0.78 and vLLM 0.32.0, run with a small model), from their source
(TEI 1.9.3, llama.cpp), from Mixedbread's SDK 0.54.0, and from the vendors' documentation (Jina, NIM, Cohere). None of
these confirms a fact that a comment marks with [?]. No live service was called.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlsplit

from rag_rerank.backends.api.exchange import as_count, get_field
from rag_rerank.backends.api.http_transport import as_json
from rag_rerank.backends.api.pricing import token_usage, unit_usage
from rag_rerank.errors import BackendError, BillingError, ConfigError, RequestRejected, RequestTooLarge
from rag_rerank.trace import Usage
from rag_rerank.types import Scale

__all__ = ["DIALECTS", "Dialect", "Name", "Refusal"]

Name = Literal["cohere", "infinity", "jina", "llamacpp", "mixedbread", "nim", "tei", "vllm"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """An error answer whose body says more than its status.

    Args:
        status: HTTP status; ``None`` where builds differ in it.
        words: Words in its body, in lower case.
        kind: The error class for it.
        advice: How to mend it, where the class alone does not say so.
    """

    status: int | None
    words: str
    kind: type[BackendError]
    advice: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """The wire format of one kind of server.

    Args:
        title: The server's name in messages.
        path: The path behind the base URL; where a server guards some of its paths only, one that its key guards.
        texts: Field of the texts.
        wrapped: Whether the query and each text are wrapped in an object, ``{"text": ...}``.
        model: Whether the body names the model: it must, it may, or it has no such field.
        fixed_fields: Fields that decide what a score means; always sent.
        options: Other fields that are sent unless the user gives them.
        rows: Field of the rows; ``None`` where the body is the list of rows.
        score: Field of a row's score.
        scale: What a score is: ``sigmoid`` where it is a logit.
        cosine: Beginning of the names of models whose scores are cosines, and depend on all texts of a request.
        most_texts: Texts in a request at most: the server's limit, or 1,000 where none is known.
        most_bytes: Bytes of a request's body at most: the server's limit, or as many as an answer that repeats them may
            have.
        keeps_computing: Whether the server goes on with a request after its client has hung up.
        cuts: Whether it cuts what is longer than its model's window, unless ``cut_field`` says otherwise.
        cut_field: Field that says whether it cuts, or to how many tokens.
        usual_window: Tokens that most of its models read, for a note where it cuts and the real window is not known.
        counts_characters: Whether it may count characters where others count tokens.
        failure_score: A number that takes the place of a score where the server failed on a text.
        tokens_in: Header with the tokens that were read, where the body does not name them.
        info: Path of what the server says about itself, in TEI's format.
        models: Path of the list of its models, in OpenAI's format.
        echoes_model: Whether an answer repeats the name in the request, whatever model the server has.
        default_url: The provider's own base URL; ``None`` for servers that users run.
        hosts: The provider's own hosts, with all their subdomains. They need a key; other servers need none, and never
            get one from the environment.
        keys: Environment variables with the key for the provider's own hosts.
        refusals: Error answers whose body says more than their status.
    """

    title: str
    path: str
    texts: str = "documents"
    wrapped: bool = False
    model: Literal["needed", "optional", "absent"] = "optional"
    fixed_fields: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    rows: str | None = "results"
    score: str = "relevance_score"
    scale: Scale = "relevance"
    cosine: str | None = None
    most_texts: int = 1_000
    most_bytes: int = 16_000_000
    keeps_computing: bool = False
    cuts: bool = True
    cut_field: str | None = None
    usual_window: int | None = None
    counts_characters: bool = False
    failure_score: float | None = None
    tokens_in: str | None = None
    info: str | None = None
    models: str | None = None
    echoes_model: bool = False
    default_url: str | None = None
    hosts: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    def check_extra(self, extra_body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of the fields that a user adds.

        Raises:
            ConfigError: A field that is not the user's to set (a cutoff would lose candidates), or no JSON.
        """
        reserved = {"model", "query", self.texts, "top_n", "top_k", *self.fixed_fields} & set(extra_body)
        if reserved:
            raise ConfigError(f"{', '.join(sorted(reserved))} cannot be set here", path="extra_body")
        try:
            copy: dict[str, Any] = json.loads(as_json(dict(extra_body)))
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(f"JSON cannot hold it: {error}", path="extra_body") from error
        return copy

    def body(self, model: str, query: str, texts: Sequence[str], extra_body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body of a request."""
        names = {"model": model} if model and self.model != "absent" else {}
        inputs = {"query": self._wrap(query), self.texts: [self._wrap(text) for text in texts]}
        return {**names, **inputs, **self.options, **extra_body, **self.fixed_fields}

    def _wrap(self, text: str) -> Any:
        return {"text": text} if self.wrapped else text

    def find_rows(self, body: Any) -> object:
        """Return the value in an answer at the place of the rows, whatever its type."""
        if self.rows is None:
            return body
        return body.get(self.rows) if isinstance(body, Mapping) else None

    def read_usage(self, body: Any, headers: Mapping[str, str], query: str, texts: Sequence[str]) -> Usage:
        """Return the figures that an answer names: in ``usage``, in Cohere's ``meta``, or in a header.

        A number that cannot be one of tokens or of search units is replaced by our estimate.
        """
        meta, usage = (get_field(body, name, None) for name in ("meta", "usage"))
        units = as_count(get_field(get_field(meta, "billed_units", None), "search_units", None))
        counts = [get_field(usage, name, None) for name in ("total_tokens", "prompt_tokens")]
        counts += [get_field(get_field(meta, name, None), "input_tokens", None) for name in ("billed_units", "tokens")]
        if self.tokens_in is not None:
            header = headers.get(self.tokens_in, "")
            counts.append(int(header) if header.isdecimal() else None)
        # old builds of llama.cpp say 0
        tokens = next((int(count) for count in map(as_count, counts) if count), None)
        return token_usage(tokens, query, texts, suspect=self.counts_characters) + unit_usage(units, query, texts)

    def read_tokens(self, window: int | None, extra_body: Mapping[str, Any]) -> int | None:
        """Return how many tokens of query and text together are read, where the rest is cut; else ``None``.

        Args:
            window: The window of the server's model, if it is known.
            extra_body: The fields that the user adds.
        """
        wish = {**self.options, **extra_body}.get(self.cut_field or "", self.cuts)
        if wish in (None, False, "NONE"):
            return None
        if isinstance(wish, int) and wish is not True and wish > 0:
            return min(wish, window or wish)
        return window

    def is_provider(self, url: str) -> bool:
        """Whether a base URL is the provider's own, and not a server of the user's."""
        host = (urlsplit(url).hostname or "").rstrip(".")
        return any(host == name or host.endswith(f".{name}") for name in self.hosts)

    def refusal(self, status: int, body: str) -> Refusal | None:
        """Return the refusal that matches an error answer; ``None`` if its status says enough."""
        lowered = body.casefold()
        return next((r for r in self.refusals if r.status in (None, status) and r.words in lowered), None)


_LET_VLLM_CUT = 'cut the texts, or let vLLM cut them: extra_body={"truncate_prompt_tokens": -1}'
_LET_TEI_CUT = 'cut the texts, or let TEI cut them: extra_body={"truncate": True}'
_LET_NIM_CUT = 'cut the texts, or let NIM cut them: extra_body={"truncate": "END"}'

_ENLARGE_LLAMACPP = (
    "query and text together must fit in the context: start it with a larger --ctx-size, or cut the texts"
)
_FIT_INFINITY = "Infinity takes 122,880 characters of a query or text: cut it, or rank windows of it (type windows)"

DIALECTS: Mapping[Name, Dialect] = MappingProxyType(
    {
        # Cohere's v2 API elsewhere: Azure AI Foundry, LiteLLM, OpenRouter, vLLM. LiteLLM passes on what the server
        # behind it counts, and has put tokens in the place of search units.
        "cohere": Dialect(title="the gateway", path="/v2/rerank", model="needed"),
        # raw_scores came in October 2024; builds before it ignore it and send the sigmoid. Infinity takes 2,048 texts,
        # but computes them all, also when nobody waits any more; it puts 32 in a batch. It counts characters, unless it
        # is started with --lengths-via-tokenize.
        "infinity": Dialect(
            title="Infinity",
            path="/rerank",
            fixed_fields={"raw_scores": True},
            options={"return_documents": False},
            scale="sigmoid",
            most_texts=32,
            keeps_computing=True,
            usual_window=512,
            counts_characters=True,
            models="/models",
            refusals=(Refusal(status=422, words="122880 characters", kind=RequestRejected, advice=_FIT_INFINITY),),
        ),
        # Jina says that its model v3 gives cosines and reads the texts of a request together. [?]: that its API sends
        # the cosines unchanged, that v1 and v2 score within 0..1, and the most texts in a request.
        "jina": Dialect(
            title="Jina",
            path="/rerank",
            model="needed",
            options={"return_documents": False},
            cosine="jina-reranker-v3",
            cut_field="truncation",
            default_url="https://api.jina.ai/v1",
            hosts=("jina.ai",),
            keys=("JINA_API_KEY",),
            refusals=(Refusal(status=403, words="insufficient_balance", kind=BillingError),),
        ),
        # Raw logits, except for models with a yes/no head (Qwen3-Reranker), whose softmax is taken by the server, and
        # -1e6 where it failed on a text. A request is dropped when its client hangs up.
        "llamacpp": Dialect(
            title="llama.cpp",
            path="/rerank",
            scale="sigmoid",
            cuts=False,
            failure_score=-1e6,
            models="/v1/models",
            echoes_model=True,
            refusals=(
                Refusal(
                    status=500,
                    words="too large to process",
                    kind=RequestRejected,
                    advice="query and text together must fit in a physical batch: start it with a larger --ubatch-size",
                ),
                *(
                    Refusal(status=None, words=words, kind=RequestTooLarge, advice=_ENLARGE_LLAMACPP)
                    for words in ("larger than the max context size", "exceeds the available context size")
                ),
            ),
        ),
        # The base URL and the most texts in a request are [?]. Long texts are cut, by the API reference.
        "mixedbread": Dialect(
            title="Mixedbread",
            path="/v1/reranking",
            texts="input",
            model="needed",
            options={"return_input": False},
            rows="data",
            score="score",
            default_url="https://api.mixedbread.com",
            hosts=("mixedbread.com", "mixedbread.ai"),
            keys=("MXBAI_API_KEY",),
        ),
        # If a request does not say what to do with long texts, it depends on the model. Each of NVIDIA's hosted
        # models has a URL of its own, followed by the path /reranking.
        "nim": Dialect(
            title="NIM",
            path="/v1/ranking",
            texts="passages",
            wrapped=True,
            model="needed",
            options={"truncate": "NONE"},
            rows="rankings",
            score="logit",
            scale="sigmoid",
            cut_field="truncate",
            most_texts=512,
            hosts=("nvidia.com",),
            keys=("NVIDIA_API_KEY",),
            refusals=(Refusal(status=400, words="exceeds maximum", kind=RequestRejected, advice=_LET_NIM_CUT),),
        ),
        # For too many texts the documentation says 413, and the source answers 422. Each text needs a permit, and a
        # request that gets too few is refused as a whole (429): another reason to send one request after the other.
        "tei": Dialect(
            title="TEI",
            path="/rerank",
            texts="texts",
            model="absent",
            fixed_fields={"raw_scores": True},
            options={"truncate": True, "return_text": False},
            rows=None,
            score="score",
            scale="sigmoid",
            cut_field="truncate",
            most_texts=32,
            most_bytes=2_000_000,
            tokens_in="x-compute-tokens",
            info="/info",
            refusals=(
                Refusal(status=422, words="maximum allowed batch size", kind=RequestTooLarge),
                Refusal(status=422, words="must have less than", kind=RequestRejected, advice=_LET_TEI_CUT),
            ),
        ),
        # use_activation=false would give logits, but older builds ignore it and send the sigmoid, so it is not sent.
        # --api-key guards the paths below /v1 and /v2, and not /rerank. An answer repeats the texts. A request is
        # dropped when its client hangs up.
        "vllm": Dialect(
            title="vLLM",
            path="/v1/rerank",
            cuts=False,
            cut_field="truncate_prompt_tokens",
            models="/v1/models",
            refusals=(
                Refusal(status=400, words="reduce the length", kind=RequestRejected, advice=_LET_VLLM_CUT),
                Refusal(status=400, words="maximum context length", kind=RequestRejected, advice=_LET_VLLM_CUT),
            ),
        ),
    }
)
