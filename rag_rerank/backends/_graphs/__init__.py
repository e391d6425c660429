"""Faster ONNX graphs for known encoders: the same numbers from fewer and better operators."""
