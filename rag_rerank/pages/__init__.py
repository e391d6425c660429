"""Self-contained HTML reports, made from plain dictionaries."""
