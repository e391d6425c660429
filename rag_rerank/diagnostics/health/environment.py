"""What variables of the environment do to calls: offline mode, proxies, certificates, keys."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from rag_rerank import registry
from rag_rerank._lazy import need
from rag_rerank.diagnostics.health.finding import Finding, Subject, error_finding
from rag_rerank.diagnostics.health.missing import find_missing
from rag_rerank.errors import MissingExtraError, UnusableKey
from rag_rerank.execution.http_clients import bad_certificates
from rag_rerank.secret import check_key

__all__ = ["PROXIES", "check_environment", "check_keys", "key_variables", "proxy_variables"]

PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_ON = ("1", "on", "yes", "true")
_PROXY_SCHEMES = ("http", "https", "socks4", "socks5", "socks5h")
_HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def check_environment(subject: Subject) -> Iterator[Finding]:
    """Yield the variables that decide where requests go, and those that cannot work."""
    for name in _OFFLINE:
        if os.environ.get(name, "").lower() in _ON:
            yield Finding("environment", "ok", name, "it is on, so no model is fetched from the hub")
    if endpoint := os.environ.get("HF_ENDPOINT"):
        yield from _check_address("HF_ENDPOINT", endpoint, ("http", "https"), "models are fetched from")
    for name, url in proxy_variables().items():
        full = url if "://" in url else f"http://{url}"
        yield from _check_address(name, full, _PROXY_SCHEMES, "requests to other machines go through")
    if hosts := os.environ.get("NO_PROXY") or os.environ.get("no_proxy"):
        yield Finding("environment", "ok", "NO_PROXY", f"requests to these hosts go through no proxy: {hosts}")
    for text in bad_certificates():
        variable, _, rest = text.partition(" ")
        advice = "name a file with certificates in PEM format, or unset the variable"
        yield Finding("environment", "problem", variable, f"it {rest}, which holds no certificates", advice)


def check_keys(subject: Subject) -> Iterator[Finding]:
    """Yield the variables of known keys that hold no key; no value is shown."""
    needed = [] if subject.reranker is None else find_missing(subject.reranker)
    reported = " ".join(row.what + row.advice for row in needed if row.check == "key")
    good = []
    for name in key_variables():
        value = os.environ.get(name)
        if value is None or name in reported:
            continue
        try:
            check_key(value, where=f"the value of {name}")
        except UnusableKey as error:
            yield error_finding("key", name, error, "set it where this process is started, or unset it", "warning")
        else:
            good.append(name)
    yield Finding("key", "ok", "variables with a key", ", ".join(good) or "none of the known ones is set")
    yield from _check_aws(subject)


def key_variables() -> tuple[str, ...]:
    """Return the environment variables in which this release looks for keys, and those of the hub's token."""
    from rag_rerank.backends.api.base import ApiReranker
    from rag_rerank.backends.api.decisions.providers import PROVIDERS
    from rag_rerank.backends.api.dialects import DIALECTS

    kinds = (registry.resolve(name) for name in registry.BUILT_IN)
    own = [name for kind in kinds if issubclass(kind, ApiReranker) for name in kind.key_variables]
    dialects = [name for row in DIALECTS.values() for name in row.keys]
    providers = [name for row in PROVIDERS.values() for name in row.keys]
    return tuple(sorted({*own, *dialects, *providers, *_HUB_TOKENS}))


def proxy_variables() -> dict[str, str]:
    """Return the variables that name a proxy, with their values, which may hold a password."""
    names = [spelling for name in PROXIES for spelling in (name, name.lower())]
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _check_address(name: str, url: str, schemes: tuple[str, ...], use: str) -> Iterator[Finding]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in schemes:
        what = "its value is no address, so no HTTP client can be made"
        yield Finding("environment", "problem", name, what, "an address looks like http://host:port")
        return
    yield Finding("environment", "ok", name, f"{use} {parts.scheme}://{host}{f':{port}' if port else ''}")


def _check_aws(subject: Subject) -> Iterator[Finding]:
    """Yield whether boto3 finds credentials, for a config with Amazon Bedrock."""
    parts = [part for part in subject.api_parts if part.kind == "bedrock"]
    if not parts:
        return
    try:
        boto3 = need("boto3", extra="bedrock")
    except MissingExtraError:  # the check of imports says so
        return
    try:
        has_credentials = boto3.Session().get_credentials() is not None
    except Exception as error:  # botocore raises many kinds for profiles that are incomplete
        has_credentials, reason = False, f" ({type(error).__name__})"
    else:
        reason = ""
    for part in parts:
        if has_credentials:
            yield Finding("key", "ok", part.label, "boto3 finds credentials for AWS")
        else:
            advice = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role"
            what = f"boto3 finds no credentials for AWS{reason}"
            yield Finding("key", "problem", part.label, what, advice, UnusableKey.page)
