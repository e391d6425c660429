"""Fast ONNX graphs that are run in place of a model's own: written, compared, quantised, and cached."""
