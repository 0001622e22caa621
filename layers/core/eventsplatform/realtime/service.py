"""Rooms and pushes: who is in them, what is said in them, and what becomes of platform messages."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import orjson

from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.identity.caller import Caller
from eventsplatform.messaging.envelope import Message
from eventsplatform.realtime.model import (
    History,
    Joined,
    OpenConnection,
    Position,
    Room,
    TeamOf,
    left_frame,
    pushes_of,
    team_in,
)
from eventsplatform.tracing import current_traceparent

# API Gateway closes a connection over a message of more than 128 KB; the rest of the frame has room to spare.
# https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
CAUGHT_UP_BYTES = 120_000

PUBLISHED = "rooms.published"


class RoomStore(Protocol):
    """Who is in which room, and each room's recent frames under gapless offsets."""

    def add_connection(self, connection: OpenConnection) -> None:
        """Adding it again changes nothing."""

    def remove_connection(self, connection_id: str) -> None: ...

    def join(self, room: Room, connection: OpenConnection, since: Position | None) -> Joined:
        """Raises ConflictError for a connection that is in too many rooms."""

    def leave(self, room: Room, connection_id: str) -> None: ...

    def presence(self, room: Room) -> int: ...

    def members(self, room: Room) -> list[OpenConnection]: ...

    def history(self, room: Room, limit: int) -> History:
        """The room's latest frames, at most `limit`."""

    def remove_room(self, room: Room) -> None:
        """Its frames and who was in it; whoever joins later finds a new epoch."""

    def publish(
        self, room: Room, message_id: str, frame: Mapping[str, Any]
    ) -> tuple[dict[str, Any] | None, Sequence[str]]:
        """The frame with its epoch and offset, and the connections to push it to; None for one seen before."""


class Pushes(Protocol):
    def post(self, connection_id: str, data: bytes) -> bool:
        """False when the connection is gone."""


class Rooms:
    def __init__(self, store: RoomStore, pushes: Pushes, team_of: TeamOf) -> None:
        self._store = store
        self._pushes = pushes
        self._team_of = team_of

    def connect(self, connection_id: str, caller: Caller) -> None:
        """Know a connection and whose it is, so that it can be closed when its session ends."""
        self._store.add_connection(OpenConnection.of(connection_id, caller))

    def keep(self, connection_id: str, caller: Caller) -> None:
        """Know a connection again, should Redis have forgotten it; a client that pings needs no Redis."""
        with suppress(DependencyUnavailableError):
            self.connect(connection_id, caller)

    def disconnect(self, connection_id: str) -> None:
        self._store.remove_connection(connection_id)

    def join(self, name: str, connection_id: str, caller: Caller, since: Position | None) -> Joined:
        """Enter a room.

        Raises InvalidInputError for a bad name, ForbiddenError for a room that is not the caller's, ConflictError
        for a connection that is in too many.
        """
        room = self._room(name, caller)
        return self._store.join(room, OpenConnection.of(connection_id, caller), since).at_most(CAUGHT_UP_BYTES)

    def leave(self, name: str, connection_id: str) -> Room:
        """Leave a room, whether or not the connection is in it. Raises InvalidInputError for a bad name."""
        room = Room.parse(name)
        self._store.leave(room, connection_id)
        return room

    def presence(self, name: str, caller: Caller) -> int:
        """How many connections are in a room. Raises InvalidInputError or ForbiddenError, as joining it does."""
        return self._store.presence(self._room(name, caller))

    def history(self, name: str, caller: Caller, limit: int) -> History:
        """What was said in a room of late. Raises InvalidInputError or ForbiddenError, as joining it does."""
        return self._store.history(self._room(name, caller), limit).at_most(CAUGHT_UP_BYTES)

    def publish(self, name: str, data: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """Say something to everyone in a room; the frame they are pushed.

        It names who said it and never passes for a message of the platform's own. Raises InvalidInputError for a
        bad name, ForbiddenError for a room in which the caller may not speak.
        """
        room = Room.parse(name)
        room.check_publisher(caller, self._team_of)
        frame = {
            "type": "message",
            "room": room.name,
            "event": PUBLISHED,
            "data": data,
            "from": caller.user_id,
            "traceparent": current_traceparent(),
        }
        stored, connections = self._store.publish(room, secrets.token_hex(16), frame)
        assert stored is not None
        self._push(stored, connections)
        return stored

    def forget(self, user_id: int) -> None:
        """Take away the room of who has been erased; others name nobody."""
        self._store.remove_room(Room("user", user_id))

    def fan_out(self, message: Message) -> int:
        """Push a platform message to everyone who may see it; the number of frames sent.

        Whoever helps with an event no longer is put out of its organiser's room, and told so. Delivering a message
        again is harmless: a room gives it one offset, once. Raises PoisonMessageError for data that are not what its
        type promises.
        """
        if message.domain == "events":
            self._keep_to_the_team(message)
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
            if stored is not None:
                sent += self._push(stored, connections)
        return sent

    def _keep_to_the_team(self, message: Message) -> None:
        """The message may be an old one: before somebody is put out, the catalog is asked who is in the team now."""
        room, team = message.read(lambda event: (Room("organizer", event["id"]), team_in(event)))
        others = [each for each in self._store.members(room) if each.user_id not in team]
        if not others or room.id is None:
            return
        present = self._team_of(room.id)
        for connection in others:
            if connection.user_id not in present:
                self._store.leave(room, connection.id)
                self._pushes.post(connection.id, orjson.dumps(left_frame(room)))

    def _push(self, frame: Mapping[str, Any], connections: Sequence[str]) -> int:
        content = orjson.dumps(frame)
        sent = 0
        for connection_id in connections:
            if self._pushes.post(connection_id, content):
                sent += 1
            else:
                self._store.remove_connection(connection_id)
        return sent

    def _room(self, name: str, caller: Caller) -> Room:
        room = Room.parse(name)
        room.check(caller, self._team_of)
        return room
