"""The people behind webhooks, as identity tells of them: who is to be forgotten, and who is suspended meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from eventsplatform.messaging.model import Work
from eventsplatform.personal_data import HeldRows, read_held
from eventsplatform.registrations.webhooks.model import Webhook
from eventsplatform.registrations.webhooks.service import STEP


class OwnerStore(Protocol):
    def lock_webhooks(self, user_id: int) -> None: ...

    def webhooks_of(self, user_id: int) -> list[Webhook]: ...

    def clear_log(self, webhook_id: int, user_id: int, limit: int) -> bool: ...

    def delete_webhook(self, webhook_id: int) -> None: ...

    def set_suspended(self, user_id: int, suspended: bool, version: int) -> None:
        """Nothing becomes a delivery of a suspended person's webhooks, and what was one waits.

        `version` is the account's: what is said of an earlier one changes nothing.
        """

    def forget_suspension(self, user_id: int) -> None: ...

    def held_webhooks(self, user_id: int, after_id: int, limit: int) -> Sequence[dict[str, Any]]: ...


class WebhookOwners:
    def __init__(self, work: Work[OwnerStore]) -> None:
        self._work = work

    def forget(self, user_id: int) -> None:
        """Delete the webhooks of someone who has been erased here before, and all they were sent."""
        with self._work.statement() as store:
            for webhook in store.webhooks_of(user_id):
                while store.clear_log(webhook.id, user_id, STEP):
                    pass
        with self._work() as (store, _):
            # One that is being added was begun before the erasure; one that waits for this will see it.
            store.lock_webhooks(user_id)
            for webhook in store.webhooks_of(user_id):
                store.delete_webhook(webhook.id)
            store.forget_suspension(user_id)

    def set_suspended(self, user_id: int, suspended: bool, version: int) -> None:
        with self._work.statement() as store:
            store.set_suspended(user_id, suspended, version)

    def held_about(self, user_id: int, after: Mapping[str, int] | None) -> HeldRows:
        with self._work.statement() as store:
            return read_held({"webhooks": lambda after_id, limit: store.held_webhooks(user_id, after_id, limit)}, after)
