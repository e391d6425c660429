"""The systems that are compared: their names, environments, settings and requirements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LOADERS = "benchmarks.speed.loaders"


@dataclass(frozen=True, kw_only=True)
class System:
    """One system.

    Args:
        title: Its name in tables.
        environment: The environment it runs in.
        loader: ``module:function`` that loads it, called in that environment.
        settings: Keywords for the loader.
        prepare: ``module:function`` that writes, once for each checkpoint, a file that only this system needs.
        requirements: What a user installs for it; empty where another system has the same.
        caches: Whether it caches something on disk, so that its first start differs from later ones.
    """

    title: str
    environment: str
    loader: str
    settings: dict[str, Any] = field(default_factory=dict)
    prepare: str | None = None
    requirements: tuple[str, ...] = ()
    caches: bool = False


SYSTEMS: dict[str, System] = {
    "ours": System(
        title="rag-rerank, fp32",
        environment="ours",
        loader=f"{LOADERS}:ours",
        requirements=("rag-rerank",),
        caches=True,
    ),
    "ours-int8": System(
        title="rag-rerank, int8",
        environment="ours",
        loader=f"{LOADERS}:ours",
        settings={"precision": "int8"},
        caches=True,
    ),
    "st": System(
        title="sentence-transformers, default",
        environment="torch",
        loader=f"{LOADERS}:sentence_transformers",
        requirements=("sentence-transformers",),
    ),
    "st-best": System(
        title="sentence-transformers, best batch",
        environment="torch",
        loader=f"{LOADERS}:sentence_transformers",
    ),
    "st-onnx": System(
        title="sentence-transformers, ONNX",
        environment="torch-onnx",
        loader=f"{LOADERS}:sentence_transformers",
        settings={"backend": "onnx", "file": "onnx/model.onnx"},
        requirements=("sentence-transformers", "optimum-onnx[onnxruntime]"),
    ),
    "st-onnx-int8": System(
        title="sentence-transformers, ONNX dynamic int8",
        environment="torch-onnx",
        loader=f"{LOADERS}:sentence_transformers",
        settings={"backend": "onnx", "file": "onnx/model_quint8_avx2.onnx"},
        prepare=f"{LOADERS}:quantised_onnx",
    ),
    "st-openvino": System(
        title="sentence-transformers, OpenVINO",
        environment="torch-openvino",
        loader=f"{LOADERS}:sentence_transformers",
        settings={"backend": "openvino", "file": "openvino/openvino_model.xml"},
        prepare=f"{LOADERS}:openvino_file",
        requirements=("sentence-transformers", "optimum-intel", "openvino"),
    ),
    "flashrank": System(
        title="FlashRank, on the fp32 file",
        environment="light",
        loader=f"{LOADERS}:flashrank",
        requirements=("flashrank",),
    ),
    "fastembed": System(
        title="fastembed",
        environment="light",
        loader=f"{LOADERS}:fastembed",
        requirements=("fastembed",),
    ),
    "rerankers": System(
        title="rerankers",
        environment="torch",
        loader=f"{LOADERS}:rerankers",
        requirements=("rerankers[transformers]",),
    ),
}

REFERENCE = System(
    title="torch fp32, one input at a time",
    environment="torch",
    loader=f"{LOADERS}:sentence_transformers",
    settings={"batch": 1},
)
"""The reference for scores: nothing is padded and nothing is fused."""
