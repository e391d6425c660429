"""Self-contained HTML reports from plain dictionaries."""
