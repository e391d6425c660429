"""The address of the documentation: errors, warnings, the JSON Schema and the command line link to its pages."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = [
    "ANSWERABILITY",
    "BUDGET",
    "FRESHNESS",
    "INSTRUCTIONS",
    "LTR",
    "PAGES",
    "RECORDS",
    "SCORES",
    "SITE",
    "SPANS",
    "THRESHOLDS",
    "TYPES",
    "page_of_type",
    "page_url",
]

SITE = "https://rag-rerank.readthedocs.io/en/stable/"
"""Where the site is; ``site_url`` in mkdocs.yml and ``Documentation`` in pyproject.toml are the same."""

ANSWERABILITY = "how-to/answerability/"
BUDGET = "how-to/budget/"
FRESHNESS = "how-to/freshness/"
INSTRUCTIONS = "how-to/instructions/"
LTR = "how-to/ltr/"
RECORDS = "how-to/records/"
SCORES = "explanation/scores/"
SPANS = "how-to/spans/"
THRESHOLDS = "how-to/thresholds/"
"""Pages that a `ConfigError` about a part of the library links to."""

TYPES = "reference/rerankers/"
"""The page with all types."""

PAGES: Mapping[str, str] = MappingProxyType(
    {
        "AllFailed": "how-to/fallback/",
        "AuthenticationError": "how-to/providers/",
        "BackendTimeout": "explanation/reliability/",
        "BackendUnavailable": "explanation/reliability/",
        "BadResponse": "how-to/servers/",
        "BillingError": "how-to/providers/",
        "CalibrationWarning": THRESHOLDS,
        "CircuitOpen": "reference/rerankers/#breaker",
        "ConfigError": "reference/config/",
        "ContextWarning": BUDGET,
        "CostExceeded": "reference/rerankers/#limits",
        "DeadlineExceeded": "reference/rerankers/#deadline",
        "InputTooLong": "how-to/long-documents/",
        "LtrWarning": LTR,
        "MissingExtraError": "reference/rerankers/#extras",
        "ModelLoadError": "reference/models/",
        "ModelUnavailable": "reference/models/",
        "Overloaded": "explanation/reliability/",
        "RateLimited": "reference/rerankers/#limits",
        "ReadabilityWarning": "explanation/languages/",
        "RequestRejected": "how-to/providers/",
        "ScaleWarning": SCORES,
        "SubstitutionWarning": "how-to/fallback/",
        "TruncationWarning": "how-to/long-documents/",
        "UnreadableText": "explanation/languages/",
        "UnusableKey": "how-to/providers/",
        "VerificationError": "how-to/verify/",
    }
)
"""Class of an error or a warning -> the page that says more. A class that is not here has the page of its base."""


def page_url(page: str) -> str:
    """Return the address of a page of the site, such as ``"reference/rerankers/#cascade"``."""
    return SITE + page


def page_of_type(name: str) -> str:
    """Return the page about a type, or about another class of a config, with its section."""
    return f"{TYPES}#{name.lower()}"
