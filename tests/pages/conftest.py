"""The browser fixtures of `support.pages.browser`."""

from support.pages.browser import chromium, look

__all__ = ["chromium", "look"]
