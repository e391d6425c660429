"""Records of calls: one JSON object a call, for looking back, for evaluation and for training."""
