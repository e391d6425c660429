"""The browser fixtures of `support.browser`."""

from support.browser import chromium, look

__all__ = ["chromium", "look"]
