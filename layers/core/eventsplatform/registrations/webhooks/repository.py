"""The SQL of webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from eventsplatform.adapters.postgres import Connection, Row
from eventsplatform.registrations.model import EventPlaces
from eventsplatform.registrations.webhooks.deliveries import Notice
from eventsplatform.registrations.webhooks.model import (
    Attempt,
    Delivery,
    DeliveryStatus,
    DisabledReason,
    Webhook,
    WebhookIn,
)
from eventsplatform.registrations.webhooks.notices import DisabledWebhook
from eventsplatform.registrations.webhooks.sender import Claimed, Outcome

# Webhooks that wait for something, and since when, are found one after the other at the beginnings of their entries in
# the index of what is pending, however much waits of each. What is being sent by somebody else is skipped, and counts
# against the few that may be under way at once.
_CLAIM = """
    WITH RECURSIVE waiting AS (
        (SELECT webhook_id, next_attempt_at
           FROM registrations.webhook_deliveries
          WHERE status = 'pending'
          ORDER BY webhook_id, next_attempt_at, id
          LIMIT 1)
         UNION ALL
        SELECT following.webhook_id, following.next_attempt_at
          FROM waiting
         CROSS JOIN LATERAL (
               SELECT webhook_id, next_attempt_at
                 FROM registrations.webhook_deliveries
                WHERE status = 'pending' AND webhook_id > waiting.webhook_id
                ORDER BY webhook_id, next_attempt_at, id
                LIMIT 1) AS following
    ), due AS (
        SELECT webhook.id AS webhook_id, delivery.id, delivery.next_attempt_at,
               row_number() OVER (PARTITION BY webhook.id ORDER BY delivery.next_attempt_at, delivery.id) AS rank
          FROM waiting
          JOIN registrations.webhooks AS webhook ON webhook.id = waiting.webhook_id
         CROSS JOIN LATERAL (
               SELECT id, next_attempt_at
                 FROM registrations.webhook_deliveries
                WHERE webhook_id = webhook.id AND status = 'pending' AND next_attempt_at <= %(now)s
                  AND (leased_until IS NULL OR leased_until <= %(now)s)
                ORDER BY next_attempt_at, id
                LIMIT greatest(0, CASE WHEN webhook.failing_since IS NULL THEN %(at_once_each)s ELSE 1 END
                                  - (SELECT count(*)
                                       FROM registrations.webhook_deliveries
                                      WHERE webhook_id = webhook.id AND leased_until > %(now)s))
                  FOR UPDATE SKIP LOCKED) AS delivery
         WHERE waiting.next_attempt_at <= %(now)s AND webhook.enabled
           AND (webhook.paused_until IS NULL OR webhook.paused_until <= %(now)s)
           AND NOT EXISTS (SELECT FROM registrations.suspended_users WHERE user_id = webhook.user_id AND suspended)
         ORDER BY rank, next_attempt_at, id
         LIMIT %(at_once)s
    ), claimed AS (
        UPDATE registrations.webhook_deliveries AS delivery
           SET attempts = attempts + 1, leased_until = %(until)s
          FROM due
         WHERE delivery.webhook_id = due.webhook_id AND delivery.id = due.id
        RETURNING delivery.*, due.rank
    )
    SELECT claimed.webhook_id, claimed.id, claimed.attempts AS attempt, claimed.message_id, claimed.body,
           claimed.created_at, webhook.url, webhook.failing_since,
           ARRAY(SELECT sealed
                   FROM registrations.webhook_secrets AS secret
                  WHERE secret.webhook_id = webhook.id AND (expires_at IS NULL OR expires_at > %(now)s)
                  ORDER BY secret.id DESC) AS sealed_secrets,
           NOT EXISTS (SELECT
                         FROM registrations.events AS event
                        WHERE event.event_id = claimed.event_id AND event.version >= claimed.event_version
                          AND event.organizer_id <> webhook.user_id
                          AND NOT event.team @> jsonb_build_array(
                                  jsonb_build_object('user_id', webhook.user_id, 'role', 'manager'))) AS entitled
      FROM claimed
      JOIN registrations.webhooks AS webhook ON webhook.id = claimed.webhook_id
     ORDER BY claimed.rank, claimed.next_attempt_at, claimed.id
"""

_DELIVERY = """
    SELECT id, message_id, type, event_id, body, status, attempts, next_attempt_at, last_attempt_at, response_status,
           response_excerpt, duration_ms, error, created_at
      FROM registrations.webhook_deliveries
"""


class PostgresWebhooks:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # Webhooks and their secrets --------------------------------------------------------------------

    def lock_webhooks(self, user_id: int) -> None:
        self._connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('webhooks:' || %s::bigint, 0))", (user_id,)
        )

    def is_erased(self, user_id: int) -> bool:
        row = self._connection.execute(
            "SELECT FROM registrations.erased_users WHERE user_id = %s", (user_id,)
        ).fetchone()
        return row is not None

    def webhooks_of(self, user_id: int) -> list[Webhook]:
        rows = self._connection.execute(
            "SELECT * FROM registrations.webhooks WHERE user_id = %s ORDER BY id", (user_id,)
        ).fetchall()
        return [_webhook(row) for row in rows]

    def find_webhook(self, webhook_id: int, user_id: int, *, for_update: bool = False) -> Webhook | None:
        statement = "SELECT * FROM registrations.webhooks WHERE id = %s AND user_id = %s"
        row = self._connection.execute(
            statement + " FOR NO KEY UPDATE" if for_update else statement, (webhook_id, user_id)
        ).fetchone()
        return _webhook(row) if row else None

    def add_webhook(self, user_id: int, webhook: WebhookIn, now: datetime) -> Webhook:
        row = self._connection.execute(
            """
            INSERT INTO registrations.webhooks
                   (user_id, url, description, event_types, event_ids, switched_at, created_at, updated_at)
            VALUES (%(user_id)s, %(url)s, %(description)s, %(event_types)s, %(event_ids)s, %(now)s, %(now)s, %(now)s)
            RETURNING *
            """,
            {"user_id": user_id, "now": now, **webhook.model_dump()},
        ).fetchone()
        assert row is not None
        return _webhook(row)

    def put_webhook(self, webhook: Webhook, switched_at: datetime | None) -> None:
        self._connection.execute(
            """
            UPDATE registrations.webhooks
               SET url = %(url)s, description = %(description)s, event_types = %(event_types)s,
                   event_ids = %(event_ids)s, enabled = %(enabled)s, disabled_reason = %(disabled_reason)s,
                   switched_at = coalesce(%(switched_at)s, switched_at), failing_since = %(failing_since)s,
                   paused_until = %(paused_until)s, updated_at = %(updated_at)s,
                   owner_untold = owner_untold AND NOT %(enabled)s
             WHERE id = %(id)s
            """,
            {**webhook.model_dump(), "switched_at": switched_at},
        )

    def delete_webhook(self, webhook_id: int) -> None:
        self._connection.execute("DELETE FROM registrations.webhooks WHERE id = %s", (webhook_id,))

    def live_secrets(self, webhook_id: int, now: datetime) -> int:
        row = self._connection.execute(
            """
            SELECT count(*) AS live
              FROM registrations.webhook_secrets
             WHERE webhook_id = %s AND (expires_at IS NULL OR expires_at > %s)
            """,
            (webhook_id, now),
        ).fetchone()
        assert row is not None
        return int(row["live"])

    def replace_secret(self, webhook_id: int, sealed: str, now: datetime, expires_at: datetime) -> None:
        values = {"webhook_id": webhook_id, "sealed": sealed, "now": now, "expires_at": expires_at}
        self._connection.execute(
            "DELETE FROM registrations.webhook_secrets WHERE webhook_id = %(webhook_id)s AND expires_at <= %(now)s",
            values,
        )
        self._connection.execute(
            """
            UPDATE registrations.webhook_secrets
               SET expires_at = %(expires_at)s
             WHERE webhook_id = %(webhook_id)s AND expires_at IS NULL
            """,
            values,
        )
        self._connection.execute(
            "INSERT INTO registrations.webhook_secrets (webhook_id, sealed) VALUES (%(webhook_id)s, %(sealed)s)", values
        )

    # What becomes a delivery -----------------------------------------------------------------------

    def find_events(self, event_ids: Sequence[int]) -> dict[int, EventPlaces]:
        rows = self._connection.execute(
            """
            SELECT event_id, organizer_id, status, starts_at, ends_at, timezone, capacity, team, version
              FROM registrations.events
             WHERE event_id = ANY(%s)
            """,
            (list(event_ids),),
        ).fetchall()
        return {row["event_id"]: EventPlaces(**row) for row in rows}

    def add_deliveries(self, notices: Sequence[Notice], now: datetime, happened_after: datetime) -> int:
        cursor = self._connection.execute(
            """
            INSERT INTO registrations.webhook_deliveries
                   (webhook_id, message_id, type, event_id, event_version, body, next_attempt_at, created_at)
            SELECT webhook.id, message_id, type, event_id, event_version, body, %(now)s, %(now)s
              FROM json_to_recordset(%(notices)s::json)
                   AS notice (position int, message_id text, type text, happened_at timestamptz, event_id bigint,
                              event_version bigint, organizers bigint[], body text)
              JOIN registrations.webhooks AS webhook ON webhook.user_id = ANY(notice.organizers)
             WHERE webhook.enabled AND happened_at >= webhook.switched_at AND happened_at > %(happened_after)s
               AND event_types && ARRAY[type, split_part(type, '.', 1) || '.*']
               AND (event_ids IS NULL OR event_id = ANY(event_ids))
               AND NOT EXISTS (SELECT FROM registrations.suspended_users WHERE user_id = webhook.user_id AND suspended)
             ORDER BY position
            ON CONFLICT (webhook_id, message_id) DO NOTHING
            """,
            {"notices": _as_json(notices), "now": now, "happened_after": happened_after},
        )
        return cursor.rowcount

    def add_test(self, webhook_id: int, message_id: str, type: str, body: str, now: datetime) -> None:
        self._connection.execute(
            """
            INSERT INTO registrations.webhook_deliveries
                   (webhook_id, message_id, type, body, next_attempt_at, created_at)
            VALUES (%(webhook_id)s, %(message_id)s, %(type)s, %(body)s, %(now)s, %(now)s)
            """,
            {"webhook_id": webhook_id, "message_id": message_id, "type": type, "body": body, "now": now},
        )

    # Sending ---------------------------------------------------------------------------------------

    def claim(self, now: datetime, until: datetime, at_once: int, at_once_each: int) -> list[Claimed]:
        rows = self._connection.execute(
            _CLAIM, {"now": now, "until": until, "at_once": at_once, "at_once_each": at_once_each}
        ).fetchall()
        return [Claimed(**row) for row in rows]

    def record(self, claimed: Claimed, outcome: Outcome) -> bool:
        row = self._connection.execute(
            """
            WITH recorded AS (
                UPDATE registrations.webhook_deliveries
                   SET status = %(status)s, next_attempt_at = %(next_attempt_at)s, leased_until = NULL,
                       attempts = CASE WHEN %(at)s::timestamptz IS NULL THEN attempts - 1 ELSE attempts END,
                       last_attempt_at = %(at)s, response_status = %(response_status)s,
                       response_excerpt = %(response_excerpt)s, duration_ms = %(duration_ms)s, error = %(error)s
                 WHERE webhook_id = %(webhook_id)s AND id = %(id)s AND attempts = %(attempt)s
                   AND leased_until IS NOT NULL
                RETURNING webhook_id
            ), webhook AS (
                UPDATE registrations.webhooks
                   SET failing_since = CASE WHEN %(failed)s THEN coalesce(failing_since, %(at)s) END,
                       paused_until = %(paused_until)s
                  FROM recorded
                 WHERE id = recorded.webhook_id AND %(at)s::timestamptz IS NOT NULL
                   AND CASE WHEN %(failed)s THEN failing_since IS NULL OR %(paused_until)s::timestamptz IS NOT NULL
                            ELSE failing_since IS NOT NULL END
            )
            SELECT FROM recorded
            """,
            {
                "webhook_id": claimed.webhook_id,
                "id": claimed.id,
                "attempt": claimed.attempt,
                "failed": outcome.failed,
                **vars(outcome),
            },
        ).fetchone()
        return row is not None

    def uncount(self, claimed: Claimed) -> None:
        self._connection.execute(
            """
            UPDATE registrations.webhook_deliveries
               SET attempts = attempts - 1
             WHERE webhook_id = %s AND id = %s AND attempts = %s AND leased_until IS NOT NULL
            """,
            (claimed.webhook_id, claimed.id, claimed.attempt),
        )

    def disable(self, webhook_id: int, reason: DisabledReason, now: datetime, failing_before: datetime | None) -> bool:
        cursor = self._connection.execute(
            """
            UPDATE registrations.webhooks
               SET enabled = false, disabled_reason = %(reason)s, switched_at = %(now)s, updated_at = %(now)s,
                   owner_untold = true
             WHERE id = %(id)s AND enabled
               AND (%(failing_before)s::timestamptz IS NULL OR failing_since <= %(failing_before)s)
            """,
            {"id": webhook_id, "reason": reason, "now": now, "failing_before": failing_before},
        )
        return cursor.rowcount > 0

    # The log ---------------------------------------------------------------------------------------

    def page_of_deliveries(
        self, webhook_id: int, status: DeliveryStatus | None, before_id: int | None, limit: int
    ) -> list[Delivery]:
        values = {"webhook_id": webhook_id, "status": status, "before_id": before_id or 2**63 - 1, "limit": limit}
        rows = self._connection.execute(_PAGE if status is None else _PAGE_OF_STATUS, values).fetchall()
        return [_delivery(row) for row in rows]

    def known_deliveries(self, webhook_id: int, delivery_ids: Sequence[int]) -> set[int]:
        rows = self._connection.execute(
            "SELECT id FROM registrations.webhook_deliveries WHERE webhook_id = %s AND id = ANY(%s)",
            (webhook_id, list(delivery_ids)),
        ).fetchall()
        return {row["id"] for row in rows}

    def end_pause(self, webhook_id: int) -> None:
        self._connection.execute(
            "UPDATE registrations.webhooks SET paused_until = NULL WHERE id = %s AND paused_until IS NOT NULL",
            (webhook_id,),
        )

    def replay(self, webhook_id: int, delivery_ids: Sequence[int], now: datetime) -> int:
        replayed = self._connection.execute(
            """
            UPDATE registrations.webhook_deliveries
               SET status = 'pending', attempts = 0, next_attempt_at = %(now)s, leased_until = NULL
             WHERE webhook_id = %(webhook_id)s AND id = ANY(%(ids)s)
               AND (leased_until IS NULL OR leased_until <= %(now)s)
            RETURNING id
            """,
            {"webhook_id": webhook_id, "ids": list(delivery_ids), "now": now},
        )
        return len(replayed.fetchall())

    def replay_range(
        self, webhook_id: int, status: DeliveryStatus, since: datetime, until: datetime, now: datetime, limit: int
    ) -> int:
        replayed = self._connection.execute(
            """
            UPDATE registrations.webhook_deliveries
               SET status = 'pending', attempts = 0, next_attempt_at = %(now)s, leased_until = NULL
             WHERE webhook_id = %(webhook_id)s
               AND id IN (SELECT id
                            FROM registrations.webhook_deliveries
                           WHERE webhook_id = %(webhook_id)s AND status = %(status)s
                             AND created_at >= %(since)s AND created_at <= %(until)s
                             AND (leased_until IS NULL OR leased_until <= %(now)s)
                           ORDER BY id
                           LIMIT %(limit)s
                             FOR UPDATE)
            RETURNING id
            """,
            {
                "webhook_id": webhook_id,
                "status": status,
                "since": since,
                "until": until,
                "now": now,
                "limit": limit,
            },
        )
        return len(replayed.fetchall())

    # What goes -------------------------------------------------------------------------------------

    def clear_log(self, webhook_id: int, user_id: int, limit: int) -> bool:
        cursor = self._connection.execute(
            """
            DELETE FROM registrations.webhook_deliveries
             WHERE webhook_id = %(webhook_id)s
               AND id IN (SELECT delivery.id
                            FROM registrations.webhook_deliveries AS delivery
                            JOIN registrations.webhooks AS webhook ON webhook.id = delivery.webhook_id
                           WHERE delivery.webhook_id = %(webhook_id)s AND webhook.user_id = %(user_id)s
                           ORDER BY delivery.id
                           LIMIT %(limit)s)
            """,
            {"webhook_id": webhook_id, "user_id": user_id, "limit": limit},
        )
        return cursor.rowcount == limit

    def clear_old(self, before: datetime, limit: int) -> int:
        cursor = self._connection.execute(
            """
            DELETE FROM registrations.webhook_deliveries
             WHERE (webhook_id, id) IN (SELECT webhook_id, id
                                          FROM registrations.webhook_deliveries
                                         WHERE created_at < %s
                                         ORDER BY created_at
                                         LIMIT %s
                                           FOR UPDATE SKIP LOCKED)
            """,
            (before, limit),
        )
        return cursor.rowcount

    def sealed_otherwise(self, prefix: str, limit: int) -> list[tuple[int, str]]:
        rows = self._connection.execute(
            "SELECT id, sealed FROM registrations.webhook_secrets WHERE NOT starts_with(sealed, %s) LIMIT %s",
            (prefix, limit),
        ).fetchall()
        return [(row["id"], row["sealed"]) for row in rows]

    def reseal(self, secret_id: int, before: str, after: str) -> None:
        self._connection.execute(
            "UPDATE registrations.webhook_secrets SET sealed = %s WHERE id = %s AND sealed = %s",
            (after, secret_id, before),
        )

    # Owners who are to be told ---------------------------------------------------------------------

    def untold(self, limit: int) -> list[DisabledWebhook]:
        rows = self._connection.execute(
            """
            SELECT id, user_id, url, description, disabled_reason, failing_since, switched_at
              FROM registrations.webhooks
             WHERE owner_untold
             ORDER BY id
             LIMIT %s
            """,
            (limit,),
        ).fetchall()
        return [DisabledWebhook(**row) for row in rows]

    def told(self, webhook: DisabledWebhook) -> None:
        self._connection.execute(
            "UPDATE registrations.webhooks SET owner_untold = false WHERE id = %s AND switched_at = %s",
            (webhook.id, webhook.switched_at),
        )

    # People ----------------------------------------------------------------------------------------

    def set_suspended(self, user_id: int, suspended: bool, version: int) -> None:
        # Most people are never suspended, and have no row.
        self._connection.execute(_SUSPENDED if suspended else _REINSTATED, {"user_id": user_id, "version": version})

    def forget_suspension(self, user_id: int) -> None:
        self._connection.execute("DELETE FROM registrations.suspended_users WHERE user_id = %s", (user_id,))

    def held_webhooks(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]:
        rows = self._connection.execute(
            """
            SELECT to_jsonb(held) AS row
              FROM registrations.webhooks AS held
             WHERE user_id = %s AND id > %s
             ORDER BY id
             LIMIT %s
            """,
            (user_id, after_id, limit),
        ).fetchall()
        return [row["row"] for row in rows]


_PAGE = (
    _DELIVERY
    + """
     WHERE webhook_id = %(webhook_id)s AND id < %(before_id)s
     ORDER BY id DESC
     LIMIT %(limit)s
"""
)
_PAGE_OF_STATUS = (
    _DELIVERY
    + """
     WHERE webhook_id = %(webhook_id)s AND status = %(status)s AND id < %(before_id)s
     ORDER BY id DESC
     LIMIT %(limit)s
"""
)

_SUSPENDED = """
    INSERT INTO registrations.suspended_users AS known (user_id, version)
    VALUES (%(user_id)s, %(version)s)
    ON CONFLICT (user_id) DO UPDATE
       SET suspended = true, version = excluded.version
     WHERE known.version < excluded.version
"""
_REINSTATED = """
    UPDATE registrations.suspended_users
       SET suspended = false, version = %(version)s
     WHERE user_id = %(user_id)s AND version < %(version)s
"""


def _webhook(row: Row) -> Webhook:
    return Webhook(**row, disabled_at=None if row["enabled"] else row["switched_at"])


def _delivery(row: Row) -> Delivery:
    last = None
    if row["last_attempt_at"] is not None:
        last = Attempt(
            at=row["last_attempt_at"],
            response_status=row["response_status"],
            response_excerpt=row["response_excerpt"],
            duration_ms=row["duration_ms"] or 0,
            error=row["error"],
        )
    return Delivery(**row, last_attempt=last)


def _as_json(notices: Sequence[Notice]) -> str:
    """With their positions, so that deliveries get their numbers in the order of the messages."""
    return orjson.dumps([{**vars(notice), "position": number} for number, notice in enumerate(notices)]).decode()
