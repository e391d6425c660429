"""The demo: BM25 finds, the embedded cross-encoder reranks; directly, in LlamaIndex, in LangChain, by config.

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
"""How many passages BM25 hands to the reranker."""

COUNTED = 60
"""Over how many questions the demo counts what the reranker did."""

TEXTS = chunks()
BM25 = Bm25(TEXTS)


def found(query: str) -> list[Candidate]:
    """Run the first stage."""
    return [Candidate(id, TEXTS[id], score) for id, score in BM25.search(query, DEPTH)]


def place(ids: list[str], relevant: list[str]) -> int | None:
    """Return the rank of the first passage that is judged relevant, from 1."""
    return next((rank for rank, id in enumerate(ids, start=1) if id in relevant), None)


def title(text: str) -> None:
    print(f"\n\n{text}\n{'=' * len(text)}\n")


def row(rank: int, score: float, rest: str, id: str, relevant: list[str]) -> None:
    mark = "*" if id in relevant else " "
    print(f"    {mark} {rank}  {score:7.3f}  {rest:15}  {textwrap.shorten(TEXTS[id], 80, placeholder=' ...')}")


def show(question: dict, candidates: list[Candidate], ranking: Ranking) -> None:
    was = {candidate.id: rank for rank, candidate in enumerate(candidates, start=1)}
    print(f"  {question['text']}")
    print("    before: BM25")
    for rank, candidate in enumerate(candidates[:3], start=1):
        row(rank, candidate.score, "", candidate.id, question["relevant"])
    print(f"    after: embedded ({ranking.scale})")
    for hit in ranking.top(3):
        read = f"read {hit.coverage.seen * 100 // hit.coverage.total}%"
        row(hit.rank, hit.score, f"was {was[hit.id]:2}, {read}", hit.id, question["relevant"])
    before, after = (place(ids, question["relevant"]) for ids in ([*was], [hit.id for hit in ranking]))
    moved = f"{before} -> {after}" if before else f"not among the {DEPTH} that BM25 found, so no reranker can show it"
    print(f"    judged passage (*): {moved};  {len(ranking)} passages in {ranking.trace.seconds * 1000:.0f} ms\n")


def directly(reranker: rag_rerank.Reranker, asked: list[dict]) -> list[tuple[int | None, int | None]]:
    """Rerank all questions, show some, and return each judged passage's place before and after."""
    places, shown = [], {"blind": 0, "not first": 0}
    for question in asked:
        candidates = found(question["text"])
        ranking = reranker.rerank(question["text"], candidates)
        before, after = (place([x.id for x in order], question["relevant"]) for order in (candidates, ranking))
        kind = "blind" if shown["blind"] < 2 else "not first"
        if shown[kind] < 2 and (kind == "blind" or (before or 1) > 1):
            shown[kind] += 1
            show(question, candidates, ranking)
        places.append((before, after))
    return places


def main() -> None:
    asked = questions()[:COUNTED]
    title(f"1  Directly: {len(TEXTS):,} Wikipedia passages, BM25 finds {DEPTH}, the embedded cross-encoder reranks")
    print("  Shown: the first two questions of the file, whatever comes out, then the first two whose judged passage")
    print("  BM25 found, but not at rank 1.\n")
    reranker = rag_rerank.build("embedded")
    reranker.warm_up()
    places = directly(reranker, asked)
    both = [(before, after) for before, after in places if before and after]
    up, down = sum(after < before for before, after in both), sum(after > before for before, after in both)
    mean = [sum(1 / p for p in column if p) / len(places) for column in zip(*places, strict=True)]
    print(f"  The first {len(places)} questions: the judged passage moved up in {up}, down in {down}, stayed in")
    print(f"  {len(both) - up - down}, and was not found by BM25 in {len(places) - len(both)}.")
    print(f"  Mean reciprocal rank {mean[0]:.3f} -> {mean[1]:.3f}.")
    print("\n  What that says and what not: embedded is a small model, which compares words in their context and was")
    print("  trained on no judgments. docs/models.md has figures. Measure on text of your own.")

    question = max(zip(places, asked, strict=True), key=lambda pair: pair[0][0] or 0)[1]
    query, candidates = question["text"], found(question["text"])
    direct = [hit.id for hit in reranker.rerank(query, candidates, top_k=3)]
    print(f"\n  From here on one question, the one whose judged passage BM25 found lowest:\n  {query}")

    title("2  The same in LlamaIndex: RagRerank as a node postprocessor")
    nodes = [NodeWithScore(node=TextNode(id_=c.id, text=c.text), score=c.score) for c in candidates]
    ranked = RagRerank("embedded", top_n=3).postprocess_nodes(nodes, query_str=query)
    for rank, node in enumerate(ranked, start=1):
        row(rank, node.score, node.node_id, node.node_id, question["relevant"])
    print(f"  same order as directly: {[node.node_id for node in ranked] == direct}")

    title("3  The same in LangChain: RagRerankRetriever around any retriever")
    first_stage = RunnableLambda(lambda query: [Document(c.text, id=c.id) for c in found(query)])
    documents = RagRerankRetriever(base_retriever=first_stage, reranker="embedded", k=3).invoke(query)
    for rank, document in enumerate(documents, start=1):
        row(rank, document.metadata["relevance_score"], document.id, document.id, question["relevant"])
    print(f"  same order as directly: {[document.id for document in documents] == direct}")

    title("4  Another reranker is another word in one file")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rerank.yaml"
        for word in ("embedded", "lexical"):
            file.write_text(f"type: {word}\n")
            ranking = rag_rerank.load(file).rerank(query, candidates, top_k=1)
            print(f"  type: {word:20} scale {ranking.scale}")
            row(1, ranking[0].score, ranking[0].id, ranking[0].id, question["relevant"])
    print('  type: cohere:rerank-v3.5   needs CO_API_KEY and: pip install "rag-rerank[cohere]"')
    print('  type: voyage:rerank-2.5    needs VOYAGE_API_KEY and: pip install "rag-rerank[voyage]"')
    print("  type: minilm               is fetched from the hub at first use, or by: rag-rerank pull minilm")


if __name__ == "__main__":
    main()
