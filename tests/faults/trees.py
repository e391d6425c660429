"""Random cases as plain data, their rerankers, and smaller cases that may fail in the same way."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, ClassVar

from faults.wire import FAULTS, LOGITS, SLOTS, Slot, Wire, service_of
from support.ltr_models import WITHOUT_TEXTS, write_model

import rag_rerank
from rag_rerank import (
    Cached,
    Cascade,
    Deadline,
    Decay,
    Ensemble,
    Fallback,
    Guarded,
    Hedge,
    LearningToRank,
    RelevantSpans,
    Reranker,
    Shadow,
    Stage,
    Template,
    Windows,
)
from rag_rerank.backends.api.breaker import Breaker
from rag_rerank.backends.api.dialects import DIALECTS
from rag_rerank.backends.api.limiter import Limits
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.backends.cohere import CohereReranker
from rag_rerank.backends.decisions import DecisionsReranker
from rag_rerank.backends.http import HttpReranker
from rag_rerank.backends.llm import LlmReranker

Node = dict[str, Any]
Case = dict[str, Any]

TOKENIZER = str(Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1" / "tokenizer.json")
KEY = "kEy-7f3aQz0Lw9"
WORDS = (
    *("warm", "dragon", "river", "spot", "lamp", "sand", "cranes", "migrate"),
    *("autumn", "coast", "shade", "noon", "lizard", "heat", "forty", "degrees"),
)
"""Each is one token of the tokenizer, so that windows are runs of words."""

LASTING = ("400", "401", "402", "403", "413", "echo, 400", "echo, 401", "redirect")
DEPTH = 4
DECISIONS = ("openai", "systemone", "systemone-pair")
"""Decision models: both wire formats, and the one way to ask that a cache allows."""

DECAYING = ("sigmoid", "relevance")
"""Scales that a decay takes."""

PREFIX = "spot "
"""The words that the template of a case puts before each text; candidates have no metadata there."""

FLOOR = 0.25
"""The factor of a decay, because no candidate has a date."""

KINDS: tuple[str, ...] = (
    *("chat-sdk", "cohere-sdk", "cohere", "infinity", "jina", "llamacpp", "mixedbread", "nim", "tei", "vllm"),
    *("cloudflare", "deepinfra", "google", "openrouter", "pinecone"),
    *DECISIONS,
)


def random_case(seed: int, number: int) -> Case:
    """Return case ``number`` of a seed."""
    rng = random.Random(f"{seed}/{number}")
    trouble = rng.choice((0.0, 0.2, 0.5, 0.8))
    lasting = rng.random() < 0.4
    depth = DEPTH if rng.random() < 0.8 else 1
    tree = _node(rng, depth, trouble, lasting)
    while sum(node["type"] == "leaf" for node in walk(tree)) > SLOTS:
        tree = _node(rng, depth, trouble, lasting)
    count = rng.choice((0, 1, 2, 3, 3, 5, 5, 8, 12))
    texts = [_text(rng) for _ in range(count)]
    return {
        "tree": name_nodes(tree),
        "query": " ".join(rng.sample(WORDS, 3)) + "?",
        "texts": texts,
        "top_k": rng.choice((None, None, None, 1, 3)),
        "timeout": rng.choice((None, None, round(rng.uniform(0.2, 12), 2))),
        "calls": rng.choice((1, 1, 2)),
        "asyncio": rng.random() < 0.5,
        "order": rng.randrange(10**6),
    }


def _text(rng: random.Random) -> str:
    if rng.random() < 0.06:
        return rng.choice(("", "  ", "\u200b"))
    return " ".join(rng.choices(WORDS, k=rng.randint(1, 9)))


def _node(rng: random.Random, depth: int, trouble: float, lasting: bool) -> Node:
    def below(least: int, most: int) -> list[Node]:
        return [_node(rng, depth - 1, trouble, lasting) for _ in range(rng.randint(least, most))]

    if depth <= 1 or rng.random() < (0.08 if depth == DEPTH else 0.35):
        return _leaf(rng, trouble, lasting)
    kind = rng.choice(("fallback", "hedge", "ensemble", "cascade", "deadline", "cached", "windows", "shadow"))
    if kind == "fallback":
        return {"type": kind, "members": below(2, 3), "on_failure": rng.choice(("error", "error", "first_stage"))}
    if kind == "hedge":
        return {"type": kind, "members": below(2, 3), "after": round(rng.uniform(0.05, 3), 2)}
    if kind == "ensemble":
        members = below(2, 3)
        fusion = rng.choice(("rrf", "combsum", "combmnz", "weighted"))
        normalise = {"rrf": None, "combmnz": "min-max"}.get(fusion, rng.choice(("min-max", "z-score")))
        weights = [round(rng.uniform(0.1, 3), 2) for _ in members] if fusion == "weighted" else None
        if fusion == "combsum" and normalise == "z-score":  # no draw of its own, as below
            return {"type": "ltr", "members": members}
        return {"type": kind, "members": members, "fusion": fusion, "normalise": normalise, "weights": weights}
    if kind == "cascade":
        return {"type": kind, "stages": below(1, 3), "depths": [rng.choice((None, 1, 3, 6)) for _ in range(3)]}
    if kind == "deadline":
        on_late = rng.choice(("first_stage", "error", "partial"))
        seconds = round(rng.uniform(0.2, 8), 2)
        (reranker,) = below(1, 1)
        if seconds > 7.2:  # no draw of its own, so that the other cases of a seed stay as they were
            return {"type": "template", "reranker": reranker}
        if seconds > 6.4 and scale_of(reranker) in DECAYING:
            return {"type": "decay", "reranker": reranker}
        return {"type": kind, "reranker": reranker, "seconds": seconds, "on_late": on_late}
    if kind == "windows":
        pool, size = rng.choice(("max", "mean", "top")), rng.randint(2, 5)
        overlap = rng.randint(0, size // 2)
        (reranker,) = below(1, 1)
        pool = "max" if scale_of(reranker) == "rank" else pool
        return {"type": kind, "reranker": reranker, "tokens": size, "overlap": overlap, "pool": pool}
    if kind == "shadow":
        first, other = below(2, 2)
        share, seconds = rng.choice((0.5, 1.0)), round(rng.uniform(1, 9), 2)
        if (
            seconds > 5 and scale_of(other) != "rank"
        ):  # no draw of its own, so that the other cases of a seed stay as they were
            return {"type": "spans", "reranker": first, "by": other, "top_k": int(seconds) - 4}
        if seconds < 2.5:
            return {"type": "guarded", "reranker": first, "margin": round(seconds - 0.9, 2)}
        return {"type": kind, "reranker": first, "other": other, "share": share, "timeout": seconds}
    leaf = _leaf(rng, trouble, lasting)
    if scale_of(leaf) == "rank":
        return leaf
    is_batch = leaf["kind"] in DECISIONS
    return {"type": "cached", "reranker": {**leaf, "kind": "systemone-pair"} if is_batch else leaf}


def _leaf(rng: random.Random, trouble: float, lasting: bool) -> Node:
    kind = rng.choice(KINDS)
    names = [name for name in FAULTS if lasting or name not in LASTING]
    if kind == "chat-sdk":  # an answer that lacks something is repaired, and one that is too large is not halved
        names = [name for name in names if not name.startswith("rows: ") and name not in ("413", "redirect")]
    if kind == "cohere-sdk":
        names = [name for name in names if name != "redirect"]  # an own client of the SDK follows them, without the key
    burst = rng.random() < 0.3
    script = []
    for _ in range(rng.randint(0, 8)):
        grave = lasting and rng.random() < 0.25
        name = rng.choice([n for n in names if not grave or n in LASTING]) if rng.random() < trouble else ""
        script += [(name, _seconds(rng))] * (rng.randint(2, 4) if burst and name.startswith("5") else 1)
    return {
        "type": "leaf",
        "kind": kind,
        "most": rng.choice((None, None, 1, 2, 4)),
        "key_group": rng.choice((None, None, 0, 1)),
        "limits": rng.choice((None, None, None, _limits(rng))),
        "breaker": rng.choice((None, None, {"failures": rng.randint(1, 3), "seconds": rng.choice((2.0, 30.0))})),
        "one_client": rng.random() < 0.15,
        "model": rng.choice(("shared", None)),
        "script": script,
        "steady": _seconds(rng),
        "timeout": round(rng.choice((0.5, 2.0, 5.0, 10.0)) * rng.uniform(0.5, 1.5), 2),
        "retry": {
            "attempts": rng.randint(1, 4),
            "first_wait": round(rng.uniform(0, 1), 2),
            "max_wait": round(rng.uniform(0.5, 4), 2),
            "budget": round(rng.choice((20, 40, 90)) * rng.uniform(0.1, 1), 1),
            "jitter": rng.choice((0.0, 0.5)),
        },
    }


def _limits(rng: random.Random) -> dict[str, int]:
    some = {
        "requests_per_minute": rng.choice((1, 2, 3, 6)),
        "tokens_per_minute": rng.choice((20, 60, 200)),
        "concurrency": rng.choice((1, 1, 2)),
    }
    return {name: some[name] for name in rng.sample(sorted(some), rng.randint(1, 3))}


def _seconds(rng: random.Random) -> float:
    return round(rng.choice((0.01, 0.05, 0.1, 0.3, 0.3, 1.0, 3.0)) * rng.uniform(0.5, 2), 3)


def scale_of(node: Node) -> str:
    """Return the scale of a node's normal answer."""
    if node["type"] in ("ensemble", "ltr"):
        return "unbounded"
    if node["type"] == "leaf":
        return "rank" if node["kind"] == "chat-sdk" else "sigmoid" if node["kind"] in LOGITS else "relevance"
    inside = list(parts(node))
    return scale_of(inside[-1] if node["type"] == "cascade" else inside[0])


def parts(node: Node) -> Iterator[Node]:
    """Yield the nodes directly inside."""
    if "reranker" in node:
        yield node["reranker"]
    if "other" in node:
        yield node["other"]
    if "by" in node:
        yield node["by"]
    yield from node.get("members", ())
    yield from node.get("stages", ())


def walk(node: Node) -> Iterator[Node]:
    """Yield this node and all below it."""
    yield node
    for part in parts(node):
        yield from walk(part)


def name_nodes(tree: Node) -> Node:
    """Give each node a name, and each leaf a slot."""
    slot = 0
    for number, node in enumerate(walk(tree)):
        node["name"] = f"n{number}-{node['type']}"
        if node["type"] == "leaf":
            node["slot"] = slot
            node["key_group"] = slot if node["key_group"] is None else node["key_group"]
            slot += 1
    assert slot <= SLOTS, slot
    return tree


def model_of(leaf: Node) -> str:
    if leaf["kind"] == "tei":
        return "m"  # the one that it serves
    return leaf["model"] or f"model-{leaf['slot']}"


@dataclass(frozen=True, kw_only=True)
class CohereOnWire(CohereReranker):
    """Cohere's reranker with the slot's connections under its SDK."""

    kind: ClassVar[str] = "cohere"

    wire: Any = field(default=None, repr=False, compare=False, metadata={"live": True})
    slot: int = 0

    def _new_client(self) -> Any:
        return sdk_client(self.wire, "ClientV2", self.slot)

    def _new_async_client(self) -> Any:
        return sdk_client(self.wire, "AsyncClientV2", self.slot)


@dataclass(frozen=True, kw_only=True)
class LlmOnWire(LlmReranker):
    """The reranker that asks a language model, with the slot's connections under OpenAI's SDK."""

    kind: ClassVar[str] = "llm"
    fields_without_effect: ClassVar[frozenset[str]] = LlmReranker.fields_without_effect | {"slot"}

    wire: Any = field(default=None, repr=False, compare=False, metadata={"live": True})
    slot: int = 0

    def _new_client(self) -> Any:
        return chat_client(self.wire, "OpenAI", self.slot)

    def _new_async_client(self) -> Any:
        return chat_client(self.wire, "AsyncOpenAI", self.slot)


class _Shared:
    """An SDK client that is not closed with its reranker."""

    def __init__(self, client: Any) -> None:
        self.rerank = getattr(client, "rerank", None)
        self.chat = getattr(client, "chat", None)

    def close(self) -> None:
        pass

    def __exit__(self, *details: Any) -> None:
        pass

    async def __aexit__(self, *details: Any) -> None:
        pass


def sdk_client(wire: Wire, kind: str, slot: int) -> Any:
    """Return Cohere's client of a slot; one serves all cases, because making it takes a twentieth of a second."""
    if (kind, slot) not in wire.sdk_clients:
        import cohere

        client = (wire.aclients if kind.startswith("Async") else wire.clients)[slot]
        sdk = getattr(cohere, kind)(api_key=KEY, base_url=f"{wire.server.url}/cohere", httpx_client=client, timeout=5)
        wire.sdk_clients[kind, slot] = _Shared(sdk)
    return wire.sdk_clients[kind, slot]


class _SharedAsync(_Shared):
    """The same for an event loop."""

    async def close(self) -> None:  # type: ignore[override]
        pass


def chat_client(wire: Wire, kind: str, slot: int) -> Any:
    """Return OpenAI's client of a slot; one serves all cases."""
    if (kind, slot) not in wire.sdk_clients:
        import openai

        is_async = kind.startswith("Async")
        client = (wire.aclients if is_async else wire.clients)[slot]
        sdk = getattr(openai, kind)(api_key="-", base_url=f"{wire.server.url}/chat", http_client=client, max_retries=0)
        wire.sdk_clients[kind, slot] = (_SharedAsync if is_async else _Shared)(sdk)
    return wire.sdk_clients[kind, slot]


def build_tree(node: Node, wire: Wire) -> Reranker:
    """Return the reranker of a node, and set the scripts of its leaves."""
    name = node["name"]
    if node["type"] == "leaf":
        slot: Slot = wire.slots[node["slot"]]
        slot.service, slot.script, slot.steady, slot.log = node["kind"], node["script"], node["steady"], []
        return _on_wire(node, wire, slot)
    inside = [build_tree(part, wire) for part in parts(node)]
    if node["type"] == "fallback":
        return Fallback(name=name, members=tuple(inside), on_failure=node["on_failure"])
    if node["type"] == "hedge":
        return Hedge(name=name, members=tuple(inside), after=node["after"])
    if node["type"] == "ensemble":
        weights = node["weights"] and tuple(node["weights"])
        return Ensemble(
            name=name, members=tuple(inside), fusion=node["fusion"], normalise=node["normalise"], weights=weights
        )
    if node["type"] == "ltr":
        folder = Path(mkdtemp(dir=_model_folder().name))
        model = write_model(folder, inside, without=WITHOUT_TEXTS)
        return LearningToRank(name=name, model=model, rerankers=tuple(inside))
    if node["type"] == "cascade":
        stages = tuple(Stage(reranker=r, depth=d) for r, d in zip(inside, node["depths"], strict=False))
        return Cascade(name=name, stages=stages)
    if node["type"] == "deadline":
        return Deadline(name=name, reranker=inside[0], seconds=node["seconds"], on_late=node["on_late"])
    if node["type"] == "windows":
        tokens, overlap, pool = node["tokens"], node["overlap"], node["pool"]
        return Windows(name=name, reranker=inside[0], tokens=tokens, overlap=overlap, pool=pool, tokenizer=TOKENIZER)
    if node["type"] == "shadow":
        share, seconds = node["share"], node["timeout"]
        return Shadow(name=name, reranker=inside[0], other=inside[1], share=share, timeout=seconds)
    if node["type"] == "guarded":
        return Guarded(name=name, reranker=inside[0], margin=node["margin"])
    if node["type"] == "spans":
        return RelevantSpans(name=name, reranker=inside[0], by=inside[1], top_k=node["top_k"])
    if node["type"] == "template":
        return Template(name=name, reranker=inside[0], text="{title}\n" + PREFIX + "{text}")
    if node["type"] == "decay":
        return Decay(name=name, reranker=inside[0], field="date", half_life=30.0, floor=FLOOR, missing="floor")
    assert node["type"] == "cached"
    return Cached(name=name, reranker=inside[0])  # type: ignore[arg-type]


@cache
def _model_folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="ltr-")


def _on_wire(leaf: Node, wire: Wire, slot: Slot) -> Reranker:
    service = service_of(leaf["kind"])
    options: dict[str, Any] = {
        "name": leaf["name"],
        "model": model_of(leaf),
        "api_key": KEY,
        "base_url": f"{wire.server.url}/{service}/{wire.cases}-{leaf['key_group']}",  # its limits are shared by this
        "timeout": leaf["timeout"],
        "retry": RetryPolicy(**leaf["retry"]),
        "limits": Limits(**(leaf["limits"] or {})),
        "breaker": leaf["breaker"] and Breaker(**leaf["breaker"]),
    }
    if leaf["kind"] == "cohere-sdk":
        return CohereOnWire(**options, wire=wire, slot=slot.number)
    if leaf["kind"] == "chat-sdk":
        return LlmOnWire(**options, window=1_000, parallel=1, wire=wire, slot=slot.number)
    client, async_client = wire.clients[slot.number], wire.aclients[slot.number]
    if leaf["kind"] in DECISIONS:
        return DecisionsReranker(
            **options,
            wire=service,  # type: ignore[arg-type]
            ask="pair" if leaf["kind"].endswith("-pair") else "yesno",
            max_texts=leaf["most"],
            client=client,
            async_client=None if leaf["one_client"] else async_client,
        )
    return HttpReranker(
        **options,
        dialect=leaf["kind"],
        project="p" if DIALECTS[leaf["kind"]].has_project else None,
        max_texts=leaf["most"],
        client=client,
        async_client=None if leaf["one_client"] else async_client,
    )


def smaller(case: Case) -> Iterator[Case]:
    """Yield smaller cases, the largest cuts first."""

    def with_tree(tree: Node) -> Case:
        return {**copy.deepcopy(case), "tree": name_nodes(copy.deepcopy(tree))}

    for part in parts(case["tree"]):
        yield with_tree(part)
    for change in _cuts(case["tree"]):
        yield with_tree(change)
    if case["calls"] > 1:
        yield {**copy.deepcopy(case), "calls": 1}
    if case["timeout"] is not None:
        yield {**copy.deepcopy(case), "timeout": None}
    if case["top_k"] is not None:
        yield {**copy.deepcopy(case), "top_k": None}
    for i in range(len(case["texts"])):
        yield {**copy.deepcopy(case), "texts": case["texts"][:i] + case["texts"][i + 1 :]}


def _cuts(node: Node) -> Iterator[Node]:
    if node["type"] == "leaf":
        script = node["script"]
        for i in reversed(range(len(script))):
            yield {**node, "script": script[:i] + script[i + 1 :]}
            if script[i][0]:
                yield {**node, "script": [*script[:i], ("", script[i][1]), *script[i + 1 :]]}
        for name in ("limits", "breaker"):
            if node[name]:
                yield {**node, name: None}
        return
    for place in ("members", "stages"):
        for i, part in enumerate(node.get(place, ())):
            rest = [*node[place][:i], *node[place][i + 1 :]]
            if len(rest) >= (1 if place == "stages" else 2):
                weights = node.get("weights")
                yield {**node, place: rest, **({"weights": weights[: len(rest)]} if weights else {})}
            for inner in parts(part):
                yield {**node, place: [*node[place][:i], inner, *node[place][i + 1 :]]}
            for cut in _cuts(part):
                yield {**node, place: [*node[place][:i], cut, *node[place][i + 1 :]]}
    for place in ("reranker", "other", "by"):
        if place in node:
            if node["type"] not in ("cached", "decay"):
                for inner in parts(node[place]):
                    yield {**node, place: inner}
            for cut in _cuts(node[place]):
                yield {**node, place: cut}
