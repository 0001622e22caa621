"""Webhooks: adding, changing and removing them, and replacing the secrets that sign what they are sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from pydantic import BaseModel

from eventsplatform.clock import Clock
from eventsplatform.errors import ConflictError, FieldError, InvalidInputError, NotFoundError, UnauthenticatedError
from eventsplatform.identity.caller import Caller
from eventsplatform.messaging.model import Appendable, AuditRecord, Work
from eventsplatform.outbound import NotPublicError
from eventsplatform.pagination import Page
from eventsplatform.registrations.model import EventFacts
from eventsplatform.registrations.webhooks.model import (
    IssuedSecret,
    NewWebhook,
    Webhook,
    WebhookIn,
    WebhookPatch,
    organizers,
)
from eventsplatform.registrations.webhooks.signing import new_secret

# Of one person.
WEBHOOKS_MAXIMUM = 10
# Those that expire, and the current one: each one more is a signature more on everything that is sent.
SECRETS_MAXIMUM = 4
# How long a secret signs beside the one that has replaced it.
OVERLAP = timedelta(hours=24)


class WebhookStore(Protocol):
    """Of webhooks it knows those of the user alone who is named."""

    def lock_webhooks(self, user_id: int) -> None:
        """Until the transaction ends nobody else adds a webhook of the user's, or erases the user."""

    def is_erased(self, user_id: int) -> bool: ...

    def webhooks_of(self, user_id: int) -> list[Webhook]: ...

    def find_webhook(self, webhook_id: int, user_id: int, *, for_update: bool = False) -> Webhook | None: ...

    def add_webhook(self, user_id: int, webhook: WebhookIn, now: datetime) -> Webhook: ...

    def put_webhook(self, webhook: Webhook, switched_at: datetime | None) -> None:
        """Replace what its owner can change; `switched_at` is the moment when it was enabled or disabled, if it was."""

    def delete_webhook(self, webhook_id: int) -> None: ...

    def clear_log(self, webhook_id: int, user_id: int, limit: int) -> bool:
        """Delete deliveries of the webhook, at most so many; whether there may be more."""

    def live_secrets(self, webhook_id: int, now: datetime) -> int: ...

    def replace_secret(self, webhook_id: int, sealed: str, now: datetime, expires_at: datetime) -> None:
        """A new current secret. The one before it, if there is one, expires then; those that have expired go."""


class Seals(Protocol):
    """Secrets in a form that the database may hold. Using them may be a call."""

    def seal(self, text: str) -> str: ...

    def open(self, sealed: str) -> str: ...


class _Issued(BaseModel):
    """What an idempotency record keeps: the secret is sealed in it."""

    webhook: Webhook
    sealed: str
    previous_expires_at: datetime | None = None


# Deliveries are deleted in steps: in one statement a million would take longer than any statement may.
STEP = 10_000


class Webhooks:
    def __init__(
        self,
        work: Work[WebhookStore],
        describe_event: Callable[[int], EventFacts],
        refuse_private: Callable[[str], None],
        seals: Seals,
        clock: Clock,
    ) -> None:
        """`describe_event` raises NotFoundError, `refuse_private` NotPublicError for a URL into a private network."""
        self._work = work
        self._describe_event = describe_event
        self._refuse_private = refuse_private
        self._seals = seals
        self._clock = clock

    def create(self, wanted: WebhookIn, caller: Caller) -> NewWebhook:
        """Raises InvalidInputError for a URL that is not public and events of others, ConflictError at the limit."""
        self._check(caller, wanted.url, wanted.event_ids)
        sealed = self._seals.seal(new_secret())

        def change(store: WebhookStore, outbox: Appendable) -> _Issued:
            store.lock_webhooks(caller.user_id)
            if store.is_erased(caller.user_id):
                raise UnauthenticatedError("The account has been erased.")
            if len(store.webhooks_of(caller.user_id)) >= WEBHOOKS_MAXIMUM:
                raise ConflictError(f"You have {WEBHOOKS_MAXIMUM} webhooks, which is the most; delete one first.")
            now = self._clock()
            webhook = store.add_webhook(caller.user_id, wanted, now)
            store.replace_secret(webhook.id, sealed, now, now + OVERLAP)
            outbox.record(_audit("created", webhook.id, caller))
            return _Issued(webhook=webhook, sealed=sealed)

        issued = self._work.run(_Issued, change)
        return NewWebhook(**issued.webhook.model_dump(), secret=self._seals.open(issued.sealed))

    def own(self, caller: Caller) -> Page[Webhook]:
        """The caller's, the oldest first: there are so few that they are one page."""
        with self._work.statement() as store:
            return Page(items=store.webhooks_of(caller.user_id))

    def get(self, webhook_id: int, caller: Caller) -> Webhook:
        """Raises NotFoundError, for webhooks of others, too."""
        with self._work.statement() as store:
            return found(store.find_webhook(webhook_id, caller.user_id), webhook_id)

    def change(self, webhook_id: int, patch: WebhookPatch, caller: Caller) -> Webhook:
        """The webhook after the merge patch. One that is enabled again has not failed yet.

        Raises NotFoundError, and InvalidInputError as creating one does.
        """
        changes = patch.model_dump(exclude_unset=True)
        self._check(caller, patch.url, patch.event_ids)

        def change(store: WebhookStore, outbox: Appendable) -> Webhook:
            before = found(store.find_webhook(webhook_id, caller.user_id, for_update=True), webhook_id)
            after = before.model_copy(update=changes)
            if after == before:
                return before
            now = self._clock()
            after.updated_at = now
            is_switched = after.enabled != before.enabled
            if is_switched:
                after.disabled_reason = None if after.enabled else "owner"
                after.disabled_at = None if after.enabled else now
            if is_switched or after.url != before.url:
                after.failing_since = after.paused_until = None
            store.put_webhook(after, now if is_switched else None)
            outbox.record(_audit("changed", webhook_id, caller, fields=sorted(changes)))
            return after

        return self._work.run(Webhook, change)

    def delete(self, webhook_id: int, caller: Caller) -> None:
        """With its secrets and its log. Raises NotFoundError."""
        with self._work.statement() as store:
            while store.clear_log(webhook_id, caller.user_id, STEP):
                pass

        def change(store: WebhookStore, outbox: Appendable) -> None:
            found(store.find_webhook(webhook_id, caller.user_id, for_update=True), webhook_id)
            store.delete_webhook(webhook_id)
            outbox.record(_audit("deleted", webhook_id, caller))

        self._work.run(None, change)

    def rotate_secret(self, webhook_id: int, caller: Caller) -> IssuedSecret:
        """A new secret, beside which the one before it goes on to sign for a day.

        Raises NotFoundError, and ConflictError when many are signing already.
        """
        sealed = self._seals.seal(new_secret())

        def change(store: WebhookStore, outbox: Appendable) -> _Issued:
            webhook = found(store.find_webhook(webhook_id, caller.user_id, for_update=True), webhook_id)
            now = self._clock()
            if store.live_secrets(webhook_id, now) >= SECRETS_MAXIMUM:
                raise ConflictError("The secret has been replaced several times today; wait until an old one expires.")
            store.replace_secret(webhook_id, sealed, now, now + OVERLAP)
            outbox.record(_audit("secret_rotated", webhook_id, caller))
            return _Issued(webhook=webhook, sealed=sealed, previous_expires_at=now + OVERLAP)

        issued = self._work.run(_Issued, change)
        return IssuedSecret(secret=self._seals.open(issued.sealed), previous_expires_at=issued.previous_expires_at)

    def _check(self, caller: Caller, url: str | None, event_ids: Sequence[int] | None) -> None:
        """Raises InvalidInputError. Both may be calls, so it is done before any transaction."""
        problems = [
            FieldError(f"/event_ids/{number}", "is not the number of an event that you organise")
            for number, event_id in enumerate(event_ids or ())
            if not self._organizes(caller, event_id)
        ]
        try:
            if url is not None:
                self._refuse_private(url)
        except NotPublicError as error:
            problems.append(FieldError("/url", str(error)))
        if problems:
            raise InvalidInputError(problems)

    def _organizes(self, caller: Caller, event_id: int) -> bool:
        try:
            event = self._describe_event(event_id)
        except NotFoundError:
            return False
        return caller.user_id in organizers(event.organizer.id, event.team)


def found(webhook: Webhook | None, webhook_id: int) -> Webhook:
    if webhook is None:
        raise NotFoundError(f"There is no webhook {webhook_id}.")
    return webhook


def _audit(act: str, webhook_id: int, caller: Caller, **details: Any) -> AuditRecord:
    """Never with its URL: part of that may be a secret of its receiver's."""
    return AuditRecord(f"webhook.{act}", "webhook", webhook_id, caller.user_id, details)
