"""Training examples: read, split, checked for leaks, and completed with hard negatives."""
