"""Connections, rooms and pushes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from eventsplatform.identity.caller import Caller
from eventsplatform.messaging.envelope import Message
from eventsplatform.realtime.model import Joined, Position, Room, pushes_of

# API Gateway closes a connection over a message of more than 128 KB; the rest of the frame has room to spare.
# https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
CAUGHT_UP_BYTES = 120_000


class RoomStore(Protocol):
    """Who is in which room, and each room's recent frames under gapless offsets."""

    def add_connection(self, connection_id: str, user_id: int) -> None: ...

    def remove_connection(self, connection_id: str) -> None: ...

    def join(self, room: Room, connection_id: str, since: Position | None) -> Joined: ...

    def publish(
        self, room: Room, message_id: str, frame: Mapping[str, Any]
    ) -> tuple[dict[str, Any] | None, Sequence[str]]:
        """The frame with its epoch and offset, and the connections to push it to; None for one seen before."""


class Pushes(Protocol):
    def post(self, connection_id: str, data: bytes) -> bool:
        """False when the connection is gone."""


class Rooms:
    def __init__(self, store: RoomStore, pushes: Pushes, organizer_of: Callable[[int], int]) -> None:
        self._store = store
        self._pushes = pushes
        self._organizer_of = organizer_of

    def connect(self, connection_id: str, caller: Caller) -> None:
        self._store.add_connection(connection_id, caller.user_id)

    def disconnect(self, connection_id: str) -> None:
        self._store.remove_connection(connection_id)

    def join(self, name: str, connection_id: str, caller: Caller, since: Position | None) -> Joined:
        """Enter a room. Raises InvalidInputError for a bad name, ForbiddenError for one that is not the caller's."""
        room = Room.parse(name)
        room.check(caller, self._organizer_of)
        return self._store.join(room, connection_id, since).at_most(CAUGHT_UP_BYTES)

    def fan_out(self, message: Message) -> int:
        """Push a platform message to everyone who may see it; the number of frames sent.

        Delivering it again is harmless: a room gives a message one offset, once. Raises PoisonMessageError
        for data that are not what its type promises.
        """
        sent = 0
        for room, visible in message.read(lambda data: list(pushes_of(message.type, data))):
            frame = {
                "type": "message",
                "room": room.name,
                "event": message.type,
                "data": visible,
                "traceparent": message.traceparent,
            }
            stored, connections = self._store.publish(room, message.id, frame)
            if stored is None:
                continue
            content = orjson.dumps(stored)
            for connection_id in connections:
                if self._pushes.post(connection_id, content):
                    sent += 1
                else:
                    self._store.remove_connection(connection_id)
        return sent
