"""Decision models as rerankers: who serves them, what they are asked, in which requests, and what an answer says."""
