"""What serving adds to a call: time, throughput with many callers, memory over many requests, and no lost request.

    python benchmarks/serving.py [--texts 100] [--words 100] [--requests 20000] [--callers 64]

The server runs in a process of its own (``rag-rerank serve -r embedded``), and the clients in this one; the vectors of
the texts are kept, so that a call takes some milliseconds. The same reranker is then called in this process, with the
same texts. One caller asks twice: with httpx, which writes each body anew, and with prepared bytes over a plain
connection, which shows what the server adds without the work of a client.

At the end the server is told to stop while requests run, and what got no answer is counted. The processor time of a
request is that of the server's process, and beside it stands that of a call in this one. Unlike the other times, it
changes little on a machine that has other work.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from rag_rerank import build

WORDS = ("lake", "river", "mountain", "height", "depth", "rain", "snow", "forest", "city", "train", "road", "stone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--words", type=int, default=100)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--callers", type=int, default=64)
    options = parser.parse_args()
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=options.words)) for _ in range(options.texts)]
    body = {"query": "how deep is the lake in summer?", "documents": texts, "top_n": 5}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "rag_rerank", "serve", "-r", "embedded", "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        asyncio.run(measure(url, body, server, options.requests, options.callers))
    finally:
        server.kill()
    asyncio.run(in_process(body))


async def measure(url: str, body: dict[str, Any], server: subprocess.Popen[bytes], requests: int, callers: int) -> None:
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=600) as client:
        for _ in range(600):
            try:
                if (await client.get("/ready")).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)

        async def ask(_: object = None) -> float:
            start = time.perf_counter()
            (await client.post("/v2/rerank", json=body)).raise_for_status()
            return time.perf_counter() - start

        await ask()
        before = processor_time(server.pid)
        one = [await ask() for _ in range(300)]
        used = (processor_time(server.pid) - before) / len(one)
        print(f"one caller: p50 {median(one) * 1000:.2f} ms, p99 {sorted(one)[296] * 1000:.2f} ms", end="; ")
        print(f"processor time of the server {used * 1000:.2f} ms a request", flush=True)
        plain = await asyncio.to_thread(ask_plainly, client.base_url.port, body)
        print(f"prepared bytes over a plain connection: p50 {median(plain) * 1000:.2f} ms", flush=True)
        start, left, sizes = time.perf_counter(), iter(range(requests)), [memory(server.pid)]

        async def caller() -> list[float]:
            times = []
            for i in left:
                times.append(await ask())
                if (i + 1) % max(1, requests // 10) == 0:
                    sizes.append(memory(server.pid))
            return times

        times = [seconds for part in await asyncio.gather(*(caller() for _ in range(callers))) for seconds in part]
        seconds = time.perf_counter() - start
        rate = f"{len(times):,} requests in {seconds:.0f} s, {len(times) / seconds:.0f} a second"
        print(f"{callers} callers: {rate}, p50 {median(times) * 1000:.0f} ms")
        print(f"memory at the start and after each tenth: {', '.join(f'{size:.0f}' for size in sizes)} MiB", flush=True)
        running = [asyncio.ensure_future(ask()) for _ in range(64)]
        await asyncio.sleep(0.5)  # all are connected by then, and none is answered but the first
        server.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*running, return_exceptions=True)
        lost = [answer for answer in answers if isinstance(answer, BaseException)]
        print(f"stopped while 64 requests ran: {64 - len(lost)} answered, {len(lost)} lost {lost[:1]}")
        server.wait(30)


def ask_plainly(port: int | None, body: dict[str, Any]) -> list[float]:
    """Ask 300 times over one connection, with a body that is written once, and return the seconds of each answer."""
    connection, content, times = HTTPConnection("127.0.0.1", port), json.dumps(body).encode(), []
    for _ in range(300):
        start = time.perf_counter()
        connection.request("POST", "/v2/rerank", content, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        json.loads(answer.read())
        times.append(time.perf_counter() - start)
        assert answer.status == 200, answer.status
    connection.close()
    return times


def memory(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def processor_time(pid: int) -> float:
    """Return the seconds that a process has used of all processors."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def in_process(body: dict[str, Any]) -> None:
    async with build("embedded") as reranker:
        times, used = [], time.process_time()
        for _ in range(301):
            start = time.perf_counter()
            await reranker.arerank(body["query"], body["documents"], top_k=5)
            times.append(time.perf_counter() - start)
        print(
            f"in this process: p50 {median(times[1:]) * 1000:.2f} ms, p99 {sorted(times)[297] * 1000:.2f} ms", end="; "
        )
        print(f"processor time {(time.process_time() - used) / len(times) * 1000:.2f} ms a call, loading included")


if __name__ == "__main__":
    main()
