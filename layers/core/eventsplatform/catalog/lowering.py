"""Fewer places: asking registrations, which alone knows how many are taken, before the transaction that lowers them.

From its answer on registrations gives out no more than the lower number; the transaction then goes through only if
each event is still of the version that was answered for. No lock is held across the call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from eventsplatform.catalog.model import CapacityAnswer, KnownEvent
from eventsplatform.errors import ConflictError

# An event is 30 KB with the longest texts, and Lambda takes 6 MB.
ASKED_AT_ONCE = 100


class Places(Protocol):
    """Registrations."""

    def accept_capacity(self, events: Sequence[KnownEvent], capacity: int) -> Mapping[int, CapacityAnswer]:
        """Ask it to give out no more places of these versions of the events than `capacity`, if no more are taken.

        The answers by event. When one is refused, it may have none for the others.
        """


class NotSettledError(Exception):
    """Registrations is to be asked about an event, or again, for it is not as it was when it was asked."""


class Lowering:
    """What registrations says to one change. `asked` are the events that it may be holding to the lower capacity."""

    def __init__(self, places: Places, capacity: int) -> None:
        self._places = places
        self._capacity = capacity
        self._answers: dict[tuple[int, int], CapacityAnswer] = {}
        self.asked: set[int] = set()

    def ask(self, events: Sequence[KnownEvent]) -> None:
        """About the events as they are. What is refused is left for the transaction to say."""
        for first in range(0, len(events), ASKED_AT_ONCE):
            batch = events[first : first + ASKED_AT_ONCE]
            self.asked |= {event.id for event in batch}
            answers = self._places.accept_capacity(batch, self._capacity)
            self._answers |= {(event.id, event.version): answers[event.id] for event in batch if event.id in answers}
            accepted = {event_id for event_id, answer in answers.items() if answer.accepted}
            self.asked -= {event.id for event in batch} - accepted
            if len(accepted) < len(batch):
                break

    def refuse(self, event: KnownEvent) -> None:
        """Raises ConflictError with the number of places taken, if that is why."""
        answer = self._answers.get((event.id, event.version))
        if answer is not None and not answer.accepted:
            raise ConflictError(
                f"{answer.taken} places are taken: the capacity cannot be lowered to {self._capacity}.",
                taken=answer.taken,
            )

    def require(self, events: Iterable[KnownEvent]) -> None:
        """Raises NotSettledError unless all of these have been accepted as they are."""
        if any((event.id, event.version) not in self._answers for event in events):
            raise NotSettledError
