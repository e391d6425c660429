"""Maps fitted on judged queries: from scores to probabilities of relevance, and to that of any answer."""
