"""Rooms, who may do what in them, the connections that are in them, and the frames pushed to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from eventsplatform.errors import FieldError, ForbiddenError, InvalidInputError
from eventsplatform.identity.caller import Caller

RoomKind = Literal["event", "organizer", "user", "admin"]

# What one client publishes is pushed to everyone in the room and kept for those who come back.
PUBLISHED_BYTES = 8 * 1024
# Of a connection, so that nobody fills Redis with rooms.
MAXIMUM_ROOMS = 100

# Of an event, by user id the role of its owner and of each who helps; empty when there is no such event.
TeamOf = Callable[[int], Mapping[int, str]]
_MANAGERS = frozenset({"owner", "manager"})
_TEAM = _MANAGERS | {"check_in"}

_ROOM = re.compile(r"(?:(event|organizer|user):([1-9][0-9]{0,18})|(admin))")


@dataclass(frozen=True)
class Room:
    """`event:{id}`, `organizer:{event_id}`, `user:{id}` or `admin`."""

    kind: RoomKind
    id: int | None = None

    @classmethod
    def parse(cls, name: str) -> Room:
        """Raises InvalidInputError for a name that is no room's."""
        match = _ROOM.fullmatch(name)
        if match is None:
            raise InvalidInputError(
                [
                    FieldError(
                        "/room",
                        f"{name[:60]!r} is no room; allowed: event:<id>, organizer:<event id>, user:<id>, admin",
                    )
                ]
            )
        if match[3]:
            return cls("admin")
        return cls(match[1], int(match[2]))  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        return self.kind if self.id is None else f"{self.kind}:{self.id}"

    def check(self, caller: Caller, team_of: TeamOf) -> None:
        """Raises ForbiddenError unless the caller may be here: in `organizer:{id}` whoever helps with the event."""
        if self.kind != "event" and not self._is_own(caller, team_of, _TEAM):
            raise ForbiddenError(f"You may not be in the room {self.name!r}.")

    def check_publisher(self, caller: Caller, team_of: TeamOf) -> None:
        """Raises ForbiddenError unless the caller may speak here: in an event's rooms only its owner and managers."""
        needed = "events:update" if self.kind in ("event", "organizer") else None
        if (needed is not None and needed not in caller.permissions) or not self._is_own(caller, team_of, _MANAGERS):
            raise ForbiddenError(f"You may not publish into the room {self.name!r}.")

    def _is_own(self, caller: Caller, team_of: TeamOf, roles: frozenset[str]) -> bool:
        match self.kind:
            case "user":
                return self.id == caller.user_id
            case "admin":
                return "admin:access" in caller.permissions
            case "event" | "organizer":
                return self.id is not None and team_of(self.id).get(caller.user_id) in roles


@dataclass(frozen=True)
class OpenConnection:
    """A connection, and the session and access token that it was opened with."""

    id: str
    user_id: int
    session_id: str
    token_id: str
    generation: int
    expires_at: datetime

    @classmethod
    def of(cls, connection_id: str, caller: Caller) -> OpenConnection:
        return cls(
            id=connection_id,
            user_id=caller.user_id,
            session_id=caller.session_id,
            token_id=caller.token_id,
            generation=caller.generation,
            expires_at=caller.expires_at,
        )


def _bounded(data: dict[str, Any]) -> dict[str, Any]:
    if len(orjson.dumps(data)) > PUBLISHED_BYTES:
        raise ValueError(f"must take at most {PUBLISHED_BYTES} bytes as JSON")
    return data


Content = Annotated[dict[str, Any], AfterValidator(_bounded)]
"""What a client publishes: an object of its own making."""


class Position(BaseModel):
    """How far a client has come in a room: the room's epoch and the offset of the last frame it saw."""

    model_config = ConfigDict(extra="forbid")

    epoch: str = Field(max_length=64)
    offset: int = Field(ge=0)


@dataclass(frozen=True)
class Joined:
    """What a room answers to a join. `recovered` means that `messages` close the gap since the client's position."""

    room: Room
    epoch: str
    offset: int
    recovered: bool
    messages: list[dict[str, Any]]
    presence: int

    def at_most(self, size: int) -> Joined:
        """Without the messages when they take more than `size` bytes: the client then reads the state anew."""
        if len(orjson.dumps(self.messages)) <= size:
            return self
        return replace(self, recovered=False, messages=[])

    def as_frame(self) -> dict[str, Any]:
        return {
            "type": "joined",
            "room": self.room.name,
            "epoch": self.epoch,
            "offset": self.offset,
            "recovered": self.recovered,
            "messages": self.messages,
            "presence": self.presence,
        }


@dataclass(frozen=True)
class History:
    """A room's latest frames, oldest first. `epoch` is None for a room in which nothing has happened yet."""

    room: Room
    epoch: str | None
    offset: int
    messages: list[dict[str, Any]]

    def at_most(self, size: int) -> History:
        """The latest of them, as many as take at most `size` bytes."""
        kept: list[dict[str, Any]] = []
        for message in reversed(self.messages):
            size -= len(orjson.dumps(message)) + 1
            if size < 0:
                break
            kept.append(message)
        return replace(self, messages=kept[::-1])

    def as_frame(self) -> dict[str, Any]:
        return {
            "type": "history",
            "room": self.room.name,
            "epoch": self.epoch,
            "offset": self.offset,
            "messages": self.messages,
        }


def left_frame(room: Room) -> dict[str, Any]:
    """What a connection is told that is in a room no more, whoever has ended that."""
    return {"type": "left", "room": room.name}


# They change nothing that everyone sees: who has come is between the person and the team.
_OF_THE_DOOR = frozenset({"registrations.checked_in", "registrations.check_in_undone"})


def pushes_of(message_type: str, data: Mapping[str, Any]) -> Iterator[tuple[Room, dict[str, Any]]]:
    """The rooms a platform message is pushed to, and what each of them may see of it.

    Everyone in an event's room sees numbers, never who registered; the organiser and the person see the
    registration. A draft is pushed to nobody: its room is open to anyone signed in.
    """
    domain = message_type.partition(".")[0]
    if domain == "events" and data["status"] != "draft":
        # Rooms keep their frames for a while: the organiser's name stays where it can be taken back. Who helps is
        # the team's business.
        visible = {name: value for name, value in data.items() if name != "team"}
        yield Room("event", data["id"]), {**visible, "organizer": {"id": data["organizer"]["id"]}}
    elif domain == "registrations":
        event_id = data["event_id"]
        if message_type not in _OF_THE_DOOR:
            yield Room("event", event_id), {"event_id": event_id, **_counts(data)}
        yield Room("organizer", event_id), dict(data)
        yield Room("user", data["user_id"]), dict(data)


def team_in(event: Mapping[str, Any]) -> dict[int, str]:
    """By user id the role of the owner and of each who helps, as the catalog tells of an event."""
    members = {member["user_id"]: member["role"] for member in event.get("team", ())}
    return {**members, event["organizer"]["id"]: "owner"}


def _counts(data: Mapping[str, Any]) -> dict[str, Any]:
    counts = data["counts"]
    return {name: counts[name] for name in ("registered", "waitlisted", "available")}
