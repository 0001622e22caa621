"""Telling owners by mail that a webhook of theirs has been disabled: nothing else shows them that nothing comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from urllib.parse import urlsplit

from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.mail import Mail, MailRejectedError, subject_line
from eventsplatform.messaging.model import Work
from eventsplatform.registrations.mail_model import Recipient
from eventsplatform.registrations.webhooks.model import DisabledReason

AT_ONCE = 20


@dataclass(frozen=True)
class DisabledWebhook:
    """A webhook that is disabled, of which its owner has not been told; `switched_at` tells this from other times."""

    id: int
    user_id: int
    url: str
    description: str
    disabled_reason: DisabledReason
    failing_since: datetime | None
    switched_at: datetime


class NoticeStore(Protocol):
    def untold(self, limit: int) -> list[DisabledWebhook]: ...

    def told(self, webhook: DisabledWebhook) -> None: ...


class People(Protocol):
    def recipients(self, user_ids: Sequence[int]) -> Mapping[int, Recipient]:
        """Those of the users whom mail can be sent to. Raises DependencyUnavailableError."""


class OwnerNotices:
    def __init__(self, work: Work[NoticeStore], people: People, deliver: Callable[[Mail], None]) -> None:
        self._work = work
        self._people = people
        self._deliver = deliver

    def send(self) -> int:
        """How many owners were told. When mail or identity does not answer, the rest is told a minute later.

        Who dies between sending and recording sends a mail again.
        """
        with self._work.statement() as store:
            untold = store.untold(AT_ONCE)
        sent = 0
        try:
            people = self._people.recipients(sorted({webhook.user_id for webhook in untold})) if untold else {}
            for webhook in untold:
                person = people.get(webhook.user_id)
                sent += self._tell(webhook, person) if person else False
                with self._work.statement() as store:
                    store.told(webhook)
        except DependencyUnavailableError:
            pass
        return sent

    def _tell(self, webhook: DisabledWebhook, person: Recipient) -> bool:
        try:
            self._deliver(Mail(person.email, _subject(webhook), _text(webhook, person)))
        except MailRejectedError:
            return False
        return True


def _subject(webhook: DisabledWebhook) -> str:
    return subject_line(f"Your webhook {webhook.id} is disabled")


def _text(webhook: DisabledWebhook, person: Recipient) -> str:
    """Of its URL the host alone: the rest may hold a secret of the receiver's."""
    host = urlsplit(webhook.url).hostname
    named = f" (“{webhook.description}”)" if webhook.description else ""
    if webhook.disabled_reason == "gone":
        why = f"{host} has answered 410 Gone, by which a receiver says that it wants nothing more."
    else:
        since = f" since {webhook.failing_since:%Y-%m-%d}" if webhook.failing_since else ""
        why = f"no delivery to {host} has succeeded{since}."
    return "\n\n".join(
        (
            f"Hello {person.name},",
            f"your webhook {webhook.id}{named} is disabled, and no longer told what happens to your events: {why}",
            "What was waiting is kept for 30 days. Enable the webhook again when its receiver is back, and it is sent.",
            "-- \nEvents Platform",
        )
    )
