"""The demo: BM25 finds, the embedded model reranks; directly, in LlamaIndex, in LangChain, and from a config file.

    python cookbook/demo.py

Needs no network, no key and no torch. The passages and questions are real (see data/README.md).
"""

import tempfile
import textwrap
from math import ceil
from pathlib import Path

from corpus import Bm25, chunks, first_relevant_rank, questions
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from langchain_rag_rerank import RagRerankRetriever
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.rag_rerank import RagRerank

import rag_rerank
from rag_rerank import Candidate, Ranking

DEPTH = 20
"""How many passages BM25 passes to the reranker."""

QUESTIONS = 60
"""Over how many questions the demo counts what the reranker does."""

TEXTS = chunks()
BM25 = Bm25(TEXTS)


def first_stage_hits(query: str) -> list[Candidate]:
    """Run the first stage."""
    return [Candidate(id, TEXTS[id], score) for id, score in BM25.search(query, DEPTH)]


def print_title(text: str) -> None:
    """Print the title of a section."""
    print(f"\n\n{text}\n{'=' * len(text)}\n")


def print_row(rank: int, score: float, note: str, id: str, relevant: list[str]) -> None:
    """Print one passage of a ranking, with a star if people found the answer in it."""
    mark = "*" if id in relevant else " "
    print(f"    {mark} {rank:2}  {score:7.3f}  {note:6}  {textwrap.shorten(TEXTS[id], 90, placeholder=' ...')}")


def print_question(question: dict, candidates: list[Candidate], ranking: Ranking) -> None:
    """Print a question with its best three passages before and after reranking."""
    bm25_ranks = {candidate.id: rank for rank, candidate in enumerate(candidates, start=1)}
    print(f"  {question['text']}")
    print("    before, by BM25:")
    for rank, candidate in enumerate(candidates[:3], start=1):
        print_row(rank, candidate.score, "", candidate.id, question["relevant"])
    print("    after, by embedded:")
    for hit in ranking.top(3):
        print_row(hit.rank, hit.score, f"was {bm25_ranks[hit.id]:2}", hit.id, question["relevant"])
    orders = ([*bm25_ranks], [hit.id for hit in ranking])
    before, after = (first_relevant_rank(ids, question["relevant"]) for ids in orders)
    move = f"rank {before} -> {after}" if before else f"not among the {DEPTH} of BM25, so no reranker can find it"
    print(f"    The passage with the answer (*): {move}.  ({ranking.trace.seconds * 1000:.0f} ms)\n")


def rerank_directly(reranker: rag_rerank.Reranker, sample: list[dict]) -> list[tuple[int | None, int | None]]:
    """Rerank all questions, print some, and return the judged passage's rank before and after for each."""
    ranks, counts = [], {"any": 0, "not first": 0}
    for question in sample:
        candidates = first_stage_hits(question["text"])
        ranking = reranker.rerank(question["text"], candidates)
        orders = ([candidate.id for candidate in candidates], [hit.id for hit in ranking])
        before, after = (first_relevant_rank(ids, question["relevant"]) for ids in orders)
        kind = "any" if counts["any"] < 2 else "not first"
        if counts[kind] < 2 and (kind == "any" or (before or 1) > 1):
            counts[kind] += 1
            print_question(question, candidates, ranking)
        ranks.append((before, after))
    return ranks


def print_chart(ranks: list[tuple[int | None, int | None]]) -> None:
    """Print how many judged passages stood at each rank, before and after reranking; a full bar is all of them."""
    groups = [(1, 1), (2, 2), (3, 3), (4, 5), (6, 10), (11, DEPTH)]
    rows = [(f"{low}" if low == high else f"{low}-{high}", range(low, high + 1)) for low, high in groups]
    print(f"    {'rank':>6}   {'before, by BM25':43} after, by embedded")
    for label, places in rows:
        before, after = (sum(rank in places for rank in column) for column in zip(*ranks, strict=True))
        bars = ["#" * ceil(40 * count / len(ranks)) for count in (before, after)]
        print(f"    {label:>6}   {before:2} {bars[0]:40} {after:2} {bars[1]}".rstrip())


def main() -> None:
    """Run the demo."""
    sample = questions()[:QUESTIONS]
    print_title(f"1  Rerank: BM25 finds {DEPTH} of {len(TEXTS):,} passages of Wikipedia, embedded puts them in order")
    print("  embedded is the small model that ships with the package: no download, no key, no torch.")
    print("  You see the first two questions of the file, whatever comes out, and then the first two whose answer BM25")
    print("  finds, but not at rank 1. A star (*) marks a passage in which people found the answer.")
    print("  Each line has rank, score, rank before, and the beginning of the passage.\n")
    reranker = rag_rerank.build("embedded")
    reranker.warm_up()
    ranks = rerank_directly(reranker, sample)
    both = [(before, after) for before, after in ranks if before and after]
    up, down = sum(after < before for before, after in both), sum(after > before for before, after in both)
    mean = [sum(1 / rank for rank in column if rank) / len(ranks) for column in zip(*ranks, strict=True)]
    print(f"  The first {len(ranks)} questions: at which rank the passage with the answer stands.\n")
    print_chart(ranks)
    print(f"\n  It moved up in {up} questions, down in {down}, and kept its rank in {len(both) - up - down}.")
    print(f"  In {len(ranks) - len(both)}, BM25 did not find it among its {DEPTH}.")
    print(f"  Mean reciprocal rank (1 means: always first): {mean[0]:.3f} before, {mean[1]:.3f} after.")
    print(
        "\n  Scores order the passages of one question. They are no probabilities: 0.24 for a perfect answer is normal."
    )
    print("  Other models and other texts give other results: measure on yours (docs/how-to/evaluate.md).")

    question = max(zip(ranks, sample, strict=True), key=lambda pair: pair[0][0] or 0)[1]
    query, candidates = question["text"], first_stage_hits(question["text"])
    direct = [hit.id for hit in reranker.rerank(query, candidates, top_k=3)]
    print(f"\n  Parts 2 to 4 use the question whose answer BM25 ranks lowest:\n  {query}")

    print_title("2  The same in LlamaIndex: RagRerank is a node postprocessor")
    nodes = [NodeWithScore(node=TextNode(id_=c.id, text=c.text), score=c.score) for c in candidates]
    reranked = RagRerank("embedded", top_k=3).postprocess_nodes(nodes, query_str=query)
    for rank, node in enumerate(reranked, start=1):
        print_row(rank, node.score, "", node.node_id, question["relevant"])
    print(f"  The same order as in part 1: {[node.node_id for node in reranked] == direct}")

    print_title("3  The same in LangChain: RagRerankRetriever goes around any retriever")
    first_stage = RunnableLambda(lambda query: [Document(c.text, id=c.id) for c in first_stage_hits(query)])
    documents = RagRerankRetriever(base_retriever=first_stage, reranker="embedded", top_k=3).invoke(query)
    for rank, document in enumerate(documents, start=1):
        print_row(rank, document.metadata["relevance_score"], "", document.id, question["relevant"])
    print(f"  The same order as in part 1: {[document.id for document in documents] == direct}")

    print_title("4  To change the reranker, change one word in a file")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rerank.yaml"
        for word in ("embedded", "lexical"):
            file.write_text(f"type: {word}\n")
            ranking = rag_rerank.load(file).rerank(query, candidates, top_k=1)
            print(f"  type: {word:20} scale of the scores: {ranking.scale}")
            print_row(1, ranking[0].score, "", ranking[0].id, question["relevant"])
    print('  type: cohere:rerank-v3.5   needs the environment variable CO_API_KEY, and the extra "cohere"')
    print('  type: voyage:rerank-2.5    needs the environment variable VOYAGE_API_KEY, and the extra "voyage"')
    print("  type: minilm               downloads a model at its first use, or before with: rag-rerank pull minilm")
    print("\n  (lexical is BM25 over the candidates, without a model: a baseline, not a recommendation.)")

    print_title("Where to go on")
    print("  README.md         ten lines each for Python, LlamaIndex and LangChain")
    print("  docs/tutorial.md  from nothing to a reranked RAG system in ten minutes")
    print("  cookbook/         nine notebooks with charts")


if __name__ == "__main__":
    main()
