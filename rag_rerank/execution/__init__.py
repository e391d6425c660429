"""How one call runs: plans, drivers, deadlines, traces and observers. Knows rerankers by their protocol only."""
