"""Whether the servers that a config names can be reached, have something at its path, and agree with the local clock.

Each gets one request without texts and without the key, so that nothing is billed: a server that answers 401 or 422 is
there. A server of one's own that says what it serves is asked that too, as before each call.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from statistics import median
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rag_rerank._lazy import need
from rag_rerank.backends.api.message_redaction import mask_random_runs
from rag_rerank.diagnostics.health.finding import Finding, Level, Subject, error_finding, error_text
from rag_rerank.errors import MissingExtraError, RerankError
from rag_rerank.execution.clock import now, start_thread, wait_for_any

if TYPE_CHECKING:
    from rag_rerank.backends.api.base import ApiReranker

__all__ = ["check_clock", "check_servers"]

_EARLIEST = 1_735_689_600.0
"""Start of 2025, before the first release: a clock before that is wrong."""

_SKEW, _LARGE_SKEW = 60.0, 300.0
"""Seconds from which on a clock is worth a warning, and from which on signed requests are refused (AWS: 5 minutes)."""

_ABSENT = (404, 405, 410)
_GATEWAY = (502, 503, 504)
_PAGE = "how-to/servers/"


@dataclass(frozen=True)
class _Outcome:
    """What became of the question to one server."""

    findings: tuple[Finding, ...]
    skew: float | None = None


def check_servers(subject: Subject) -> Iterator[Finding]:
    """Yield whether each server of the config answers, and what the clock says beside theirs.

    Servers are asked at the same time, and none is waited for longer than ``timeout`` and a half.
    """
    parts = subject.api_parts
    if parts:
        try:
            need("httpx", extra="http")  # before the time counts
        except MissingExtraError as error:
            yield error_finding("server", "servers", error, level="warning")
            parts = []
    outcomes: list[Future[_Outcome]] = [start_thread(partial(_ask, part, subject)) for part in parts]
    end = now() + 1.5 * subject.timeout
    while (remaining := end - now()) > 0 and (pending := [one for one in outcomes if not one.done()]):
        wait_for_any(pending, remaining)
    skews = []
    for part, outcome in zip(parts, outcomes, strict=True):
        if not outcome.done():
            yield _silent(part.label, subject.timeout)
            continue
        yield from outcome.result().findings
        if (skew := outcome.result().skew) is not None:
            skews.append(skew)
    yield check_clock(subject.wall_clock(), skews)


def check_clock(time: float, skews: list[float]) -> Finding:
    """Return whether the clock is right.

    Args:
        time: What it says, in seconds since 1970.
        skews: How many seconds it is ahead of each server that was asked.
    """
    advice = "set the clock by NTP; a container has the clock of its host"
    if time < _EARLIEST:
        what = "it is before 2025, so that certificates and signatures are refused"
        return Finding("clock", "problem", "clock", what, advice)
    if not skews:
        return Finding("clock", "ok", "clock", "no server was asked for the time; the year is plausible")
    skew = median(skews)
    what = f"it is {abs(skew):,.0f} s {'ahead of' if skew > 0 else 'behind'} the servers"
    if abs(skew) > _LARGE_SKEW:
        return Finding("clock", "problem", "clock", f"{what}, so that signed requests are refused", advice)
    if abs(skew) > _SKEW:
        return Finding("clock", "warning", "clock", what, advice)
    return Finding("clock", "ok", "clock", "it agrees with the servers to within a minute")


def _ask(part: ApiReranker, subject: Subject) -> _Outcome:
    """Ask one server."""
    from rag_rerank.backends.api.http_transport import HttpRequest, new_client, send

    label = part.label
    try:
        url = part.endpoint
        if url is None:
            return _Outcome((Finding("server", "ok", label, "its address is not known here, and was not tried"),))
        client = new_client(url, label)
    except RerankError as error:
        return _Outcome((error_finding("server", label, error),))
    try:
        begin = subject.wall_clock()
        response = send(client, HttpRequest("POST", url, content={}), subject.timeout)
        middle = (begin + subject.wall_clock()) / 2
    except Exception as error:  # of httpx, and of what is below it
        return _Outcome((_describe_failure(label, url, error, subject.timeout),))
    finally:
        client.close()
    finding = _describe_answer(part, url, response.status, str(response.headers.get("content-type", "")))
    findings = (finding, *_ask_for_model(part)) if finding.level == "ok" else (finding,)
    return _Outcome(findings, _skew(middle, str(response.headers.get("date", ""))))


def _ask_for_model(part: ApiReranker) -> Iterator[Finding]:
    """Yield what is wrong with the model that a server says it has; only the type ``http`` asks servers that."""
    if part.kind != "http":
        return
    try:
        part.warm_up()
    except RerankError as error:
        yield error_finding("server", part.label, error)
    finally:
        part.close()


def _describe_answer(part: ApiReranker, url: str, status: int, content_type: str) -> Finding:
    label, host, path = part.label, _host(url), mask_random_runs(urlsplit(url).path)
    is_own_address = part.base_url is not None or bool(getattr(part, "path", None))
    if status in _ABSENT:
        advice = "correct base_url, or path: the type adds its own path to base_url"
        level: Level = "problem" if is_own_address else "warning"
        return Finding(
            "server", level, label, f"{host} answered {status}: nothing takes requests at {path}", advice, _PAGE
        )
    if 300 <= status < 400:
        advice = "name the final address in base_url; redirects are not followed, because a key would go along"
        return Finding("server", "problem", label, f"{host} answered {status}, a redirect", advice, _PAGE)
    if status == 407:
        return _proxy_refusal(label)
    if status in _GATEWAY:
        advice = "look whether the server has started, and at its log"
        return Finding(
            "server", "problem", label, f"{host} answered {status}: nothing behind it answers", advice, _PAGE
        )
    if status < 300 and "html" in content_type:
        advice = "look at the address in a browser; perhaps the network wants a login first"
        return Finding("server", "problem", label, f"{host} answered with a web page", advice, _PAGE)
    return Finding("server", "ok", label, f"{host} can be reached")


def _describe_failure(label: str, url: str, error: Exception, timeout: float) -> Finding:
    host = _host(url)
    causes = list(_chain(error))
    names = {type(cause).__name__ for cause in causes}
    text = " ".join(str(cause) for cause in causes)
    if "ProxyError" in names:
        return _proxy_refusal(label)
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        what, advice = (
            f"no address is known for {host}",
            "correct the host in base_url, or look at the DNS of the network",
        )
    elif "CERTIFICATE_VERIFY_FAILED" in text:
        reason = next((str(c.verify_message) for c in causes if isinstance(c, ssl.SSLCertVerificationError)), "")
        what = f"the certificate of {host} is not trusted{f' ({reason})' if reason else ''}"
        advice = "name the certificate of your network's authority in SSL_CERT_FILE; look at the clock"
    elif any(isinstance(cause, ssl.SSLError) for cause in causes):
        what, advice = f"{host} does not speak TLS", "write http:// in base_url, or name the port that speaks TLS"
    elif any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        what, advice = (
            f"{host} refuses the connection",
            "start the server, or correct the host and the port in base_url",
        )
    elif any("Timeout" in name for name in names):
        return _silent(label, timeout, host)
    else:
        what = f"{host} cannot be reached ({error_text(error)})"
        advice = "look at the address and at the network"
    return Finding("server", "problem", label, what, advice, _PAGE)


def _silent(label: str, timeout: float, host: str = "it") -> Finding:
    advice = "look at the network, its firewall and its proxy; give a longer --timeout if the server is slow"
    return Finding("server", "problem", label, f"{host} gave no answer in {timeout:g} s", advice, _PAGE)


def _proxy_refusal(label: str) -> Finding:
    what = "the proxy of the environment refuses the request"
    advice = "correct user and password in HTTPS_PROXY, or list the host in NO_PROXY"
    return Finding("server", "problem", label, what, advice, _PAGE)


def _skew(time: float, date: str) -> float | None:
    """Return how many seconds the clock is ahead of a server's ``Date``; ``None`` where it gives none."""
    try:
        return time - parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"
