"""The demo: BM25 finds, the embedded model reranks; directly, in LlamaIndex, in LangChain, and from a config file.

    python cookbook/demo.py

Needs no network, no key and no torch. The passages and questions are real (see data/README.md).
"""

import tempfile
import textwrap
from pathlib import Path

from corpus import Bm25, chunks, questions
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


def first_relevant_rank(ids: list[str], relevant: list[str]) -> int | None:
    """Return the rank, from 1, of the first passage that was judged relevant."""
    return next((rank for rank, id in enumerate(ids, start=1) if id in relevant), None)


def print_title(text: str) -> None:
    """Print the title of a section."""
    print(f"\n\n{text}\n{'=' * len(text)}\n")


def print_row(rank: int, score: float, note: str, id: str, relevant: list[str]) -> None:
    """Print one passage of a ranking, with a star if it was judged relevant."""
    mark = "*" if id in relevant else " "
    print(f"    {mark} {rank}  {score:7.3f}  {note:17}  {textwrap.shorten(TEXTS[id], 80, placeholder=' ...')}")


def print_question(question: dict, candidates: list[Candidate], ranking: Ranking) -> None:
    """Print a question with its best three passages before and after reranking."""
    bm25_ranks = {candidate.id: rank for rank, candidate in enumerate(candidates, start=1)}
    print(f"  {question['text']}")
    print("    before: BM25")
    for rank, candidate in enumerate(candidates[:3], start=1):
        print_row(rank, candidate.score, "", candidate.id, question["relevant"])
    print(f"    after: embedded ({ranking.scale})")
    for hit in ranking.top(3):
        percent = hit.coverage.seen * 100 // hit.coverage.total
        print_row(hit.rank, hit.score, f"was {bm25_ranks[hit.id]:2}, read {percent}%", hit.id, question["relevant"])
    orders = ([*bm25_ranks], [hit.id for hit in ranking])
    before, after = (first_relevant_rank(ids, question["relevant"]) for ids in orders)
    move = f"{before} -> {after}" if before else f"not among the {DEPTH} that BM25 found, so no reranker can show it"
    print(f"    judged passage (*): {move};  {len(ranking)} passages in {ranking.trace.seconds * 1000:.0f} ms\n")


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


def main() -> None:
    """Run the demo."""
    sample = questions()[:QUESTIONS]
    print_title(f"1  Directly: BM25 finds {DEPTH} of {len(TEXTS):,} Wikipedia passages, embedded reranks them")
    print("  You see the first two questions of the file, whatever their result. Then you see the first two questions")
    print("  whose judged passage BM25 found, but not at rank 1.\n")
    reranker = rag_rerank.build("embedded")
    reranker.warm_up()
    ranks = rerank_directly(reranker, sample)
    both = [(before, after) for before, after in ranks if before and after]
    up, down = sum(after < before for before, after in both), sum(after > before for before, after in both)
    mean = [sum(1 / rank for rank in column if rank) / len(ranks) for column in zip(*ranks, strict=True)]
    same, absent = len(both) - up - down, len(ranks) - len(both)
    print(f"  The first {len(ranks)} questions: the judged passage moved up in {up}, moved down in {down}, kept its")
    print(f"  rank in {same}, and was not found by BM25 in {absent}.")
    print(f"  Mean reciprocal rank {mean[0]:.3f} -> {mean[1]:.3f}.")
    print("\n  How to read this: embedded is a small model. It compares words in their context and was not trained on")
    print("  judged pairs. docs/explanation/embedded-model.md has its figures. Measure on your own text.")

    question = max(zip(ranks, sample, strict=True), key=lambda pair: pair[0][0] or 0)[1]
    query, candidates = question["text"], first_stage_hits(question["text"])
    direct = [hit.id for hit in reranker.rerank(query, candidates, top_k=3)]
    print(f"\n  The next sections use the question whose judged passage BM25 ranked lowest:\n  {query}")

    print_title("2  The same in LlamaIndex: RagRerank as a node postprocessor")
    nodes = [NodeWithScore(node=TextNode(id_=c.id, text=c.text), score=c.score) for c in candidates]
    reranked = RagRerank("embedded", top_k=3).postprocess_nodes(nodes, query_str=query)
    for rank, node in enumerate(reranked, start=1):
        print_row(rank, node.score, node.node_id, node.node_id, question["relevant"])
    print(f"  same order as directly: {[node.node_id for node in reranked] == direct}")

    print_title("3  The same in LangChain: RagRerankRetriever around any retriever")
    first_stage = RunnableLambda(lambda query: [Document(c.text, id=c.id) for c in first_stage_hits(query)])
    documents = RagRerankRetriever(base_retriever=first_stage, reranker="embedded", top_k=3).invoke(query)
    for rank, document in enumerate(documents, start=1):
        print_row(rank, document.metadata["relevance_score"], document.id, document.id, question["relevant"])
    print(f"  same order as directly: {[document.id for document in documents] == direct}")

    print_title("4  To change the reranker, change one word in a file")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rerank.yaml"
        for word in ("embedded", "lexical"):
            file.write_text(f"type: {word}\n")
            ranking = rag_rerank.load(file).rerank(query, candidates, top_k=1)
            print(f"  type: {word:20} scale {ranking.scale}")
            print_row(1, ranking[0].score, ranking[0].id, ranking[0].id, question["relevant"])
    print('  type: cohere:rerank-v3.5   needs CO_API_KEY and: pip install "rag-rerank[cohere]"')
    print('  type: voyage:rerank-2.5    needs VOYAGE_API_KEY and: pip install "rag-rerank[voyage]"')
    print("  type: minilm               downloads the model at first use, or with: rag-rerank pull minilm")


if __name__ == "__main__":
    main()
