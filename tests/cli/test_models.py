"""``pull`` against a small hub on 127.0.0.1, and ``export`` of a real, tiny checkpoint: whole processes."""

import json
import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

import rag_rerank
from rag_rerank import build
from rag_rerank.cli import app

EMBEDDED = Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1"
FILES = {
    "onnx/model.onnx": EMBEDDED / "model.onnx",
    "config.json": EMBEDDED / "config.json",
    "tokenizer.json": EMBEDDED / "tokenizer.json",
    "tokenizer_config.json": EMBEDDED / "tokenizer_config.json",
    "pytorch_model.bin": EMBEDDED / "config.json",
}
MINILM = "cross-encoder/ms-marco-MiniLM-L6-v2"
PINNED = "c5ee24cb16019beea0893ab7796b1df96625c6b8"


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's HTTP interface that its client needs for one repository."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        self.server.requests.append(self.path)  # type: ignore[attr-defined]
        file = self.path.removeprefix(f"/{MINILM}/resolve/{PINNED}/")
        if self.path.startswith((f"/api/models/{MINILM}/tree/{PINNED}", f"/api/models/{MINILM}/revision/{PINNED}")):
            entries = [
                {"type": "file", "path": name, "rfilename": name, "oid": "0" * 40, "size": source.stat().st_size}
                for name, source in FILES.items()
            ]
            content = json.dumps(
                entries if "/tree/" in self.path else {"id": MINILM, "sha": PINNED, "siblings": entries}
            )
            self.reply(200, content.encode(), body=body)
        elif file in FILES:
            content = FILES[file].read_bytes()
            self.reply(200, content, body=body, etag=f'"{zlib.crc32(content)}"')
        else:
            self.reply(404, b"", body=body, x_error_code="RepoNotFound")

    def reply(self, status: int, content: bytes, *, body: bool, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content_length": str(len(content)), "x_repo_commit": PINNED, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.requests = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def process(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-m", "rag_rerank", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, **variables},
    )


def test_pull_fetches_the_pinned_files_once_and_offline_use_follows(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    here = {"HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
    requests: list[str] = hub.requests  # type: ignore[attr-defined]

    pulled = process("pull", "minilm", "--no-verify", **here)
    assert pulled.returncode == 0, pulled.stderr
    label, path = pulled.stdout.split()
    assert label == "onnx:minilm"
    assert Path(path).name == PINNED
    assert "%" in pulled.stderr  # a progress bar
    assert not any("pytorch_model.bin" in request for request in requests)

    requests.clear()
    assert process("pull", MINILM, "--no-verify", **here).stdout == pulled.stdout.replace("minilm", MINILM, 1)
    texts = tmp_path / "texts.txt"
    texts.write_text("Lake Garda is 346 m deep.\nK2 is 8,611 m high.\n")
    ranked = process("rank", "-r", "minilm", "-q", "how tall is K2?", "--json", str(texts), **here, HF_HUB_OFFLINE="1")
    assert json.loads(ranked.stdout)["trace"]["model"] == f"{MINILM}@{PINNED[:12]}"
    assert requests == []


def test_pull_of_files_that_are_another_model_is_an_error_with_both_numbers(
    hub: ThreadingHTTPServer, tmp_path: Path
) -> None:
    here = {"HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
    pulled = process("pull", "minilm", **here)
    assert pulled.returncode == 1
    assert Path(pulled.stdout.split()[1]).name == PINNED
    assert "onnx:minilm differs from what was published" in pulled.stderr
    assert "published " in pulled.stderr and ", here " in pulled.stderr and "Likely: " in pulled.stderr


def test_pull_of_what_the_hub_does_not_have_is_one_line(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    here = {"HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
    result = process("pull", "tinybert", **here)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(
        "Error: the hub shows no model cross-encoder/ms-marco-TinyBERT-L2-v2 (for 'tinybert')"
    )
    assert result.stderr.splitlines()[1].startswith("More: ") and result.stderr.count("\n") == 2


def test_pull_without_a_network_is_one_line_with_the_command_to_run(tmp_path: Path) -> None:
    result = process("pull", "minilm", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert result.returncode == 2
    assert result.stderr.splitlines()[1].startswith("More: ") and result.stderr.count("\n") == 2
    assert result.stderr.splitlines()[0].endswith("rag-rerank pull onnx:minilm")


def test_export_writes_a_folder_that_onnx_runs(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="export needs the torch extra")
    from support import tiny_checkpoints

    checkpoint, out = tiny_checkpoints.bert(tmp_path / "checkpoint"), tmp_path / "exported"
    result = CliRunner().invoke(app, ["export", str(checkpoint), "-o", str(out)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{out}: ")
    assert "differ from torch's by at most" in result.stdout
    with build(f"onnx:{out}") as exported, build(f"torch:{checkpoint}") as original:
        query, texts = tiny_checkpoints.QUERIES[0], tiny_checkpoints.DOCUMENTS
        both = [[hit.raw_score for hit in reranker.rerank(query, texts)] for reranker in (exported, original)]
    assert both[0] == pytest.approx(both[1], abs=1e-4)
    again = CliRunner().invoke(app, ["export", str(checkpoint), "-o", str(out)])
    assert again.exit_code == 2 and "exists already" in again.stderr
