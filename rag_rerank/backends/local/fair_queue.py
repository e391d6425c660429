"""Who is served next, where calls of unlike size share one model.

The order is that of the Fair Sojourn Protocol (Friedman and Henderson, "Fairness and efficiency in web server
protocols", SIGMETRICS 2003): the call goes first that would be done first if all shared equally. So equal calls are
served in the order in which they came, a small call overtakes a large one, and none is done later than under equal
sharing.

That alone does not do where callers come back as soon as they are answered: small calls that are served ahead of their
share bring the next ones sooner, and a large call beside them may wait for the square of its size. So a quarter of the
work is kept for the call that came first. Whatever comes later, a call is then done when four times the work of itself
and of those before it is done; and, up to one unit, none is done later than if all shared three quarters of a worker.
With several workers this holds as nearly as a call can keep them all busy. Small units may take along units of other
calls (`FairLine.alike`), which then run before it is their turn; that delays a call by no more than what it lets along.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = ["FairQueue"]

K = TypeVar("K", bound=Hashable)


class FairQueue(Generic[K]):
    """Calls that wait with their units of work: which unit is next?

    Beside the real work it imagines one worker that all calls share equally. ``_now`` is how much each of them would
    have received since the line began; a call of size ``s`` that joins would be done at ``_now + s``, whoever comes
    later. The call that would be done first is due, except that a quarter of the work is owed to the one that came
    first.

    Args:
        kind: Of a unit: those of one kind may run together.
    """

    def __init__(self, kind: Callable[[Any], Hashable] = lambda unit: None) -> None:
        self._kind = kind
        self._waiting: dict[K, _Place] = {}  # in the order in which they came
        self._of_kind: dict[Hashable, dict[tuple[K, int], Any]] = {}  # call and number of a unit -> its size
        self._now: Any = 0
        self._sharing: list[Any] = []  # ends of the calls that would still be sharing, sorted
        self._owed: Any = 0  # work owed to the call that came first

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def join(self, call: K, units: Sequence[tuple[Any, Any]]) -> None:
        """Let a call wait with its units, each with its size; sizes may be any numbers of one kind."""
        end = self._now + sum(size for size, _ in units)
        insort(self._sharing, end)
        self._waiting[call] = _Place(end, dict(enumerate(units)))
        for number, (size, unit) in enumerate(units):
            kind = self._kind(unit)
            if kind is not None:
                self._of_kind.setdefault(kind, {})[call, number] = size

    def take(self) -> tuple[K, Any]:
        """Take the next unit out of the line, with its call."""
        first = next(iter(self._waiting))
        due = min(self._waiting, key=lambda call: self._waiting[call].end)
        call = first if self._owed >= self._waiting[first].next_size else due
        return self._take(call, next(iter(self._waiting[call].units)))

    def alike(self, unit: Any, room: Any) -> list[tuple[K, Any]]:
        """Take units of the same kind out of the line as well, those of calls that came first, as far as there is room.

        A unit whose kind is ``None`` is like no other.
        """
        taken = []
        for (call, number), size in list(self._of_kind.get(self._kind(unit), {}).items()):
            if size <= room:
                room -= size
                taken.append(self._take(call, number))
        return taken

    def drop(self, call: K) -> None:
        """Take a call with all its units out of the line, if it is there, so that it no longer slows the others."""
        if call in self._waiting:
            place = self._waiting[call]
            taken = place.end - sum(size for size, _ in place.units.values())
            if place.end > self._now:
                self._sharing.remove(place.end)
                if taken > self._now:
                    insort(self._sharing, taken)
            for number, (_, unit) in place.units.items():
                self._forget(call, number, unit)
            self._remove(call)

    def _take(self, call: K, number: int) -> tuple[K, Any]:
        size, unit = self._waiting[call].units.pop(number)
        self._forget(call, number, unit)
        is_first = call is next(iter(self._waiting))
        self._owed = max(self._owed - size, 0) if is_first else self._owed + size / 3
        self._share(size)
        if not self._waiting[call].units:
            self._remove(call)
        return call, unit

    def _forget(self, call: K, number: int, unit: Any) -> None:
        kind = self._kind(unit)
        if kind is not None:
            del self._of_kind[kind][call, number]
            if not self._of_kind[kind]:
                del self._of_kind[kind]

    def _remove(self, call: K) -> None:
        del self._waiting[call]
        if not self._waiting:
            self._now, self._owed = 0, 0
            self._sharing.clear()

    def _share(self, work: Any) -> None:
        """Share out work equally among the calls that would be sharing."""
        while self._sharing and work > 0:
            until_next_end = (self._sharing[0] - self._now) * len(self._sharing)
            if work < until_next_end:
                self._now += work / len(self._sharing)
                return
            work -= until_next_end
            self._now = self._sharing.pop(0)


class _Place(NamedTuple):
    end: Any
    units: dict[int, tuple[Any, Any]]  # by number, in the order in which they are to run

    @property
    def next_size(self) -> Any:
        return next(iter(self.units.values()))[0]
