"""What the rerankers behind an API share: requests, limits, retries, prices and wire formats."""
