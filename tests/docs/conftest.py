"""The site that the tests of this folder look at."""

from support.built_site import site

__all__ = ["site"]
