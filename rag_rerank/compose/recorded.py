"""Recorded: writes a record of each call of its reranker to a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from rag_rerank._files import FilePath
from rag_rerank._lazy import load_once, peek
from rag_rerank.compose.wrapper import Wrapper
from rag_rerank.execution.deadline import arun_in_thread
from rag_rerank.execution.plan import Call, InThread, Plan, PlanResult
from rag_rerank.execution.protocols import Observer
from rag_rerank.records import Counts
from rag_rerank.records.recorder import KEEP, MAX_BYTES, Recorder, check_options
from rag_rerank.types import Candidate, Ranking

__all__ = ["Recorded"]


@dataclass(frozen=True, kw_only=True)
class Recorded(Wrapper):
    """A reranker that writes a record of each of its calls to a file.

    It is `rag_rerank.recording` as a part of a config. At the top it records the user's calls. Inside a composite it
    records the calls that the composite makes of it; ``top_k`` is then ``None``, because the user's cutoff is not known
    there. Records are written after the call, on another thread; errors there are counted, logged once, and change no
    answer. `close` writes the records that still wait.

    Args:
        reranker: The reranker that answers.
        file: The file that records are appended to; threads and processes may share it. If it cannot be written, the
            first call raises.
        share: The share of the calls that are recorded, chosen at random: more than 0, at most 1. The default, 1,
            records every call; lower it where there are more calls than you want to keep.
        texts: Whether to record the query, the texts and the metadata of candidates. By default only their hashes are
            recorded.
        max_bytes: The largest size of the file in bytes. Before it would be exceeded, the file becomes ``FILE.1``, and
            a new one begins.
        keep: How many such older files are kept; the oldest is deleted.

    Raises:
        ConfigError: ``reranker`` is no reranker, or a value is not allowed.
    """

    kind: ClassVar[str] = "recorded"

    file: FilePath
    share: float = 1.0
    texts: bool = False
    max_bytes: int = MAX_BYTES
    keep: int = KEEP

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self.file, self.share, self.max_bytes, self.keep)
        object.__setattr__(self, "file", os.fspath(self.file))

    def _identity(self, version: str | None = None) -> str:
        return self.reranker._identity(version)  # recording changes no score

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The recorder."""
        return (self._recorder,)

    @property
    def counts(self) -> Counts:
        """The numbers of calls so far, without those that wait to be written (see `flush`)."""
        return self._recorder.counts

    def flush(self) -> None:
        """Write all calls that have ended."""
        if recorder := peek(self, "_recorder"):
            recorder.flush()

    def warm_up(self) -> None:
        """Load the reranker and check the file."""
        super().warm_up()
        _ = self._file_is_open

    def close(self) -> None:
        """Write what waits, and close the reranker."""
        try:
            super().close()
        finally:
            self.flush()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop, and release what belongs to the loop."""
        try:
            await super().aclose()
        finally:
            await arun_in_thread(self.flush)

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        if not peek(self, "_file_is_open"):
            yield InThread(lambda: self._file_is_open)
        ranking: Ranking = yield Call(self.reranker, query, candidates)
        return PlanResult(ranking.hits, ranking.scale, substituted=ranking.substituted, answerable=ranking.answerable)

    @load_once
    def _recorder(self) -> Recorder:
        return Recorder(
            self.file,
            share=self.share,
            texts=self.texts,
            max_bytes=self.max_bytes,
            keep=self.keep,
            inner=True,
        )

    @load_once
    def _file_is_open(self) -> bool:
        """True once the file was checked, which may wait for a disk or for other processes.

        Raises:
            ConfigError: The file cannot be written, or holds something else.
        """
        self._recorder.open()
        return True
