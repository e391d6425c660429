"""How ONNX Runtime is told to run a graph on a CPU."""

from __future__ import annotations

from typing import Any

__all__ = ["session_options"]


def session_options(threads: int, *, is_ready: bool) -> Any:
    """Return the options of a session.

    Args:
        threads: Threads within one batch; 0 for ONNX Runtime's choice.
        is_ready: Whether the graph is run as it is, without optimisation.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: they reach the user as exceptions
    options.intra_op_num_threads = threads
    options.enable_cpu_mem_arena = False  # it would keep the memory of the largest batch so far
    options.enable_mem_pattern = False  # batches have different shapes
    if is_ready:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options
