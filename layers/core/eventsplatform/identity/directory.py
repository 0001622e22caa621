"""What other services ask of many people at once: what they are called, and how to write to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from eventsplatform.identity.model import UserSummary
from eventsplatform.identity.people import Recipient
from eventsplatform.messaging.model import Work


class DirectoryStore(Protocol):
    def summaries_of(self, user_ids: Sequence[int]) -> list[UserSummary]:
        """Of those whose accounts are not erased."""

    def recipients_among(self, user_ids: Sequence[int]) -> list[Recipient]:
        """Those whose address is confirmed and whose account is active."""


class PeopleDirectory:
    def __init__(self, work: Work[DirectoryStore]) -> None:
        self._work = work

    def summaries_of(self, user_ids: Sequence[int]) -> list[UserSummary]:
        """What other services may know of users; nothing of those who never were or are erased."""
        with self._work.statement() as store:
            return store.summaries_of(user_ids)

    def recipients_among(self, user_ids: Sequence[int]) -> list[Recipient]:
        """Whom mail can be sent to: who has confirmed the address, and is neither suspended nor erased."""
        with self._work.statement() as store:
            return store.recipients_among(user_ids)
