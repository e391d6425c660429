"""What the rerankers behind an API share: requests, limits, retries, prices, wire formats."""
