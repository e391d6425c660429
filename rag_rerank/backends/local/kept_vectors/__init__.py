"""Vectors of texts that are made once and kept: rows, stores, and calls that need only what is not kept yet."""
