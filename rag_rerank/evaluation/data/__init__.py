"""Judged queries: read from every common format, with a count of the problems, and written back."""
