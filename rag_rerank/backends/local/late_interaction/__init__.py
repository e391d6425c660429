"""Late interaction: the token vectors of each text are made once and kept, and a query is compared with them."""
