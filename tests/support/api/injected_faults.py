"""Faults by name: what a server can do wrong, and the error of a single attempt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from support.api.rerank_server import Action, Answer, Drip, Drop, Hang
from support.api.wire_formats import Rows

DAMAGES: Mapping[str, Callable[[Rows], Any]] = {
    "short": lambda rows: rows[1:],
    "none": lambda rows: [],
    "twice": lambda rows: [*rows, rows[0]],
    "all one": lambda rows: rows[:1] * len(rows),
    "extra": lambda rows: [*rows, {"index": len(rows), "relevance_score": 0.5}],
    "shifted": lambda rows: [{**row, "index": row["index"] - 1} for row in rows],
    "no index": lambda rows: [{"relevance_score": row["relevance_score"]} for row in rows],
    "nan": lambda rows: [{**row, "relevance_score": float("nan")} for row in rows],
    "infinite": lambda rows: [{**row, "relevance_score": float("inf")} for row in rows],
    "string": lambda rows: [{**row, "relevance_score": str(row["relevance_score"])} for row in rows],
    "null": lambda rows: [{**row, "relevance_score": None} for row in rows],
    "no score": lambda rows: [{"index": row["index"]} for row in rows],
    "no rows": lambda rows: None,
}
"""What can be wrong with the rows of an answer; each is a `BadResponse` where there are two texts."""


def _quoted(rows: Rows) -> Rows:
    return [{**row, "index": str(row["index"])} for row in rows]


HTML = "<!doctype html><html><body><h1>Sorry</h1></body></html>"
_HTML = {"content-type": "text/html"}
_DATE = "Wed, 21 Oct 2015 07:28:00 GMT"

FAULTS: Mapping[str, tuple[Action, str]] = {
    **{f"rows: {name}": (Answer(rows=damage), "BadResponse") for name, damage in DAMAGES.items()},
    "rows: index string": (Answer(rows=_quoted), "BadResponse"),
    "cut JSON": (Answer(content=lambda body: body[:-9]), "BadResponse"),
    "malformed JSON": (Answer(content=lambda body: body.replace(b":", b";", 3)), "BadResponse"),
    "two JSONs": (Answer(content=lambda body: body + body), "BadResponse"),
    "empty body": (Answer(body=b""), "BadResponse"),
    "a JSON string": (Answer(body=b'"scores"'), "BadResponse"),
    "deeply nested": (Answer(body=b"[" * 100_000), "BadResponse"),
    "no UTF-8": (Answer(body=b'{"results": "\xff\xfe"}'), "BadResponse"),
    "a page instead": (Answer(200, _HTML, HTML), "BadResponse"),
    "429": (Answer(429), "RateLimited"),
    "429, seconds": (Answer(429, {"retry-after": "2"}), "RateLimited"),
    "429, date": (Answer(429, {"retry-after": _DATE, "date": _DATE.replace("07:28:00", "07:27:58")}), "RateLimited"),
    "429, milliseconds": (Answer(429, {"retry-after-ms": "1500"}), "RateLimited"),
    "429 page": (Answer(429, _HTML, HTML), "RateLimited"),
    "500": (Answer(500), "BackendUnavailable"),
    "502 page": (Answer(502, _HTML, HTML), "BackendUnavailable"),
    "503": (Answer(503), "BackendUnavailable"),
    "504": (Answer(504), "BackendUnavailable"),
    "hang": (Hang(), "BackendTimeout"),
    "slow drip": (Drip(0.02), "BackendTimeout"),
    "dropped before": (Drop(), "BackendUnavailable"),
    "dropped midway": (Drop(midway=True), "BackendUnavailable"),
    "reset before": (Drop(reset=True), "BackendUnavailable"),
    "reset midway": (Drop(midway=True, reset=True), "BackendUnavailable"),
    "401": (Answer(401), "AuthenticationError"),
    "402": (Answer(402), "BillingError"),
    "400": (Answer(400), "RequestRejected"),
    "404 page": (Answer(404, _HTML, HTML), "RequestRejected"),
    "redirect": (Answer(307, {"location": "http://elsewhere.invalid/"}, b""), "RequestRejected"),
}
"""A fault, and the error that one attempt of a dialect ends in, for two texts (a timeout needs one of 0.2 seconds)."""
