"""``rag-rerank mcp`` as a process: it speaks the protocol and nothing else, and ends with its client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rag_rerank.cli import app

pytest.importorskip("mcp")

COMMAND = [sys.executable, "-m", "rag_rerank", "mcp"]


async def test_the_official_client_over_standard_input_and_output(tmp_path: Path) -> None:
    from mcp import Client, StdioServerParameters, stdio_client

    (tmp_path / "noisy.py").write_text(
        "import os, sys, warnings\n"
        "from rag_rerank.cli import main\n"
        "from rag_rerank.backends.lexical import LexicalReranker as L\n"
        "score = L.score\n"
        "def noisy(self, query, texts):\n"
        "    print('printed'); os.system('echo from a child'); return score(self, query, texts)\n"
        "L.score = noisy\n"
        "main()\n",
        encoding="utf-8",
    )
    arguments = [str(tmp_path / "noisy.py"), "mcp", "-r", "lexical"]
    server = StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))
    texts = ["K2 is 8,611 m high. größer 温度", "Lake Garda is deep."]
    async with Client(stdio_client(server)) as client:
        answer = await client.call_tool("rerank", {"query": "how high is K2?", "documents": texts})
        assert [row["index"] for row in answer.structured_content["results"]] == [0, 1]
        packed = await client.call_tool("pack", {"query": "how high is K2?", "documents": texts, "max_tokens": 30})
        assert packed.structured_content["text"].startswith(texts[0])


def call(id: int, method: str, **params: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}) + "\n"


START = call(
    1, "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "test", "version": "1"}
)


@pytest.mark.parametrize(("number", "code"), [(None, 0), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_ends_when_its_client_does_and_at_a_signal(number: signal.Signals | None, code: int) -> None:
    command = [*COMMAND, "-r", "lexical"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, encoding="utf-8") as server:
        try:
            assert server.stdin and server.stdout
            server.stdin.write(START)
            server.stdin.flush()
            assert json.loads(server.stdout.readline())["result"]["serverInfo"]["name"] == "rag-rerank"
            if number is not None:
                server.send_signal(number)
                assert server.wait(30) == code  # though its client still holds standard input open
            rest, errors = server.communicate(timeout=30)
        finally:
            server.kill()
    assert (server.returncode, rest, errors) == (code, "", "")


@pytest.mark.parametrize("option", [["--host", "0.0.0.0"], ["--drain-seconds", "2"], ["--allowed-host", "h"]])
def test_an_option_for_http_without_a_port_is_refused(option: list[str]) -> None:
    result = CliRunner().invoke(app, ["mcp", "-r", "lexical", *option])
    assert (result.exit_code, "needs --port" in result.output) == (2, True)


def test_a_config_that_is_wrong_ends_it_with_a_message_on_stderr() -> None:
    result = subprocess.run([*COMMAND, "-r", "lexical:x:y"], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, "Error:" in result.stderr) == (2, "", True)
