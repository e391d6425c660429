"""Commands for models: list them, download them, verify their scores, convert them."""
