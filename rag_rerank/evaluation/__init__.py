"""Whether reranking helps on judged queries: measures, comparison, slices, and a verdict."""
