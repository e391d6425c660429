"""How rerank servers speak, one row each: where the request goes, what stands in it, where the scores are.

The facts come from the servers' source (TEI 1.9.3, vLLM of November 2026, Infinity 0.0.77, llama.cpp), from
Mixedbread's SDK 0.54.0, and from the vendors' documentation (Jina, NIM, Cohere). What a comment marks with [?] is
not confirmed by either. No live service was asked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from rag_rerank.backends.api.exchange import as_number, get_field
from rag_rerank.backends.api.http_transport import as_json
from rag_rerank.errors import BackendError, BillingError, ConfigError, RequestRejected, RequestTooLarge
from rag_rerank.trace import Usage
from rag_rerank.types import Scale

__all__ = ["DIALECTS", "Dialect", "Name", "Refusal"]

Name = Literal["cohere", "infinity", "jina", "llamacpp", "mixedbread", "nim", "tei", "vllm"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """An answer whose words say more than its status.

    Args:
        status: HTTP status.
        words: What its body holds, in lower case.
        kind: What it is.
        advice: How to mend it, where the kind alone does not say so.
    """

    status: int
    words: str
    kind: type[BackendError]
    advice: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """One way to speak.

    Args:
        path: Behind the base URL.
        texts: Field of the texts.
        wrapped: Whether the query and each text stand in an object, ``{"text": ...}``.
        model: Whether the body names the model: it must, it may, or it has no such field.
        meaning: Fields that decide what a score is; always sent.
        options: Other fields that are sent unless the user says something else.
        rows: Field of the rows; ``None`` where the body is the list of rows.
        score: Field of a row's score.
        scale: What a score is: ``sigmoid`` where it is a logit.
        cosine: Beginning of the names of models whose scores are cosines, and depend on all texts of a request.
        most_texts: Texts in a request at most: the server's limit, or 1,000 where none is known.
        most_bytes: Bytes of a request's body at most.
        tokens_in: Header with the tokens that were read, where the body does not tell.
        info: Path of what the server says about itself, as TEI says it.
        home: The provider's own base URL; ``None`` for servers that users run, which work without a key.
        keys: Environment variables with the key.
        refusals: Answers whose words say more than their status.
    """

    path: str
    texts: str = "documents"
    wrapped: bool = False
    model: Literal["needed", "optional", "absent"] = "optional"
    meaning: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    rows: str | None = "results"
    score: str = "relevance_score"
    scale: Scale = "relevance"
    cosine: str | None = None
    most_texts: int = 1_000
    most_bytes: float = math.inf
    tokens_in: str | None = None
    info: str | None = None
    home: str | None = None
    keys: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    def checked(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """Return an own copy of the fields that a user adds.

        Raises:
            ConfigError: A field that is not the user's to set (a cutoff would lose candidates), or no JSON.
        """
        taken = {"model", "query", self.texts, "top_n", "top_k", *self.meaning} & set(more)
        if taken:
            raise ConfigError(f"{', '.join(sorted(taken))} cannot be set here", path="extra_body")
        try:
            copy: dict[str, Any] = json.loads(as_json(dict(more)))
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(f"JSON cannot hold it: {error}", path="extra_body") from error
        return copy

    def body(self, model: str, query: str, texts: Sequence[str], more: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body of a request."""
        named = {"model": model} if model and self.model != "absent" else {}
        asked = {"query": self._wrapped(query), self.texts: [self._wrapped(text) for text in texts]}
        return {**named, **asked, **self.options, **more, **self.meaning}

    def _wrapped(self, text: str) -> Any:
        return {"text": text} if self.wrapped else text

    def listed(self, body: Any) -> object:
        """Return what stands where the rows should be."""
        if self.rows is None:
            return body
        return body.get(self.rows) if isinstance(body, Mapping) else None

    def billed(self, body: Any, headers: Mapping[str, str]) -> Usage:
        """Return the figures that an answer tells: ``usage``, Cohere's ``meta``, or a header."""
        meta, usage = (get_field(body, name, None) for name in ("meta", "usage"))
        units = as_number(get_field(get_field(meta, "billed_units", None), "search_units", None))
        told = [get_field(usage, name, None) for name in ("total_tokens", "prompt_tokens")]
        told += [get_field(get_field(meta, name, None), "input_tokens", None) for name in ("billed_units", "tokens")]
        if self.tokens_in is not None:
            count = headers.get(self.tokens_in, "")
            told.append(int(count) if count.isdecimal() else None)
        # old builds of llama.cpp say 0
        tokens = next((int(count) for count in map(as_number, told) if count), None)
        return Usage(search_units=units, tokens=tokens)

    def refusal(self, status: int, said: str) -> Refusal | None:
        """Return what these words mean, if they say more than the status."""
        low = said.casefold()
        return next((r for r in self.refusals if r.status == status and r.words in low), None)


_LET_VLLM_CUT = 'cut the texts, or let vLLM cut them: extra_body={"truncate_prompt_tokens": -1}'
_LET_NIM_CUT = 'cut the texts, or let NIM cut them: extra_body={"truncate": "END"}'

DIALECTS: Mapping[Name, Dialect] = MappingProxyType(
    {
        # Cohere's v2 API elsewhere: Azure AI Foundry, LiteLLM, OpenRouter, vLLM.
        "cohere": Dialect(path="/v2/rerank", model="needed"),
        # raw_scores came in October 2024; builds before it ignore it and send the sigmoid.
        "infinity": Dialect(
            path="/rerank",
            meaning={"raw_scores": True},
            options={"return_documents": False},
            scale="sigmoid",
            most_texts=2_048,
        ),
        # That v3 gives cosines, and reads the texts of a request together, is what Jina says of the model; that its API
        # sends them as they are is [?]. So are the range of v1 and v2, 0..1, and the most texts in a request.
        "jina": Dialect(
            path="/rerank",
            model="needed",
            options={"return_documents": False},
            cosine="jina-reranker-v3",
            home="https://api.jina.ai/v1",
            keys=("JINA_API_KEY",),
            refusals=(Refusal(status=403, words="insufficient_balance", kind=BillingError),),
        ),
        # Raw logits, except for models with a yes/no head (Qwen3-Reranker), whose softmax is taken by the server.
        "llamacpp": Dialect(
            path="/rerank",
            scale="sigmoid",
            refusals=(
                Refusal(
                    status=500,
                    words="too large to process",
                    kind=RequestRejected,
                    advice="query and text together must fit in a physical batch: start it with a larger --ubatch-size",
                ),
            ),
        ),
        # The base URL and the most texts in a request are [?]. Long texts are cut, by the API reference.
        "mixedbread": Dialect(
            path="/v1/reranking",
            texts="input",
            model="needed",
            options={"return_input": False},
            rows="data",
            score="score",
            home="https://api.mixedbread.com",
            keys=("MXBAI_API_KEY",),
        ),
        # What becomes of long texts depends on the model where the request does not say it. NVIDIA's hosted models have
        # a URL each, behind which the path is /reranking.
        "nim": Dialect(
            path="/v1/ranking",
            texts="passages",
            wrapped=True,
            model="needed",
            options={"truncate": "NONE"},
            rows="rankings",
            score="logit",
            scale="sigmoid",
            most_texts=512,
            keys=("NVIDIA_API_KEY",),
            refusals=(Refusal(status=400, words="exceeds maximum", kind=RequestRejected, advice=_LET_NIM_CUT),),
        ),
        # The documentation says 413 for too many texts, the source answers 422. Permits are counted by text, and a
        # request without enough of them is refused whole (429): another reason for one request after the other.
        "tei": Dialect(
            path="/rerank",
            texts="texts",
            model="absent",
            meaning={"raw_scores": True},
            options={"truncate": True, "return_text": False},
            rows=None,
            score="score",
            scale="sigmoid",
            most_texts=32,
            most_bytes=2_000_000,
            tokens_in="x-compute-tokens",
            info="/info",
            refusals=(Refusal(status=422, words="maximum allowed batch size", kind=RequestTooLarge),),
        ),
        # use_activation=false would give logits, but older builds ignore it and send the sigmoid, so it is not sent.
        "vllm": Dialect(
            path="/rerank",
            refusals=(
                Refusal(status=400, words="reduce the length", kind=RequestRejected, advice=_LET_VLLM_CUT),
                Refusal(status=400, words="maximum context length", kind=RequestRejected, advice=_LET_VLLM_CUT),
            ),
        ),
    }
)
