"""Export a safetensors cross-encoder to folders that the ``onnx`` backend loads without torch.

`export` writes one folder; `write_forms` traces a model once and writes it with several kinds of weights.
"""

from rag_rerank.export.onnx_folder import ExportReport, Weights, export, write_forms

__all__ = ["ExportReport", "Weights", "export", "write_forms"]
