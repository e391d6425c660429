"""Judges of known noise, asked in every way that the library has: one table with the same columns for all.

    python benchmarks/judges.py [--noise 0.3 0.6] [--queries 40]

A judge is a server on 127.0.0.1 that knows the judgments of `docs/samples/judged.jsonl`. Its opinion of a text is 1 if
the text is relevant and 0 if not, plus Gaussian noise of a known standard deviation, drawn anew each time a request
holds the text. The same judge answers as a rerank API (Cohere's wire), as a decision model (System One, where this
release has the type), and as a language model in each mode; it also scores in this process, as a local model. So all
systems know the same, and differ in how they ask, how much of an opinion their answers carry, and what they cost.

Real models are not like that: their errors on a text repeat at each reading, so that asking again helps them less.
Prices are assumptions, and named in the table's head; the tokens of a prompt are counted as words by the judge.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import threading
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from rag_rerank import PointwiseReranker, Reranker, Scale, Scores, Usage, build, registry
from rag_rerank.evaluation import evaluate
from rag_rerank.evaluation.data.judged import Judged
from rag_rerank.evaluation.data.read import read

SAMPLES = Path(__file__).parents[1] / "docs" / "samples" / "judged.jsonl"
STEEP = 6.0
"""Logits between a text that is not relevant and one that is, where an answer carries a probability."""

LLM_PRICE = {"per_million_tokens": 0.15, "per_million_output_tokens": 0.60}
API_PRICE = {"per_thousand_search_units": 2.0}
DECISIONS_PRICE = {"per_million_tokens": 0.042}
_BLOCK = re.compile(r"<<(query|passage ?\w*) (\w+)>>\n(.*?)\n<<end of \1 \2>>", re.DOTALL)


@dataclass
class Judge:
    """Opinions of known noise.

    Args:
        grades: Text -> queries that it is relevant to.
        noise: The standard deviation.
        requests: System -> how many requests it sent.
    """

    grades: Mapping[str, set[str]]
    noise: float
    requests: Counter[str] = field(default_factory=Counter)

    def opinions(self, query: str, texts: Sequence[str], reading: str) -> list[float]:
        """Return what the judge thinks of each text, at this reading."""
        return [
            float(query in self.grades.get(text, ()))
            + random.Random(f"{reading}\0{query}\0{text}").gauss(0, self.noise)
            for text in texts
        ]


def probability(opinion: float) -> float:
    return 1 / (1 + math.exp(-STEEP * (opinion - 0.5)))


def grade(opinion: float) -> int:
    return round(3 * min(max(opinion, 0.0), 1.0))


@dataclass(frozen=True, kw_only=True)
class LocalJudge(PointwiseReranker):
    """The judge as a local cross-encoder: one reading of each text, a logit without rounding."""

    kind: ClassVar[str] = "local-judge"

    judge: Any = field(default=None, repr=False, compare=False, metadata={"live": True})

    @property
    def scale(self) -> Scale:
        return "sigmoid"

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        opinions = self.judge.opinions(query, texts, "local")
        return Scores([STEEP * (opinion - 0.5) for opinion in opinions], "sigmoid", Usage(texts=len(texts), cost=0.0))


def chat(judge: Judge, body: Any) -> Any:
    """Answer a prompt of the llm reranker."""
    system, user = (message["content"] for message in body["messages"])
    code = re.search(r"carry the code (\w+)", system)
    assert code is not None
    blocks = [(name, text) for name, fence, text in _BLOCK.findall(user) if fence == code[1]]
    query = next(text for name, text in blocks if name == "query")
    opinions = judge.opinions(query, [text for name, text in blocks if name != "query"], user)
    logprobs = None
    if "order passages" in system:
        order = sorted(range(len(opinions)), key=lambda i: -opinions[i])
        text = json.dumps({"ranking": [i + 1 for i in order]})
    elif "two passages" in system:
        text = json.dumps({"better": "A" if opinions[0] >= opinions[1] else "B"})
    elif "You grade" in system:
        text = json.dumps({"grade": grade(opinions[0])})
    else:
        yes = min(max(probability(opinions[0]), 1e-9), 1 - 1e-9)
        tokens = [{"token": "yes", "logprob": math.log(yes)}, {"token": "no", "logprob": math.log(1 - yes)}]
        text = "yes" if yes > 0.5 else "no"
        logprobs = {"content": [{"token": text, "logprob": max(t["logprob"] for t in tokens), "top_logprobs": tokens}]}
    words = len(system.split()) + len(user.split())
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
    usage = {"prompt_tokens": words, "completion_tokens": len(text.split()), "total_tokens": words + len(text.split())}
    facts = {"id": "c", "object": "chat.completion", "created": 0, "model": body["model"]}
    return {**facts, "choices": [choice], "usage": usage}


def rerank(judge: Judge, body: Any) -> Any:
    """Answer a request of Cohere's v2 API."""
    opinions = judge.opinions(body["query"], body["documents"], "api")
    rows = [{"index": i, "relevance_score": probability(opinion)} for i, opinion in enumerate(opinions)]
    return {"id": "r", "results": rows, "meta": {"billed_units": {"search_units": 1}}}


def decide(judge: Judge, body: Any) -> Any:
    """Answer a System One request whose questions are about the passages of the state, in their order."""
    state = body["state"]
    passages = state["passages"] if "passages" in state else [{"text": state["passage"]}]
    texts = [passage["text"] if isinstance(passage, dict) else passage for passage in passages]
    opinions = judge.opinions(state["query"], texts, "decisions")
    answers: dict[str, Any] = {}
    for (name, question), opinion in zip(body["questions"].items(), opinions, strict=True):
        if question["type"] == "noul":
            answers[name] = {"type": "noul", "noul": probability(opinion)}
        else:
            top = len(question["criteria"]) - 1
            shares = {str(level): 0.0 for level in range(top + 1)}
            level = top * probability(opinion)
            shares[str(int(level))] = 1 - level % 1
            if level % 1:
                shares[str(int(level) + 1)] = level % 1
            legend = {str(i): text for i, text in enumerate(question["criteria"])}
            answers[name] = {
                **{"type": "score", "score": level, "confidence": 1.0},
                **{"legend": legend, "probabilities": shares},
            }
    words = len(json.dumps(body).split())
    return {"model": body["model"], "answers": answers, "usage": {"input_tokens": words, "output_tokens": 0}}


ENDPOINTS = {"/chat/completions": chat, "/v2/rerank": rerank, "/systemone": decide}


def serve(judge: Judge) -> ThreadingHTTPServer:
    """Start the judge's server; each system has a path of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            judge.requests[self.path.split("/")[1]] += 1
            answer = next(answer for ending, answer in ENDPOINTS.items() if self.path.endswith(ending))
            content = json.dumps(answer(judge, body)).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def systems(url: str, judge: Judge) -> dict[str, Reranker]:
    """Return the rerankers by the first part of their path."""
    llm = {"type": "llm", "model": "judge", "price": LLM_PRICE, "window": 10, "stride": 5}
    configs: dict[str, dict[str, Any]] = {
        "api": {"type": "cohere", "model": "judge", "api_key": "Zq81mVtB4xHsW9nLr2Yd", "price": API_PRICE},
        "decisions-rubric": {"type": "decisions", "model": "judge", "ask": "rubric", "price": DECISIONS_PRICE},
        "decisions-yesno": {"type": "decisions", "model": "judge", "ask": "yesno", "price": DECISIONS_PRICE},
        "llm-pointwise": {**llm, "mode": "pointwise", "score_by": "logprobs"},
        "llm-grades": {**llm, "mode": "pointwise", "score_by": "grade"},
        "llm-listwise": llm,
        "llm-shuffles": {**llm, "shuffles": 4},
        "llm-pairwise": {**llm, "mode": "pairwise", "top": 3},
    }
    if "decisions" not in registry.BUILT_IN:
        configs = {name: config for name, config in configs.items() if config["type"] != "decisions"}
    built = {name: build({**config, "base_url": f"{url}/{name}"}) for name, config in configs.items()}
    return {"local": LocalJudge(judge=judge), **built}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.3, 0.6])
    parser.add_argument("--queries", type=int, default=40)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    whole = read(SAMPLES)
    judged = Judged(name=whole.name, queries=whole.queries[: options.queries])
    print(f"{len(judged.queries)} queries with {len(judged.queries[0].candidates)} candidates each; prices assumed:")
    print(f"LLM {LLM_PRICE}, API {API_PRICE}, decisions {DECISIONS_PRICE}")
    print("| noise | system | scale | nDCG@10 | requests a query | tokens a query | $ / 1,000 queries | degraded |")
    for noise in options.noise:
        print_table(judged, noise)


def print_table(judged: Judged, noise: float) -> None:
    """Evaluate all systems with one judge, and print a row for each."""
    grades: dict[str, set[str]] = {}
    for query in judged.queries:
        for candidate in query.candidates:
            if query.grades.get(candidate.id, 0) >= judged.relevant:
                grades.setdefault(candidate.text, set()).add(query.text)
    judge = Judge(grades, noise)
    server = serve(judge)
    try:
        rerankers = systems(f"http://127.0.0.1:{server.server_port}", judge)
        evaluation = evaluate(judged, rerankers, measures=["nDCG@10"], samples=200)
    finally:
        server.shutdown()
    count = len(judged.queries)
    for system in evaluation.systems:
        tokens = "" if system.tokens is None else f"{system.tokens / count:,.0f}"
        cost = "" if system.cost is None else f"{system.cost / count * 1_000:.2f}"
        requests = judge.requests[system.name] / count
        figures = f"{system.measures['nDCG@10'].mean:.3f} | {requests:.1f} | {tokens} | {cost} | {system.degraded}"
        print(f"| {noise} | {system.name} | {system.scale or ''} | {figures} |")


if __name__ == "__main__":
    main()
