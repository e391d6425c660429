"""The official clients of decision models as a reference: what they send for our questions, and what they read.

Run with the Python of an environment that has ``typesafe-sdk`` or ``openai``, and without this package::

    python tests/support/api/decision_sdks.py typesafe tests/backends/api/payloads/decisions_systemone.json
    python tests/support/api/decision_sdks.py openai tests/backends/api/payloads/decisions_openai.json

Each case of the file holds what is asked, in the arguments of the client, and the answer that a server gives. The
client asks a server on this machine; what it sent, byte by byte, and what it read in the answer are written into the
case.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

KEY = "kEy-7f3aQz0Lw9"


class _Server(HTTPServer):
    answer: Any = None
    request: dict[str, Any]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        names = ("authorization", "content-type")
        headers = {name: self.headers[name] for name in names}
        self.server.request = {"path": self.path, "headers": headers, "body": body}
        content = json.dumps(self.server.answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def ask_typesafe(url: str, case: dict[str, Any]) -> dict[str, Any]:
    """Ask with TypeSafe's client, and return the number that it reads for each question."""
    from typesafe_sdk import Noul, Score, TypeSafeClient

    kinds = {"noul": Noul, "score": Score}
    questions = {name: kinds[q["type"]](**q) for name, q in case["arguments"]["questions"].items()}
    with TypeSafeClient(api_key=KEY, base_url=url, compression=False) as client:
        response = client.system_one(**{**case["arguments"], "questions": questions})
    return {
        name: response.answers[name].noul if name in response.nouls else response.answers[name].score
        for name in questions
    }


def ask_openai(url: str, case: dict[str, Any]) -> dict[str, Any]:
    """Ask with OpenAI's client, and return the number that it reads for each question; ``None`` for a refusal."""
    from openai import OpenAI

    with OpenAI(api_key=KEY, base_url=f"{url}/v1") as client:
        decision = client.decisions.create(**case["arguments"])
    numbers = [getattr(answer, "probability", getattr(answer, "score", None)) for answer in decision.answers]
    return dict(zip([q["name"] for q in case["arguments"]["questions"]], numbers, strict=True))


CLIENTS = {"typesafe": ("typesafe-sdk", ask_typesafe), "openai": ("openai", ask_openai)}


def main(name: str, file: Path) -> None:
    """Let a client ask every case of a file, and write what it sent and read into it."""
    package, ask = CLIENTS[name]
    content = json.loads(file.read_text(encoding="utf-8"))
    content["client"] = f"{package} {importlib.metadata.version(package)}"
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        for case in content["cases"]:
            server.answer = case["answer"]
            case["numbers"] = ask(f"http://127.0.0.1:{server.server_port}", case)
            case["sent"] = server.request
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
