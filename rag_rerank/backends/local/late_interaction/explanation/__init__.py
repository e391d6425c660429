"""Which token of a text answers which token of a query, and what that adds to the score."""
