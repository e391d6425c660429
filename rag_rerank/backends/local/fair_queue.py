"""A fair order of service for calls of unlike size that share one model.

The order is that of the Fair Sojourn Protocol (Friedman and Henderson, "Fairness and efficiency in web server
protocols", SIGMETRICS 2003): the call goes first that would be done first if all shared equally. So equal calls are
served in the order in which they came, a small call overtakes a large one, and none is done later than under equal
sharing.

That alone is not enough where callers come back as soon as they are answered: small calls that are served ahead of
their share bring the next ones sooner, and a large call beside them may wait for the square of its size. So a quarter
of the work is reserved for the call that came first. Whatever comes later, a call is then done when four times the work
of itself and of those before it is done; and, up to one batch, none is done later than if all shared three quarters of
a worker. With several workers this holds as nearly as a call can keep them all busy. A small batch may take compatible
batches of other calls along (`FairQueue.take_compatible`), which then run before it is their turn; that delays a call
by no more than the work that is taken along with its own.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = ["FairQueue"]

K = TypeVar("K", bound=Hashable)


class FairQueue(Generic[K]):
    """The calls that wait with their batches, and the choice of the next batch.

    Beside the real work it imagines one worker that all calls share equally. ``_now`` is how much each of them would
    have received since the queue was last empty; a call of size ``s`` that joins would be done at ``_now + s``, whoever
    comes later. The call that would be done first is due, except that a quarter of the work is owed to the one that
    came first.

    Args:
        group_of: Returns the group of a batch: batches of one group may run together, those of ``None`` run alone.
    """

    def __init__(self, group_of: Callable[[Any], Hashable] = lambda batch: None) -> None:
        self._group_of = group_of
        self._waiting: dict[K, _WaitingCall] = {}  # in the order in which they came
        self._groups: dict[Hashable, dict[tuple[K, int], Any]] = {}  # call and number of a batch -> its size
        self._now: Any = 0
        self._sharing: list[Any] = []  # ends of the calls that would still be sharing, sorted
        self._owed: Any = 0  # work owed to the call that came first

    def __len__(self) -> int:
        """Return how many calls wait."""
        return len(self._waiting)

    def __contains__(self, call: object) -> bool:
        return call in self._waiting

    def join(self, call: K, batches: Sequence[tuple[Any, Any]]) -> None:
        """Add a call with its batches, each a pair (size, batch); sizes may be any numbers of one kind."""
        end = self._now + sum(size for size, _ in batches)
        insort(self._sharing, end)
        self._waiting[call] = _WaitingCall(end, dict(enumerate(batches)))
        for number, (size, batch) in enumerate(batches):
            group = self._group_of(batch)
            if group is not None:
                self._groups.setdefault(group, {})[call, number] = size

    def take(self) -> tuple[K, Any]:
        """Take the next batch out of the queue, with its call."""
        first = next(iter(self._waiting))
        due = min(self._waiting, key=lambda call: self._waiting[call].end)
        call = first if self._owed >= self._waiting[first].next_size else due
        return self._take(call, next(iter(self._waiting[call].batches)))

    def take_compatible(self, batch: Any, room: Any) -> list[tuple[K, Any]]:
        """Take batches of the same group out of the queue as well, in the order of the calls, while there is room.

        A batch whose group is ``None`` is compatible with no other.
        """
        pairs = []
        for (call, number), size in list(self._groups.get(self._group_of(batch), {}).items()):
            if size <= room:
                room -= size
                pairs.append(self._take(call, number))
        return pairs

    def drop(self, call: K) -> None:
        """Remove a call with all its batches, if it waits, so that it no longer slows the others."""
        if call in self._waiting:
            waiting = self._waiting[call]
            end = waiting.end - sum(size for size, _ in waiting.batches.values())  # as if it had asked for no more
            if waiting.end > self._now:
                self._sharing.remove(waiting.end)
                if end > self._now:
                    insort(self._sharing, end)
            for number, (_, batch) in waiting.batches.items():
                self._remove_from_group(call, number, batch)
            self._remove(call)

    def _take(self, call: K, number: int) -> tuple[K, Any]:
        size, batch = self._waiting[call].batches.pop(number)
        self._remove_from_group(call, number, batch)
        is_first = call is next(iter(self._waiting))
        self._owed = max(self._owed - size, 0) if is_first else self._owed + size / 3
        self._share(size)
        if not self._waiting[call].batches:
            self._remove(call)
        return call, batch

    def _remove_from_group(self, call: K, number: int, batch: Any) -> None:
        group = self._group_of(batch)
        if group is not None:
            del self._groups[group][call, number]
            if not self._groups[group]:
                del self._groups[group]

    def _remove(self, call: K) -> None:
        del self._waiting[call]
        if not self._waiting:
            self._now, self._owed = 0, 0
            self._sharing.clear()

    def _share(self, work: Any) -> None:
        """Share work out equally among the calls that would be sharing."""
        while self._sharing and work > 0:
            until_next_end = (self._sharing[0] - self._now) * len(self._sharing)
            if work < until_next_end:
                self._now += work / len(self._sharing)
                return
            work -= until_next_end
            self._now = self._sharing.pop(0)


class _WaitingCall(NamedTuple):
    end: Any
    batches: dict[int, tuple[Any, Any]]  # by number, in the order in which they are to run

    @property
    def next_size(self) -> Any:
        return next(iter(self.batches.values()))[0]
