"""Ask a running server with clients that others wrote, and print how many of them got the server's order.

    rag-rerank serve -r embedded --port 8080
    python benchmarks/server_clients.py http://127.0.0.1:8080

Each client that is installed is asked; ``pip install cohere voyageai mixedbread infinity-client langchain-cohere
langchain-voyageai llama-index-postprocessor-cohere-rerank llama-index-postprocessor-jinaai-rerank
llama-index-postprocessor-tei-rerank typesafe-sdk`` installs them all, best in an environment of its own, because some
want an older cohere than this project. What a plain request to ``/v2/rerank`` gets is the order that all must get.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from typing import Any
from urllib.request import Request, urlopen

QUERY = "how tall is K2?"
TEXTS = [
    "Lake Garda is 346 m deep.",
    "K2 was first climbed in 1954.",
    "K2 is 8,611 m high.",
    "The height of a mountain is measured from sea level.",
]
TOP = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    url = parser.parse_args().url.rstrip("/")
    os.environ["VOYAGE_API_KEY"] = "none"
    order = plain(url)
    clients: dict[str, Callable[[str], list[int]]] = {
        "cohere ClientV2": cohere_v2,
        "cohere Client (v1)": cohere_v1,
        "voyageai Client": voyage,
        "mixedbread": mixedbread,
        "infinity-client": infinity,
        "langchain-cohere CohereRerank": langchain_cohere,
        "langchain-voyageai VoyageAIRerank": langchain_voyage,
        "LlamaIndex CohereRerank": llama_index_cohere,
        "LlamaIndex JinaRerank": llama_index_jina,
        "LlamaIndex TextEmbeddingInference": llama_index_tei,
        "Open WebUI's external reranker": open_webui,
        "typesafe-sdk": typesafe,
    }
    right = asked = 0
    for name, ask in clients.items():
        try:
            answer = ask(url)
        except ImportError as error:
            print(f"{name:36} not installed ({error.name})")
            continue
        except Exception as error:
            answer, name = [], f"{name}: {type(error).__name__} {error!s:.200}"
        asked += 1
        right += answer == order
        print(f"{name:36} {'the same order' if answer == order else f'WRONG: {answer}, not {order}'}")
    print(f"{right} of {asked} clients got the server's order")
    return int(right != asked)


def plain(url: str) -> list[int]:
    """Return the order that a plain request gets."""
    body = json.dumps({"query": QUERY, "documents": TEXTS, "top_n": TOP}).encode()
    with urlopen(Request(f"{url}/v2/rerank", body, {"Content-Type": "application/json"})) as answer:
        return [row["index"] for row in json.load(answer)["results"]]


def cohere_v2(url: str) -> list[int]:
    from cohere import ClientV2

    answer = ClientV2(api_key="none", base_url=url).rerank(model="any", query=QUERY, documents=TEXTS, top_n=TOP)
    return [row.index for row in answer.results]


def cohere_v1(url: str) -> list[int]:
    from cohere import Client

    answer = Client(api_key="none", base_url=url).rerank(model="any", query=QUERY, documents=TEXTS, top_n=TOP)
    return [row.index for row in answer.results]


def voyage(url: str) -> list[int]:
    from voyageai import Client

    client: Any = Client(api_key="none", base_url=f"{url}/v1")
    return [row.index for row in client.rerank(QUERY, TEXTS, model="rerank-2.5", top_k=TOP).results]


def mixedbread(url: str) -> list[int]:
    from mixedbread import Mixedbread

    answer = Mixedbread(api_key="none", base_url=url).rerank(model="any", query=QUERY, input=TEXTS, top_k=TOP)
    return [row.index for row in answer.data]


def infinity(url: str) -> list[int]:
    from infinity_client import Client
    from infinity_client.api.default import rerank
    from infinity_client.models import RerankInput

    body = RerankInput(query=QUERY, documents=TEXTS, model="any", top_n=TOP)
    answer: Any = rerank.sync(client=Client(base_url=url), body=body)
    return [row.index for row in answer.results]


def langchain_cohere(url: str) -> list[int]:
    from langchain_cohere import CohereRerank
    from langchain_core.documents import Document

    compressor = CohereRerank(cohere_api_key="none", base_url=url, model="any", top_n=TOP)
    documents = [Document(page_content=text) for text in TEXTS]
    return [TEXTS.index(d.page_content) for d in compressor.compress_documents(documents, QUERY)]


def langchain_voyage(url: str) -> list[int]:
    from langchain_core.documents import Document
    from langchain_voyageai import VoyageAIRerank
    from voyageai import Client

    compressor = VoyageAIRerank(model="rerank-2.5", top_k=TOP, voyage_api_key="none")
    compressor.client = Client(api_key="none", base_url=f"{url}/v1")
    documents = [Document(page_content=text) for text in TEXTS]
    return [TEXTS.index(d.page_content) for d in compressor.compress_documents(documents, QUERY)]


def llama_index_cohere(url: str) -> list[int]:
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    return _with_llama_index(CohereRerank(api_key="none", base_url=url, model="any", top_n=TOP))


def llama_index_jina(url: str) -> list[int]:
    from llama_index.postprocessor.jinaai_rerank import JinaRerank

    return _with_llama_index(JinaRerank(api_key="none", base_url=f"{url}/v1", model="any", top_n=TOP))


def llama_index_tei(url: str) -> list[int]:
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    return _with_llama_index(TextEmbeddingInference(base_url=url, top_n=TOP))


def _with_llama_index(postprocessor: Any) -> list[int]:
    from llama_index.core.schema import NodeWithScore, TextNode

    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    return [TEXTS.index(n.node.get_content()) for n in postprocessor.postprocess_nodes(nodes, query_str=QUERY)]


def open_webui(url: str) -> list[int]:
    body = json.dumps({"model": "any", "query": QUERY, "documents": TEXTS, "top_n": TOP}).encode()
    headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
    with urlopen(Request(f"{url}/v1/rerank", body, headers)) as answer:
        rows = json.load(answer)["results"]
    return [row["index"] for row in sorted(rows, key=lambda row: row["relevance_score"], reverse=True)]


def typesafe(url: str) -> list[int]:
    from typesafe_sdk import Noul, TypeSafeClient

    questions = {str(i): Noul(instructions=f"Is passage {i} relevant to the query?") for i in range(len(TEXTS))}
    with TypeSafeClient(api_key="none", base_url=url) as client:
        answer = client.system_one(state={"query": QUERY, "passages": TEXTS}, questions=questions, model="any")
    return sorted(range(len(TEXTS)), key=lambda i: -answer.nouls[str(i)].noul)[:TOP]


if __name__ == "__main__":
    raise SystemExit(main())
