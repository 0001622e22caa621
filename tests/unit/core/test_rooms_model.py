from __future__ import annotations

import json
from typing import Any

import pytest

from eventsplatform.errors import ForbiddenError, InvalidInputError
from eventsplatform.realtime.model import History, Joined, Room, pushes_of
from tests.support.callers import caller

REGISTRATION: dict[str, Any] = {
    "id": 900,
    "event_id": 42,
    "user_id": 7,
    "status": "active",
    "position": None,
    "registered_at": "2026-05-01T10:00:00Z",
    "offer_expires_at": None,
    "counts": {"registered": 5, "waitlisted": 1, "available": 0, "version": 6},
}


def team_of(event_id: int) -> dict[int, str]:
    return {7: "owner", 5: "manager", 6: "check_in"} if event_id == 42 else {}


def nobodys(_event_id: int) -> dict[int, str]:
    return {}


@pytest.mark.parametrize("name", ["event:1", "organizer:42", "user:9223372036854775807", "admin"])
def test_a_room_is_named_as_it_was_asked_for(name: str) -> None:
    assert Room.parse(name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "event",
        "event:",
        "event:0",
        "event:-1",
        "event:01",
        "event:1:2",
        "event:1\n",
        "event:٣",
        "Event:1",
        "admin:1",
        "event:" + "9" * 20,
        "lobby",
        "event:1{x}",
        "event:*",
    ],
)
def test_any_other_name_is_no_room(name: str) -> None:
    with pytest.raises(InvalidInputError):
        Room.parse(name)


def test_a_long_name_is_not_repeated_whole_in_the_error() -> None:
    with pytest.raises(InvalidInputError) as refused:
        Room.parse("x" * 10_000)

    assert len(refused.value.detail) < 300


@pytest.mark.parametrize(
    ("room", "who"),
    [
        ("event:42", caller(1)),
        ("user:7", caller(7)),
        ("organizer:42", caller(7)),
        ("organizer:42", caller(5)),
        ("organizer:42", caller(6)),
        ("admin", caller(1, "admin:access")),
    ],
)
def test_who_may_be_in_a_room_is_let_in(room: str, who: Any) -> None:
    Room.parse(room).check(who, team_of)


@pytest.mark.parametrize(
    ("room", "who"),
    [
        ("user:7", caller(8)),
        ("organizer:42", caller(8)),
        ("organizer:43", caller(7)),
        ("admin", caller(7, "events:read", "users:manage")),
        ("user:7", caller(8, "admin:access")),
    ],
)
def test_everyone_else_is_kept_out(room: str, who: Any) -> None:
    with pytest.raises(ForbiddenError):
        Room.parse(room).check(who, team_of)


@pytest.mark.parametrize(
    ("room", "who"),
    [
        ("event:42", caller(7)),
        ("organizer:42", caller(7)),
        ("event:42", caller(5)),
        ("user:8", caller(8)),
        ("user:8", caller(8, "events:read")),
        ("admin", caller(1, "admin:access")),
    ],
)
def test_who_may_speak_in_a_room_is_let(room: str, who: Any) -> None:
    Room.parse(room).check_publisher(who, team_of)


@pytest.mark.parametrize(
    ("room", "who"),
    [
        ("event:42", caller(8)),
        ("event:42", caller(6)),
        ("organizer:42", caller(6)),
        ("event:43", caller(7)),
        ("organizer:42", caller(8)),
        ("event:42", caller(7, "events:read", "events:create")),
        ("organizer:42", caller(7, "events:read", "events:create")),
        ("event:42", caller(8, role="admin")),
        ("user:7", caller(8)),
        ("user:7", caller(8, role="admin")),
        ("admin", caller(7)),
    ],
)
def test_nobody_else_speaks(room: str, who: Any) -> None:
    """An administrator has other means: nobody speaks in someone else's name."""
    with pytest.raises(ForbiddenError):
        Room.parse(room).check_publisher(who, team_of)


def test_the_team_is_asked_for_only_where_it_matters() -> None:
    def unavailable(_event_id: int) -> dict[int, str]:
        raise AssertionError("asked")

    Room.parse("event:42").check(caller(1), unavailable)
    Room.parse("user:1").check(caller(1), unavailable)


@pytest.mark.parametrize("status", ["published", "cancelled", "completed"])
def test_an_event_is_pushed_to_its_room(status: str) -> None:
    data = {"id": 42, "status": status, "title": "A concert", "organizer": {"id": 7}}

    assert list(pushes_of("events.published", data)) == [(Room("event", 42), data)]


def test_a_frame_of_an_event_names_nobody() -> None:
    """A room keeps its frames: a name in them could not be taken back."""
    data = {"id": 42, "status": "published", "organizer": {"id": 7, "name": "Olga Organiser"}}

    ((_, frame),) = pushes_of("events.published", data)

    assert frame["organizer"] == {"id": 7}


def test_nobody_in_an_events_room_sees_who_helps_with_it() -> None:
    data = {"id": 42, "status": "published", "organizer": {"id": 7}, "team": [{"user_id": 8, "role": "manager"}]}

    ((_, frame),) = pushes_of("events.updated", data)

    assert "team" not in frame


def test_a_draft_is_pushed_to_nobody() -> None:
    assert list(pushes_of("events.created", {"id": 42, "status": "draft"})) == []


def test_the_room_of_an_event_learns_how_many_registered_and_not_who() -> None:
    pushes = {room.name: visible for room, visible in pushes_of("registrations.created", REGISTRATION)}

    assert pushes["event:42"] == {"event_id": 42, "registered": 5, "waitlisted": 1, "available": 0}
    assert pushes["organizer:42"]["user_id"] == 7
    assert pushes["user:7"]["id"] == 900
    assert set(pushes) == {"event:42", "organizer:42", "user:7"}


def test_nothing_that_a_message_of_registrations_may_come_to_hold_reaches_the_room_of_its_event() -> None:
    personal = {**REGISTRATION, "name": "Ada", "email": "ada@example.org", "counts": {**REGISTRATION["counts"], "x": 1}}
    pushes = {room.name: visible for room, visible in pushes_of("registrations.created", personal)}

    assert set(pushes["event:42"]) == {"event_id", "registered", "waitlisted", "available"}


@pytest.mark.parametrize("message_type", ["registrations.checked_in", "registrations.check_in_undone"])
def test_who_has_come_is_told_to_the_team_and_to_the_person_alone(message_type: str) -> None:
    present = {**REGISTRATION, "status": "checked_in", "counts": {**REGISTRATION["counts"], "checked_in": 3}}
    pushes = {room.name: visible for room, visible in pushes_of(message_type, present)}

    assert set(pushes) == {"organizer:42", "user:7"}
    assert pushes["organizer:42"]["counts"]["checked_in"] == 3


@pytest.mark.parametrize("message_type", ["users.created", "curation.flagged", "analytics.tracked"])
def test_what_no_room_is_about_is_pushed_nowhere(message_type: str) -> None:
    assert list(pushes_of(message_type, {"id": 7, "name": "Ada"})) == []


def joined(messages: list[dict[str, Any]]) -> Joined:
    return Joined(Room("event", 42), "e", 300, recovered=True, messages=messages, presence=1)


def test_what_catches_a_client_up_fits_into_a_websocket_message() -> None:
    small, large = joined([{"data": "x"}] * 3), joined([{"data": "é" * 5_000}] * 300)

    assert small.at_most(100_000) is small
    refused = large.at_most(100_000)
    assert (refused.recovered, refused.messages, refused.offset) == (False, [], 300)


def test_history_that_does_not_fit_loses_its_oldest_frames() -> None:
    frames = [{"offset": offset, "data": "x" * 100} for offset in range(1, 11)]
    history = History(Room("event", 42), "e", 10, frames)

    assert history.at_most(10_000) == history
    assert [frame["offset"] for frame in history.at_most(400).messages] == [8, 9, 10]
    assert history.at_most(0).messages == []


def test_the_answer_to_a_join_is_a_frame_of_the_protocol() -> None:
    assert json.loads(json.dumps(joined([]).as_frame())) == {
        "type": "joined",
        "room": "event:42",
        "epoch": "e",
        "offset": 300,
        "recovered": True,
        "messages": [],
        "presence": 1,
    }
