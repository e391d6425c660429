"""The client side of `worker`: a process that runs one system and answers messages."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class SystemFailed(Exception):
    """A system could not be loaded, raised, or ended its process."""


class Process:
    """A worker, from its start to `close`.

    Args:
        python: Interpreter of the system's environment.
        loader: ``module:function``.
        environment: Variables to set beside those of this process. Hubs are always switched off.
    """

    def __init__(self, python: Path | str, loader: str, environment: Mapping[str, str] | None = None) -> None:
        self._stderr = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed in close
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.speed.worker", loader],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd=ROOT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", **(environment or {})},
            text=True,
            encoding="utf-8",
        )

    def ask(self, do: str, **message: Any) -> dict[str, Any]:
        """Send a message and return the answer.

        Raises:
            SystemFailed: The system raised, or its process ended.
        """
        assert self._process.stdin and self._process.stdout
        with suppress(BrokenPipeError):  # the process has ended; its last line of stderr says why
            self._process.stdin.write(json.dumps({"do": do, **message}) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._stderr.seek(0)
            last = (self._stderr.read().strip().splitlines() or ["it printed nothing"])[-1]
            raise SystemFailed(f"the process ended with {self._process.wait()}: {last}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise SystemFailed(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin and self._process.stdout
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._stderr.close()
