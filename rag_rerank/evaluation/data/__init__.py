"""Judged queries: read from files in every common form, with what was amiss, and written again."""
