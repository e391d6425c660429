"""The dialects of servers that users run themselves."""

from __future__ import annotations

from collections.abc import Mapping

from rag_rerank.backends.api.dialects.dialect import Dialect, Refusal
from rag_rerank.errors import RequestRejected, RequestTooLarge

__all__ = ["SERVERS"]

_LET_VLLM_CUT = 'cut the texts, or let vLLM cut them: extra_body={"truncate_prompt_tokens": -1}'
_LET_TEI_CUT = 'cut the texts, or let TEI cut them: extra_body={"truncate": True}'
_LET_NIM_CUT = 'cut the texts, or let NIM cut them: extra_body={"truncate": "END"}'

_ENLARGE_LLAMACPP = (
    "query and text together must fit in the context: start it with a larger --ctx-size, or cut the texts"
)
_FIT_INFINITY = "Infinity takes 122,880 characters of a query or text: cut it, or rank windows of it (type windows)"

SERVERS: Mapping[str, Dialect] = {
    # raw_scores came in October 2024; builds before it ignore it and send the sigmoid. Infinity takes 2,048 texts,
    # but computes them all, also when nobody waits any more; it puts 32 in a batch. It counts characters, unless it
    # is started with --lengths-via-tokenize.
    "infinity": Dialect(
        title="Infinity",
        path="/rerank",
        model="optional",
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
    # Raw logits, except for models with a yes/no head (Qwen3-Reranker), whose softmax is taken by the server, and
    # -1e6 where it failed on a text. A request is dropped when its client hangs up.
    "llamacpp": Dialect(
        title="llama.cpp",
        path="/rerank",
        model="optional",
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
    # If a request does not say what to do with long texts, it depends on the model. Each of NVIDIA's hosted
    # models has a URL of its own, followed by the path /reranking.
    "nim": Dialect(
        title="NIM",
        path="/v1/ranking",
        wraps_query=True,
        texts="passages",
        text="text",
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
    # The answer is a bare list, and names no model. [?]: that a cross-encoder's score is within 0..1, what is done with
    # long texts, and the most texts in a request. An answer repeats the texts unless it is told not to.
    "sglang": Dialect(
        title="SGLang",
        path="/v1/rerank",
        model="optional",
        instruction="instruct",
        options={"return_documents": False},
        rows=None,
        score="score",
        cuts=False,
        models="/v1/models",
        echoes_model=True,
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
    # use_activation=false would give logits, but older builds ignore it and send the sigmoid, so it is not sent. Older
    # builds ignore an instruction too. --api-key guards the paths below /v1 and /v2, and not /rerank. An answer repeats
    # the texts. A request is dropped when its client hangs up.
    "vllm": Dialect(
        title="vLLM",
        path="/v1/rerank",
        model="optional",
        instruction="instruction",
        cuts=False,
        cut_field="truncate_prompt_tokens",
        models="/v1/models",
        refusals=(
            Refusal(status=400, words="reduce the length", kind=RequestRejected, advice=_LET_VLLM_CUT),
            Refusal(status=400, words="maximum context length", kind=RequestRejected, advice=_LET_VLLM_CUT),
        ),
    ),
}
"""Dialect -> its row, for servers of one's own."""
