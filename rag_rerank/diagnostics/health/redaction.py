"""What a report may show: no key, no password, no name of a user."""

from __future__ import annotations

import getpass
import netrc
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rag_rerank.backends.api.message_redaction import mask_key, mask_key_shapes, mask_random_runs
from rag_rerank.base import Reranker
from rag_rerank.diagnostics.health.environment import key_variables, proxy_variables
from rag_rerank.diagnostics.health.finding import Finding
from rag_rerank.errors import ConfigError
from rag_rerank.secret import Secret, variables_of

__all__ = ["Redaction"]

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|PWD|CREDENTIAL|AUTH|PRIVATE|COOKIE|DSN|SIGNATURE", re.IGNORECASE)
_FOLDERS = ("PWD", "OLDPWD")
_NOT_RANDOM = ("model", "revision", "type", "path", "file", "map", "tokenizer")
"""Fields of configs whose values may look random, and are no keys: ids, commits, paths."""

_REFERENCE = re.compile(r"\$\{[A-Za-z_]\w*(:-)?\}")
"""A reference to a key as `rag_rerank.to_config` writes it: without a default, which may be a key."""

_SHORTEST = 8
"""Characters of a variable's value from which on it is masked wherever it occurs: ``true`` would be too."""

_USER_IN_URL = re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s@]*@", re.IGNORECASE)
_QUERY_IN_URL = re.compile(r"([a-z][a-z0-9+.-]*://[^\s?#]*)[?#]\S*", re.IGNORECASE)


@dataclass(frozen=True)
class Redaction:
    """What must not be shown, and how texts are written without it.

    Args:
        secrets: Keys and passwords.
        home: The home folder; empty if there is none.
        user: The name of the user; empty if it is not known.
    """

    secrets: tuple[str, ...]
    home: str = ""
    user: str = ""

    @classmethod
    def collect(cls, reranker: Reranker | None, config: str = "") -> Redaction:
        """Collect the secrets of this process: of the config, the environment, proxies and netrc.

        Args:
            reranker: The reranker of the config, if it could be built.
            config: The text of its file, whose ``${VAR}`` may stand for anything.
        """
        values = {*_secrets_of_environment(), *_secrets_of_netrc(), *_secrets_of_proxies()}
        in_config = (os.environ.get(name, "") for name in variables_of(config))
        values |= {value for value in in_config if not value.startswith(("http://", "https://"))}  # masked as URLs are
        values = {value for value in values if len(value) >= _SHORTEST}
        if reranker is not None:
            values |= {value for part in reranker.walk() for value in _secrets_inside(part) if value}
        home, user = "", ""
        with suppress(RuntimeError):
            home = str(Path.home())
        with suppress(KeyError, OSError, ImportError):
            user = getpass.getuser()
        return cls(tuple(sorted(values, key=lambda value: (-len(value), value))), home, user)

    def text(self, text: str) -> str:
        """Return a text without secrets, without users and queries in URLs, and with ``~`` for the home folder."""
        text = _QUERY_IN_URL.sub(r"\1?***", _USER_IN_URL.sub(r"\1***@", text))
        for secret in self.secrets:
            text = mask_key(text, secret)
        text = mask_key_shapes(text)
        if len(self.home) > 1:
            text = re.sub(re.escape(self.home) + r"(?![\w.-])", "~", text)
        if len(self.user) > 2:
            text = re.sub(rf"(?<=[/\\]){re.escape(self.user)}(?=[/\\]|$)", "USER", text)
        return text

    def finding(self, finding: Finding) -> Finding:
        """Return a finding as it may be shown."""
        return replace(
            finding, where=self.text(finding.where), what=self.text(finding.what), advice=self.text(finding.advice)
        )

    def node(self, value: Any, name: str = "") -> Any:
        """Return a part of a config as it may be shown: also without whatever looks random, as keys do.

        Args:
            value: The part.
            name: The field that it is the value of.
        """
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.node(item, str(key)) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.node(item, name) for item in value]
        if not isinstance(value, str):
            return value
        if _REFERENCE.fullmatch(value):
            return value
        if _SECRET_NAME.search(name) and name not in ("max_tokens_per_doc", "tokenizer"):
            return "***"
        text = self.text(value)
        return text if name in _NOT_RANDOM else mask_random_runs(text)


def _secrets_of_environment() -> Iterator[str]:
    key_names = key_variables()
    for name, value in os.environ.items():
        is_secret = name in key_names or (_SECRET_NAME.search(name) and name not in _FOLDERS)
        if is_secret and not value.startswith(os.sep):  # the path of a socket or of a file with a key
            yield from (value, value.strip(), value.strip("\"' \n"))


def _secrets_of_proxies() -> Iterator[str]:
    for url in proxy_variables().values():
        with suppress(ValueError):
            parts = urlsplit(url if "://" in url else f"http://{url}")
            for text in filter(None, (parts.password, parts.username)):
                yield from (text, unquote(text))


def _secrets_of_netrc() -> Iterator[str]:
    with suppress(OSError, netrc.NetrcParseError, UnicodeDecodeError, RuntimeError):
        file = os.environ.get("NETRC") or str(Path.home() / ".netrc")
        for _, account, password in netrc.netrc(file).hosts.values():
            yield from filter(None, (account, password))


def _secrets_inside(item: Any) -> Iterable[str]:
    """Yield the keys in the fields of a dataclass."""
    if isinstance(item, Secret):
        with suppress(ConfigError):
            yield item.reveal()
    elif is_dataclass(item) and not isinstance(item, type):
        for f in fields(item):
            value = getattr(item, f.name)
            if not isinstance(value, Reranker):
                yield from _secrets_inside(value)
