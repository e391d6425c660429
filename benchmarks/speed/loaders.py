"""Load each system, and rank with it through its own public interface. Each function runs in the system's environment,
so packages are imported inside; threads and batch sizes are the defaults, unless the settings say otherwise.

Every scorer returns logits in the order of the texts, whatever the system itself returns.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Score = Callable[[str, list[str]], list[float]]
Undo = Callable[[], None]


@dataclass(frozen=True)
class Loaded:
    """A loaded system.

    Args:
        score: Ranks and returns the logits.
        watch: Starts to append the token slots of each batch, padding included, to a list; returns how to stop.
        ascore: The same as ``score`` for asyncio, where the system has it.
    """

    score: Score
    watch: Callable[[list[int]], Undo]
    ascore: Callable[[str, list[str]], Awaitable[list[float]]] | None = None


def ours(folder: Path, **settings: Any) -> Loaded:
    import rag_rerank

    reranker = rag_rerank.build({"type": "onnx", "model": str(folder), **settings})
    reranker.warm_up()

    def logits(ranking: rag_rerank.Ranking) -> list[float]:
        # a plain string gets its position as id
        return [score for _, score in sorted((int(hit.id), hit.raw_score or 0.0) for hit in ranking)]

    async def ascore(query: str, texts: list[str]) -> list[float]:
        return logits(await reranker.arerank(query, texts))

    return Loaded(lambda query, texts: logits(reranker.rerank(query, texts)), _session_runs, ascore)


def sentence_transformers(
    folder: Path, batch: int | None = None, backend: str = "torch", file: str | None = None
) -> Loaded:
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity

    model = CrossEncoder(
        str(folder),
        backend=backend,  # type: ignore[arg-type]
        device="cpu",
        activation_fn=Identity(),
        model_kwargs={"file_name": file} if file else None,
    )
    batch_option = {} if batch is None else {"batch_size": batch}

    def score(query: str, texts: list[str]) -> list[float]:
        ranking = model.rank(query, texts, show_progress_bar=False, **batch_option)
        return [float(row["score"]) for row in sorted(ranking, key=lambda row: row["corpus_id"])]

    def watch(slots: list[int]) -> Undo:
        return _module_calls(model, slots)

    return Loaded(score, watch)


def quantised_onnx(folder: Path) -> None:
    """Make the file of ``st-onnx-int8`` by sentence-transformers' own export, for AVX2."""
    from sentence_transformers import CrossEncoder, export_dynamic_quantized_onnx_model

    if not (folder / "onnx" / "model_quint8_avx2.onnx").is_file():
        model = CrossEncoder(str(folder), backend="onnx", device="cpu", model_kwargs={"file_name": "onnx/model.onnx"})
        export_dynamic_quantized_onnx_model(model, "avx2", str(folder))


def openvino_file(folder: Path) -> None:
    """Make OpenVINO's fp32 file from the ONNX one."""
    import openvino

    file = folder / "openvino" / "openvino_model.xml"
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        openvino.save_model(openvino.convert_model(folder / "onnx" / "model.onnx"), file, compress_to_fp16=False)


def flashrank(folder: Path) -> Loaded:
    """FlashRank finds models by name: the folder is entered in its list, and its parent is the cache."""
    from flashrank import Ranker, RerankRequest
    from flashrank.Config import model_file_map

    model_file_map[folder.name] = "onnx/model.onnx"
    ranker = Ranker(model_name=folder.name, cache_dir=str(folder.parent), log_level="ERROR")

    def score(query: str, texts: list[str]) -> list[float]:
        passages = [{"id": i, "text": text} for i, text in enumerate(texts)]
        ranking = ranker.rerank(RerankRequest(query=query, passages=passages))
        probabilities = [float(row["score"]) for row in sorted(ranking, key=lambda row: row["id"])]
        return [math.log(p / (1 - p)) if 0 < p < 1 else math.copysign(math.inf, p - 0.5) for p in probabilities]

    return Loaded(score, _session_runs)


def fastembed(folder: Path) -> Loaded:
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    name = f"local/{folder.name}"
    TextCrossEncoder.add_custom_model(name, sources=ModelSource(hf=name), model_file="onnx/model.onnx")
    encoder = TextCrossEncoder(name, specific_model_path=str(folder))
    return Loaded(lambda query, texts: [float(score) for score in encoder.rerank(query, texts)], _session_runs)


def rerankers(folder: Path) -> Loaded:
    from rerankers import Reranker

    ranker: Any = Reranker(str(folder), model_type="cross-encoder", device="cpu", verbose=0)

    def score(query: str, texts: list[str]) -> list[float]:
        ranking = ranker.rank(query, texts, doc_ids=list(range(len(texts))))
        return [float(row.score) for row in sorted(ranking.results, key=lambda row: row.document.doc_id)]

    def watch(slots: list[int]) -> Undo:
        return _module_calls(ranker.model, slots)

    return Loaded(score, watch)


def _session_runs(slots: list[int]) -> Undo:
    """Record the size of the first input of every ONNX Runtime call of this process."""
    from onnxruntime import InferenceSession

    run = InferenceSession.run

    def record(session: Any, names: Any, feed: Any, *rest: Any, **more: Any) -> Any:
        slots.append(int(feed["input_ids"].size))
        return run(session, names, feed, *rest, **more)

    InferenceSession.run = record
    return lambda: setattr(InferenceSession, "run", run)


def _module_calls(module: Any, slots: list[int]) -> Undo:
    """Record the size of ``input_ids`` of every call of a torch module, given as a keyword or in a mapping."""

    def record(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        features = kwargs if "input_ids" in kwargs else args[0]
        slots.append(features["input_ids"].numel())

    return module.register_forward_pre_hook(record, with_kwargs=True).remove  # type: ignore[no-any-return]
