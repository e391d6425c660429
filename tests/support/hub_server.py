"""A Hugging Face hub on 127.0.0.1 with one model; it fails as told.

>>> with HubServer({"config.json": b"{}"}) as hub:
...     hub.answers = lambda path: HubAnswer(503) if "/api/" in path else None
...     # set HF_ENDPOINT to hub.url in a process of its own, or use `point_to` in this one
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMIT = "a" * 40
MODEL = "someone/cross-encoder"


@dataclass(frozen=True)
class HubAnswer:
    """An answer in place of the right one.

    Args:
        status: HTTP status; 0 hangs up without an answer, and -1 never answers.
        headers: Its headers, such as ``X-Error-Code``.
        body: Its body.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"


class HubServer:
    """The server, as a context manager.

    Attributes:
        url: Where it listens.
        answers: Gives the answer to a path that is not answered rightly, or ``None``.
        paths: The paths that were asked for.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.answers: Callable[[str], HubAnswer | None] = lambda path: None
        self.paths: list[str] = []
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def point_to(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub's client of this process use a hub and an empty cache; it reads the environment at import only."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.hub.paths.append(path)
        answer = self.hub.answers(path) or self._right_answer(path)
        if answer.status <= 0:
            if answer.status < 0:
                self.hub.released.wait(20)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(answer.status)
        headers = {"content-length": str(len(answer.body)), "content-type": "application/json", **answer.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def _right_answer(self, path: str) -> HubAnswer:
        files = self.hub.files
        if path == f"/api/models/{MODEL}/revision/main" or path == f"/api/models/{MODEL}/revision/{COMMIT}":
            names = [{"rfilename": name} for name in files]
            return HubAnswer(200, body=json.dumps({"id": MODEL, "sha": COMMIT, "siblings": names}).encode())
        if path.startswith(f"/api/models/{MODEL}/revision/"):
            return HubAnswer(404, {"X-Error-Code": "RevisionNotFound"})
        if path.startswith(f"/api/models/{MODEL}/tree/"):
            rows = [
                {"type": "file", "path": name, "size": len(content), "oid": _etag(content)}
                for name, content in files.items()
            ]
            return HubAnswer(200, body=json.dumps(rows).encode())
        name = path.partition("/resolve/")[2].partition("/")[2]
        if path.startswith(f"/{MODEL}/resolve/") and name in files:
            return HubAnswer(200, {"ETag": f'"{_etag(files[name])}"', "X-Repo-Commit": COMMIT}, files[name])
        return HubAnswer(401 if path.startswith("/api/models/") else 404, {"X-Error-Code": "RepoNotFound"})


def _etag(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
