"""PyTorch models: checkpoints, packed attention, causal models and their prompts, late interaction."""
