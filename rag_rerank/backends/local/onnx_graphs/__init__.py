"""Fast ONNX graphs, written anew from the weights of a model and kept on disk."""
