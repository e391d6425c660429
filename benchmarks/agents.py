"""Agents: is the right tool among those that a reranker chooses, and do trimmed results of tools keep the answer.

    python benchmarks/agents.py tools
    python benchmarks/agents.py results COLLECTIONS --xquad xquad.en.json --queries 40

`tools` needs nothing else: ``agent_tools.txt`` has 200 tools, and two questions to many of them: "indirect" ones as
people speak, which seldom share a word with the tool, and "direct" ones, which name the thing by its usual word.
Printed is the share of the questions whose tool is among the first 1, 3, 5 and 10, with the 95 % interval of a
bootstrap for 5, and the share of the tools' tokens that the first 5 take.

`results` makes results of tools from COLLECTIONS, a folder with xquad-en in BEIR's form; the places of the answers are
in xquad.en.json of google-deepmind/xquad on GitHub. A result has the paragraph with the answer and the 19 others that
BM25 ranks best for the question, shuffled: about 3,500 tokens; as text, or as a list of JSON. It is trimmed to a half
and to a quarter of its tokens. "Kept" is the share of the questions whose answer is whole in what is left of its
paragraph; "first tokens" keeps the beginning of the result.
"""

from __future__ import annotations

import argparse
import json
import random
import warnings
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from answer_places import Question, read_questions
from paired import interval

import rag_rerank
from rag_rerank import Cached, Reranker, TruncationWarning, build
from rag_rerank.hosts import ResultTrimmer, tool_text
from rag_rerank.text.tokenizers import Tokens, tokens

EMBEDDED = Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1"
TOOLS = Path(__file__).parent / "agent_tools.txt"
CUTOFFS = (1, 3, 5, 10)
PARTS = (2, 4)


class Tool(NamedTuple):
    """A tool as a reranker reads it, and what users say who need it."""

    name: str
    text: str
    indirect: str
    direct: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("tools", "results"):
        command = commands.add_parser(name)
        command.add_argument("--reranker", action="append", help="by default embedded and lexical")
    command.add_argument("collections", type=Path)
    command.add_argument("--xquad", type=Path, required=True)
    command.add_argument("--queries", type=int, default=60)
    command.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)
    names = options.reranker or ["embedded", "lexical"]
    if options.command == "tools":
        choose_tools(names)
    else:
        questions = read_questions(
            options.collections / "xquad-en", options.xquad, count=options.queries, depth=20, seed=options.seed
        )
        trim_results(names, questions)


def read_tools() -> list[Tool]:
    """Return the tools of the file."""
    rows = [line.split("|") for line in TOOLS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    tools = []
    for name, description, arguments, indirect, direct in (map(str.strip, row) for row in rows):
        properties = {argument.strip(): {} for argument in arguments.split(",") if argument.strip()}
        tools.append(Tool(name, tool_text(name, description, {"properties": properties}), indirect, direct))
    return tools


def choose_tools(names: list[str]) -> None:
    """Print the recall of each reranker, and of the order in which the tools are listed."""
    tools = read_tools()
    count = tokens(EMBEDDED).count
    sizes = np.array([count(tool.text) for tool in tools])
    print(f"{len(tools)} tools, {sizes.sum():,} tokens")
    print(f"| questions | tools ordered by | {' | '.join(f'recall@{k}' for k in CUTOFFS)} | tokens of the first 5 |")
    for kind in ("indirect", "direct"):
        asked = [(i, getattr(tool, kind)) for i, tool in enumerate(tools) if getattr(tool, kind)]
        for name in [*names, "their place in the list"]:
            orders = [order_of(name, question, tools) for _, question in asked]
            ranks = np.array([order.index(i) + 1 for order, (i, _) in zip(orders, asked, strict=True)])
            low, high = interval((ranks <= 5).astype(float))
            shares = [f"{(ranks <= k).mean():.3f}" + (f" [{low:.3f}, {high:.3f}]" if k == 5 else "") for k in CUTOFFS]
            cost = np.mean([sizes[order[:5]].sum() for order in orders]) / sizes.sum()
            print(f"| {kind}, {len(asked)} | {name} | {' | '.join(shares)} | {cost:.1%} |", flush=True)


def order_of(name: str, question: str, tools: list[Tool]) -> list[int]:
    """Return the positions of the tools, best first; a name that is no reranker's stands for their own order."""
    if " " in name:
        return list(range(len(tools)))
    return [int(hit.id) for hit in reranker_of(name).rerank(question, [tool.text for tool in tools])]


@cache
def reranker_of(name: str) -> Reranker:
    """Return a reranker that does not score the same twice, if its scores can be kept."""
    reranker = build(name)
    return Cached(reranker=reranker) if getattr(reranker, "why_not_cacheable", "no") is None else reranker


def trim_results(names: list[str], questions: list[Question]) -> None:
    """Print how many answers are kept in trimmed results."""
    tokenizer = tokens(EMBEDDED)
    size = np.mean([tokenizer.count(as_text(question)) for question in questions])
    print(f"{len(questions)} questions, {size:,.0f} tokens a result")
    print(f"| result | parts by | {' | '.join(f'kept at 1/{n} | tokens left' for n in PARTS)} |")
    for form, make in (("text", as_text), ("JSON", as_json)):
        for name in [*names, "first tokens"]:
            columns = []
            for part in PARTS:
                results = [kept_and_left(name, question, make(question), part, tokenizer) for question in questions]
                kept, left = np.array(results, dtype=float).T
                low, high = interval(kept)
                columns.append(f"{kept.mean():.1%} [{low:.1%}, {high:.1%}] | {left.mean():.1%}")
            print(f"| {form} | {name} | {' | '.join(columns)} |", flush=True)


def kept_and_left(name: str, question: Question, result: str, part: int, tokenizer: Tokens) -> tuple[bool, float]:
    """Return whether the answer is kept, and the share of the tokens that is left."""
    total = tokenizer.count(result)
    budget = total // part
    if " " in name:
        end = [end for _, end in tokenizer.spans(result) or []][budget - 1]
        return is_kept(question, result, [(0, end)]), budget / total
    trimmer = ResultTrimmer(
        reranker_of(name), max_tokens=budget, tokenizer=tokenizer.count, instruction=None, on_failure="raise"
    )
    trimmed = trimmer.trim("search", None, question.text, [result])
    assert trimmed.context is not None
    places = []
    for piece in trimmed.context.pieces:
        start = min(hit.candidate.metadata["start"] for hit in piece.hits)
        first, end = piece.trimmed or (0, len(piece.text))
        places.append((start + first, start + end))
        assert result[start + first : start + end].strip() in (trimmed.texts[0] or "")
    return is_kept(question, result, places), trimmed.tokens / total


def is_kept(question: Question, result: str, places: list[tuple[int, int]]) -> bool:
    """Whether an answer is whole in these places of a result, in the paragraph that is known to hold it."""
    (gold,) = (candidate.text for candidate in question.candidates if candidate.id == question.id)

    def written(text: str) -> str:
        return text if gold in result else json.dumps(text, ensure_ascii=False)[1:-1]

    at = result.index(written(gold))

    def is_in(start: int, end: int) -> bool:
        first, last = at + len(written(gold[:start])), at + len(written(gold[:end]))
        return any(a <= first and last <= b for a, b in places)

    return any(all(is_in(start, end) for start, end in answer) for answer in question.answers)


def as_text(question: Question) -> str:
    """Return the result as paragraphs."""
    return "\n\n".join(candidate.text for candidate in shuffled(question))


def as_json(question: Question) -> str:
    """Return the result as a list of JSON."""
    return json.dumps([{"id": c.id, "text": c.text} for c in shuffled(question)], ensure_ascii=False)


def shuffled(question: Question) -> list[rag_rerank.Candidate]:
    """Return the paragraphs in an order that is random, and the same each time."""
    return random.Random(question.text).sample(question.candidates, len(question.candidates))


if __name__ == "__main__":
    main()
