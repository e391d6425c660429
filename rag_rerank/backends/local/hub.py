"""Model files on the Hugging Face hub: its cache here, one quick question to it, and what its failures mean.

The hub's client tries a request that fails for up to half a minute, and some versions wait for an answer without any
limit. So the hub is asked once before anything is fetched, through the client's own session (with the user's endpoint,
token, proxies and certificates), and within limits of our own.
"""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

from rag_rerank._files import expand_user
from rag_rerank.backends.local import catalogue
from rag_rerank.errors import ConfigError, ModelLoadError, ModelUnavailable, RerankError, did_you_mean
from rag_rerank.execution.clock import now, start_thread, wait_for_any
from rag_rerank.execution.http_clients import client_error

__all__ = ["HubModel"]

T = TypeVar("T")

_CONNECT_SECONDS = 1.3
"""Seconds in which the hub must have taken a connection, for all of its addresses together."""

_PAUSE = 30.0
"""Seconds for which a hub that gave no answer in time is not asked again: else each call would wait for it anew."""

_PASSING = (408, 425, 429)
"""HTTP statuses below 500 of failures that may pass."""

_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks5": 1080, "socks5h": 1080}

_silent_since: dict[tuple[int, str], float] = {}
"""When a hub last gave no answer in time: process and endpoint -> time."""


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """A model on the hub, and which of its files are needed.

    Args:
        model: The model as the user named it: an alias, an id or a former id.
        id: Its id on the hub.
        revision: Commit, branch or tag; ``None`` for the main branch.
        user_revision: Whether the user named the revision.
        backend: The backend that needs the files.
        patterns: Which files to fetch.
        complete: Whether a folder holds all that is needed.
    """

    model: str
    id: str
    revision: str | None
    user_revision: bool
    backend: str
    patterns: Sequence[str]
    complete: Callable[[Path], bool]

    def find_cached(self) -> Path | None:
        """Return the folder of the revision in the hub's cache, or ``None`` where it is not there or lacks files.

        Raises:
            ModelLoadError: The id is no hub id, or the cache has no place, because there is no home directory.
        """
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        cache = _cache_folder()
        try:
            folder = Path(snapshot_download(self.id, local_files_only=True, cache_dir=cache, **self._files))
        except HFValidationError as error:
            raise ModelLoadError(f"{self.id!r} is neither a folder nor a valid model id: {error}") from error
        except (LocalEntryNotFoundError, PermissionError):
            return None
        return folder if self.complete(folder) else None

    def fetch(self, choose: Callable[[Collection[str]], Sequence[str]] | None = None) -> Path:
        """Return the folder of the revision in the hub's cache, after fetching the files that are not there.

        Args:
            choose: Returns the patterns of the files to fetch, of all files that the hub has; by default the needed
                ones.

        Raises:
            ModelUnavailable: The hub cannot be reached, fails, or may not be asked (``HF_HUB_OFFLINE``).
            ModelLoadError: There is no such model or revision, it is not open to this user, or files cannot be
                written.
            ConfigError: The environment's proxies or certificates cannot be used.
            MissingExtraError: The environment's proxy needs a package that is not installed.
        """
        from huggingface_hub import snapshot_download

        folder = self.find_cached()
        if folder is not None:
            return folder
        names = self.list_files()
        patterns = self.patterns if choose is None or not names else choose(names)
        files = {**self._files, "allow_patterns": list(patterns)}
        folder = Path(self._call_hub(lambda: snapshot_download(self.id, cache_dir=_cache_folder(), **files)))
        if not self.complete(folder):
            raise ModelLoadError(
                f"{self._title} lacks files needed here ({', '.join(self.patterns)}); if there was no network to "
                f"fetch them from, run where there is one: {self._pull}"
            )
        return folder

    def list_files(self) -> list[str]:
        """Ask the hub once for the names of the files of the revision; some mirrors list none.

        Raises:
            ModelUnavailable: As `fetch`.
            ModelLoadError: There is no such model or revision, or it is not open to this user.
            ConfigError: As `fetch`.
            MissingExtraError: As `fetch`.
        """
        return self._call_hub(self._ask)

    def _call_hub(self, work: Callable[[], T]) -> T:
        """Do work with the hub's client, which lets errors of its HTTP library through, and translate them."""
        try:
            return work()
        except RerankError:
            raise
        except Exception as error:
            failure = self._translate(error)
            if isinstance(failure, ModelLoadError):  # others are about proxies, whose passwords the cause may hold
                raise failure from error
        raise failure

    def _ask(self) -> list[str]:
        """Do what `list_files` does, and raise what the hub's client raises."""
        from huggingface_hub import constants

        client: Any = importlib.import_module("huggingface_hub.utils")  # its newer versions have no types for this
        if constants.HF_HUB_OFFLINE:
            raise self._unavailable("offline mode is on (HF_HUB_OFFLINE), so the hub is not asked")
        revision = quote(self.revision or "main", safe="")
        url = f"{constants.ENDPOINT}/api/models/{self.id}/revision/{revision}"
        if urlsplit(url).scheme not in ("http", "https"):
            raise ConfigError(f"HF_ENDPOINT must look like https://host, got {constants.ENDPOINT!r}")
        since = _silent_since.get((os.getpid(), constants.ENDPOINT))
        if since is not None and now() - since < _PAUSE:
            raise self._unavailable(f"{_host(url)} gave no answer in time {now() - since:.0f} s ago")
        seconds = constants.HF_HUB_ETAG_TIMEOUT
        answer = start_thread(lambda: client.get_session().get(url, headers=client.build_hf_headers(), timeout=seconds))
        connection = start_thread(partial(_connect, url))
        wait_for_any([answer], _CONNECT_SECONDS)
        if not answer.done() and connection.done() and connection.exception() is None:
            wait_for_any([answer], seconds)
        if not answer.done() or "Timeout" in type(answer.exception()).__name__:
            _silent_since[os.getpid(), constants.ENDPOINT] = now()
            raise self._unavailable(f"{_host(url)} gave no answer in time")
        response = answer.result()
        client.hf_raise_for_status(response)
        facts = _facts(response)
        if facts is None:
            raise self._unavailable(
                f"{_host(url)} answered with something else than facts about a model; perhaps the network wants a "
                "login first, or HF_ENDPOINT is wrong"
            )
        rows = facts.get("siblings") or ()
        return [row["rfilename"] for row in rows if isinstance(row, Mapping) and isinstance(row.get("rfilename"), str)]

    def _translate(self, error: Exception) -> RerankError:
        """Return an error of the hub's client as one of ours."""
        from huggingface_hub import constants, errors

        if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
            return self._translate(error.__cause__)  # what kept the client from asking the hub
        if isinstance(error, errors.GatedRepoError):
            return ModelLoadError(
                f"{self._title} is open to some users only; accept its terms at https://huggingface.co/{self.id}, "
                "then give a token: hf auth login, or HF_TOKEN"
            )
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, errors.RepositoryNotFoundError):
            ids = [row.id for row in catalogue.models() if not row.packaged]
            return ModelLoadError(
                f"the hub shows no model {self.id}{self._for}: check its name; if it is private, give a token of a "
                f"user who may read it: hf auth login, or HF_TOKEN{did_you_mean(self.id, ids, or_list=False)}"
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return ModelLoadError(
                f"{self.id}{self._for} has no revision {self.revision!r} on the hub{self._cached_revisions}; name a "
                "commit, branch or tag that it has, or leave revision out"
            )
        if isinstance(status, int) and 400 <= status < 500 and status not in _PASSING:
            return ModelLoadError(
                f"the hub refuses {self._title} ({status}); check the name, and the token, if you use one (HF_TOKEN)"
            )
        if (failure := client_error(error, f"{self._title} cannot be fetched")) is not None:
            return failure
        network = (ConnectionError, TimeoutError, socket.gaierror)
        if isinstance(error, OSError) and error.errno and not isinstance(error, network):
            return ModelLoadError(
                f"{self._title} cannot be stored in the hub's cache ({error.strerror or error}); make room, or set "
                "HF_HUB_CACHE to a folder that can be written"
            )
        host = _host(constants.ENDPOINT)
        reason = f"{host} answered {status}" if status else f"{host} cannot be reached, or failed ({_summary(error)})"
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            reason += " (if your network signs certificates of its own, name them in SSL_CERT_FILE, REQUESTS_CA_BUNDLE)"
        return self._unavailable(reason, status=status)

    def _unavailable(self, reason: str, status: int | None = None) -> ModelUnavailable:
        return ModelUnavailable(
            f"{self._title} is not in the local cache{self._cached_revisions}, and {reason}; fetch it where there is "
            f"a network with: {self._pull}",
            reason=f"not in the local cache, and {reason}",
            backend=self.backend,
            model=self.model,
            status=status,
        )

    @property
    def _files(self) -> dict[str, Any]:
        return {"revision": self.revision, "allow_patterns": list(self.patterns)}

    @property
    def _title(self) -> str:
        """The model as the user named it, with the id and the revision that this stands for."""
        place = f"{self.id}{f'@{self.revision[:12]}' if self.revision else ''}"
        return self.model if place == self.model else f"{self.model} ({place})"

    @property
    def _for(self) -> str:
        return "" if self.model == self.id else f" (for {self.model!r})"

    @property
    def _pull(self) -> str:
        revision = f"@{self.revision}" if self.user_revision else ""
        return f"rag-rerank pull {self.backend}:{self.model}{revision}"

    @property
    def _cached_revisions(self) -> str:
        """The other revisions in the cache that have all files needed, as part of a message; empty without any."""
        repository = _cache_folder() / f"models--{self.id.replace('/', '--')}"
        try:
            commits = [folder.name for folder in (repository / "snapshots").iterdir() if self.complete(folder)]
            refs = {ref.read_text().strip(): ref.name for ref in (repository / "refs").iterdir() if ref.is_file()}
        except OSError:
            commits, refs = [], {}
        names = sorted(f"{commit[:12]}{f' ({refs[commit]})' if commit in refs else ''}" for commit in commits)
        return f" (which has other revisions: {', '.join(names)}; name one as revision)" if names else ""


def _cache_folder() -> Path:
    """Return the hub's cache."""
    from huggingface_hub import constants

    try:
        return expand_user(constants.HF_HUB_CACHE)
    except ConfigError as error:
        raise ModelLoadError(
            "there is no home directory, so the hub's cache has no place; set HF_HOME to a folder that can be written"
        ) from error


def _connect(url: str) -> None:
    """Connect to where the request goes, a proxy or the hub, and hang up."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and not proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    address = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 443)
    socket.create_connection(address, _CONNECT_SECONDS).close()


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"


def _facts(response: Any) -> Mapping[str, Any] | None:
    """Return the facts about a model that an answer holds; ``None`` for another answer, such as a login page."""
    try:
        facts = response.json()
    except ValueError:
        return None
    return facts if isinstance(facts, Mapping) and isinstance(facts.get("sha"), str) else None


def _summary(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:150]}" if lines else type(error).__name__
