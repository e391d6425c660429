"""Scores kept from one call for the next, in memory or in a file."""
