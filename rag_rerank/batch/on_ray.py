"""Batches on Ray: a dataset of Ray Data, and the parts of a file on actors."""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rag_rerank._checks import whole_number
from rag_rerank._lazy import need
from rag_rerank.batch.batch_reranker import BatchReranker
from rag_rerank.batch.files import Part
from rag_rerank.batch.shares import share_of
from rag_rerank.config import Spec
from rag_rerank.errors import BackendError, BackendUnavailable, ConfigError

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = ["RayActors", "rerank_dataset"]

_RETRIES = 5
"""How often a part is sent again after its actor died; so a part that kills every actor ends the batch."""

_AHEAD = 2
"""Parts that an actor has at a time, so that the next one waits there while one is answered."""

_REMOTE_WORKERS = 16
"""Rows at the same time in the one actor of a provider, unless the user says how many."""


def rerank_dataset(
    dataset: Dataset,
    config: Spec | BatchReranker,
    top_k: int | None = None,
    *,
    actors: int | tuple[int, int] | None = None,
    cpus: float = 1,
    gpus: float = 0,
    batch_rows: int = 32,
    **arguments: Any,
) -> Dataset:
    """Rerank each row of a dataset of Ray Data, on actors that load the model once.

    The result is lazy, as datasets are: reading or writing it starts the work. Columns are those of `BatchReranker`.
    Where an actor dies, Ray starts another one and sends its rows again; no row is lost or doubled. To continue after
    the whole program ended, use Ray Data's ``CheckpointConfig``.

    Args:
        dataset: Rows with a query and its candidates.
        config: The reranker, or a `BatchReranker`, which has the other arguments already.
        top_k: How many hits a row gets; ``None`` for all.
        actors: How many actors there are: a number, or the least and the most. By default 1 for a reranker whose work
            is all done by providers, and otherwise from 1 to as many as the cluster has room for. Each of several
            actors gets its share of a provider's limits (`Limits`).
        cpus: CPU cores of an actor.
        gpus: GPUs of an actor; a model of type ``torch`` then runs there.
        batch_rows: Rows in one call of an actor.
        arguments: Further arguments of `BatchReranker`. ``workers`` is 16 by default where providers do all the work.

    Returns:
        A dataset with as many rows. Their order is that of the input only with Ray Data's ``preserve_order``.

    Raises:
        ConfigError: The config is wrong, or a limit is smaller than the number of actors.
        MissingExtraError: The extra ``ray`` is not installed.
    """
    data = need("ray.data", extra="ray")
    batch = _batch_of(config, top_k, arguments)
    least, most = _pool_size(batch, actors, cpus, gpus)
    return dataset.map_batches(
        _TableReranker,
        fn_constructor_kwargs={"batch": _share(batch, most, cpus)},
        batch_format="pyarrow",
        batch_size=batch_rows,
        compute=data.ActorPoolStrategy(min_size=least, max_size=most),
        num_cpus=cpus,
        num_gpus=gpus or None,
    )


@dataclass(frozen=True, kw_only=True)
class RayActors:
    """Answers the parts of `rerank_file` on actors of Ray: of a cluster, or of this machine.

    This process reads and writes the files, so the other machines need not see them. Ray must run, or is started here
    and stopped at the end. An actor that dies is replaced, and its parts are sent again, each up to 5 times.

    Args:
        actors: How many actors there are. By default 1 for a reranker whose work is all done by providers, and
            otherwise as many as the cluster has room for. Each of several actors gets its share of a provider's limits.
        cpus: CPU cores of an actor.
        gpus: GPUs of an actor.

    Raises:
        MissingExtraError: The extra ``ray`` is not installed.
        ConfigError: A limit of a provider is smaller than the number of actors.
        BackendError: A part made its actors die again and again.
    """

    actors: int | None = None
    cpus: float = 1
    gpus: float = 0

    def answers(self, batch: BatchReranker, parts: Iterator[Part]) -> Generator[tuple[Part, Any], None, None]:
        """Yield each part with its answered rows, in the order in which they are ready."""
        ray = need("ray", extra="ray")
        started_here = _start(ray)
        pool: list[Any] = []
        try:
            batch = _batch_of(batch, None, {})
            _, count = _pool_size(batch, self.actors, self.cpus, self.gpus)
            options = {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_restarts": -1, "max_task_retries": _RETRIES}
            actor = ray.remote(**options)(_TableReranker)
            pool += [actor.remote(_share(batch, count, self.cpus)) for _ in range(count)]
            yield from _answers_of(ray, pool, parts)
        finally:
            for member in pool:
                ray.kill(member)
            if started_here:
                ray.shutdown()


def _start(ray: Any) -> bool:
    """Connect to the cluster of ``RAY_ADDRESS``, or start Ray on this machine; return whether that was needed.

    Raises:
        BackendUnavailable: Ray did not start.
    """
    if ray.is_initialized():
        return False
    own = {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(log_to_driver=False, **({} if os.environ.get("RAY_ADDRESS") else own))
    except Exception as error:  # Ray has no class for it
        raise BackendUnavailable(f"Ray cannot be started or reached: {error}", backend="ray") from error
    return True


def _answers_of(ray: Any, pool: list[Any], parts: Iterator[Part]) -> Iterator[tuple[Part, Any]]:
    """Keep every actor busy, and yield the answers as they come."""
    running: dict[Any, tuple[Part, Any]] = {}

    def send(member: Any) -> None:
        if (part := next(parts, None)) is not None:
            running[member.__call__.remote(part.rows)] = (part, member)

    for member in pool * _AHEAD:
        send(member)
    while running:
        (reference, *_), _ = ray.wait(list(running), num_returns=1)
        part, member = running.pop(reference)
        try:
            rows = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            raise BackendError(
                f"part {part.number} could not be answered: its actor died {_RETRIES + 1} times, or could not start "
                f"({type(error).__name__}); give actors more memory, or fewer of them",
                backend="ray",
            ) from error
        send(member)
        yield part, rows


class _TableReranker:
    """The actor: it loads the model once, and answers batches."""

    def __init__(self, batch: BatchReranker) -> None:
        self._batch = batch
        batch.warm_up()

    def __call__(self, rows: Any) -> Any:
        return self._batch(rows)


def _batch_of(config: Spec | BatchReranker, top_k: int | None, arguments: dict[str, Any]) -> BatchReranker:
    if isinstance(config, BatchReranker):
        if top_k is not None or arguments:
            raise ConfigError("a BatchReranker has its arguments already; use dataclasses.replace to change it")
        batch = config
    else:
        batch = BatchReranker(config, top_k=top_k, **arguments)
    if batch.reranker.remote and batch.workers == 1 and "workers" not in arguments:
        batch = replace(batch, workers=_REMOTE_WORKERS)
    return batch


def _pool_size(batch: BatchReranker, actors: int | tuple[int, int] | None, cpus: float, gpus: float) -> tuple[int, int]:
    """Return the least and the most actors."""
    if isinstance(actors, tuple):
        least, most = actors
        return least, whole_number(most, whole_number(least, 1, "actors"), "actors")
    if actors is not None:
        return whole_number(actors, 1, "actors"), actors
    if batch.reranker.remote:
        return 1, 1
    ray = need("ray", extra="ray")
    _start(ray)
    resources = ray.cluster_resources()
    needs = (("CPU", cpus), ("GPU", gpus))
    room = min((resources.get(name, 0) / need for name, need in needs if need), default=1.0)
    return 1, max(1, math.floor(room))


def _share(batch: BatchReranker, processes: int, cpus: float) -> BatchReranker:
    return replace(batch, config=share_of(batch.reranker, processes, max(1, math.floor(cpus))))
