"""HTTP clients, and what the environment does to them: its proxies and certificates can keep a client from being made.

HTTP libraries raise many kinds of errors for them, some when a client is made and some at its first request, and none
names the variable to mend. All of them are permanent errors here: they are mistakes in how this process was started,
which a Fallback would hide. A proxy that cannot be reached is a connection that failed, like any other.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from rag_rerank.errors import ConfigError, MissingExtraError, RerankError

__all__ = ["bad_certificates", "client_error", "is_loopback", "make_client"]

T = TypeVar("T")

_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_BAD_URL = re.compile(r"Unknown scheme for proxy URL|Invalid IPv6 URL|Invalid URL: port|Port (could|out)")
_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")


def make_client(make: Callable[[], T], label: str) -> T:
    """Make an HTTP client.

    The library's error is not chained, not even as a context: it may hold the password of a proxy.

    Args:
        make: Makes it.
        label: The reranker that needs it.

    Raises:
        ConfigError: The environment's proxies or certificates cannot be used.
        MissingExtraError: The environment's proxy needs a package that is not installed.
    """
    try:
        return make()
    except RerankError:
        raise
    except Exception as error:
        failure = client_error(error, label) or ConfigError(
            f"{label}: the HTTP client cannot be made ({type(error).__name__}); check {_names(_CERTIFICATES, _PROXIES)}"
        )
    raise failure


def client_error(error: BaseException, label: str) -> RerankError | None:
    """Return the error for an environment in which no HTTP client can work; ``None`` for an error of another kind.

    The message names the variables, but shows no proxy, because its URL may hold a password.

    Args:
        error: What httpx, requests, aiohttp or an SDK on top of them raised.
        label: What was to be done; the message begins with it.
    """
    for cause in _chain(error):
        text = str(cause)
        if "SOCKS" in text and (isinstance(cause, ImportError) or type(cause).__name__ == "InvalidSchema"):
            package = re.search(r"\w+\[socks\]", text)
            return MissingExtraError(
                f"{label}: the proxy in {_names(_PROXIES[:3])} is a SOCKS proxy, which needs a package that is not "
                f'installed; install it with: pip install "{package.group() if package else "requests[socks]"}", or '
                "name an HTTP proxy, or list the host in NO_PROXY"
            )
        about_certificates = "certificate" in text.lower() or isinstance(cause, FileNotFoundError)
        if isinstance(cause, OSError) and about_certificates and (bad := bad_certificates()):
            return ConfigError(
                f"{label}: {' and '.join(bad)}, which holds no certificates; name a file that does, or unset it"
            )
        if (type(cause).__name__ in ("InvalidURL", "InvalidProxyURL") or _BAD_URL.match(text)) and _present(_PROXIES):
            return ConfigError(
                f"{label}: {_names(_PROXIES)} cannot be used ({type(cause).__name__}); a proxy looks like "
                "http://host:port, and NO_PROXY lists hosts: example.com,10.0.0.1 (an IPv6 network in it is refused "
                "by some HTTP libraries)"
            )
    return None


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine, so that no proxy can be meant for it."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761, section 6.3
    return address.is_loopback or address.is_unspecified


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def bad_certificates() -> list[str]:
    """Return the variables that name certificates which cannot be read, each with its value."""
    import ssl

    bad = []
    for name in _CERTIFICATES:
        path = os.environ.get(name)
        if path and not Path(path).is_dir():
            try:
                ssl.create_default_context(cafile=path)
            except OSError:
                bad.append(f"{name} names {path}")
    return bad


def _present(names: tuple[str, ...]) -> list[str]:
    return [spelling for name in names for spelling in (name, name.lower()) if os.environ.get(spelling)]


def _names(*groups: tuple[str, ...]) -> str:
    names = [name for group in groups for name in _present(group) or ()]
    return " and ".join(names) or "the proxies and certificates of the environment"
