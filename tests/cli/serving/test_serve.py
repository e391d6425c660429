"""``rag-rerank serve`` as a process: it starts, answers, and stops without losing a request."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

BODY = {"query": "how tall is K2?", "documents": ["K2 is 8,611 m high.", "Lake Garda is 346 m deep."] * 100}


def test_requests_that_are_on_their_way_when_it_is_told_to_stop_are_answered() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-m",
        "rag_rerank",
        "serve",
        "-r",
        "lexical",
        "--port",
        str(port),
        "--drain-seconds",
        "2",
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server, ThreadPoolExecutor(16) as pool:
        try:
            for _ in range(1000):
                assert server.poll() is None
                try:
                    if httpx.get(f"{url}/ready").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.02)
            answers = [pool.submit(httpx.post, f"{url}/v2/rerank", json=BODY, timeout=30) for _ in range(48)]
            answers[0].result()
            server.send_signal(signal.SIGTERM)
            assert [answer.result().status_code for answer in answers] == [200] * 48
            server.wait(30)
        finally:
            server.kill()


def test_a_reranker_that_cannot_be_loaded_ends_the_process() -> None:
    command = [sys.executable, "-m", "rag_rerank", "serve", "-r", "./no-such-folder", "--port", "0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "no-such-folder" in result.stderr
