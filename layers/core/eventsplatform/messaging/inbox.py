"""Records of messages that had their effect here: a row in the transaction of the effect, in the service's own schema.

A message comes at least once. Whoever does with it what must not be done twice keeps its row together with what was
done, so there is neither an effect without a row nor a row without its effect. Projections that compare versions
need none.
"""

from __future__ import annotations

import hashlib

import orjson
from psycopg import sql

from eventsplatform.adapters.postgres import Connection
from eventsplatform.messaging.envelope import Message

# Kafka keeps messages for seven days, and lets go of whole segments: what is older can't come again.
KEPT_DAYS = 8


class Inbox:
    """The table `<schema>.inbox` as one consumer sees it, which its consumer group names."""

    def __init__(self, schema: str, consumer: str) -> None:
        self.consumer = consumer
        # Each row takes away two that cannot be asked for any more, so that none is left to clear up.
        self._add = sql.SQL(
            """
            WITH expired AS (
                DELETE FROM {0}
                 WHERE id IN (SELECT id FROM {0}
                               WHERE created_at < now() - make_interval(days => {1})
                               ORDER BY created_at LIMIT 2 FOR UPDATE SKIP LOCKED)
            )
            INSERT INTO {0} (id) VALUES (%s) ON CONFLICT (id) DO NOTHING
            RETURNING id
            """
        ).format(sql.Identifier(schema, "inbox"), sql.Literal(KEPT_DAYS))

    def add(self, connection: Connection, message: Message) -> bool:
        """Whether the message is new. One that another transaction is at work on is waited for.

        Raises RuntimeError without a consumer's name: messages of several consumers would be taken for one another.
        """
        if not self.consumer:
            raise RuntimeError("an inbox is a consumer's: CONSUMER_GROUP is not set")
        return connection.execute(self._add, (self._id_of(message),)).fetchone() is not None

    def _id_of(self, message: Message) -> bytes:
        """CloudEvents tells messages apart by source and id. A replay is meant to have its effect again."""
        parts = [self.consumer, message.source, message.id, message.replay_id]
        return hashlib.sha256(orjson.dumps(parts)).digest()
