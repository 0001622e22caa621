"""Records of messages that had their effect here: a row in the transaction of the effect, in the service's own schema.

A message comes at least once. Whoever does with it what must not be done twice keeps its row together with what was
done, so there is neither an effect without a row nor a row without its effect. Projections that compare versions
need none.
"""

from __future__ import annotations

import hashlib

import orjson
from psycopg import sql

from eventsplatform.adapters.postgres import Connection, Database
from eventsplatform.errors import PlatformError
from eventsplatform.idempotency import NamedRequest
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.idempotency import Outcome, RequestRecords, expired_records, refusal_of


class CommandRecords:
    """What commands came to: kept by the use cases that carry them out (`UnitOfWork.run`), and looked up here."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._records = RequestRecords(database.role, "inbox")

    def outcome_of(self, request: NamedRequest) -> Outcome | None:
        """What it came to before. Raises InvalidInputError when its name is that of another command."""
        with self._database.autocommit() as connection:
            return self._records.look_for(connection, request)

    def refuse(self, request: NamedRequest, error: PlatformError) -> Outcome:
        """What the command came to first: this refusal, unless another delivery of it had another outcome."""
        with self._database.autocommit() as connection:
            return self._records.settle(connection, request, refusal_of(error))


class Inbox:
    """The table `<schema>.inbox` as one consumer sees it, which its consumer group names."""

    def __init__(self, schema: str, consumer: str) -> None:
        self.consumer = consumer
        self._add = sql.SQL(
            "WITH expired AS ({}) INSERT INTO {} (id) VALUES (%s) ON CONFLICT (id) DO NOTHING RETURNING id"
        ).format(expired_records(schema, "inbox"), sql.Identifier(schema, "inbox"))

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
