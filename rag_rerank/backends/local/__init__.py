"""What the rerankers with a model on this machine share: model files, pair encoding, workers."""
