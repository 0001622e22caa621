from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from eventsplatform.adapters.redis import redis_client
from eventsplatform.clock import utc_now
from eventsplatform.errors import ConflictError, DependencyUnavailableError, ForbiddenError, PoisonMessageError
from eventsplatform.realtime.model import MAXIMUM_ROOMS, Joined, OpenConnection, Position, Room
from eventsplatform.realtime.rooms import CONNECTION_SECONDS, HISTORY_FRAMES, RedisRooms
from eventsplatform.realtime.service import CAUGHT_UP_BYTES, Rooms
from local.engines import Endpoints
from tests.support.callers import caller
from tests.support.core_environment import core_environment
from tests.support.engines import RunningEngines, engines_running
from tests.support.killing import engine_killed
from tests.support.lambda_events import message
from tests.support.polling import eventually

numbers = itertools.count(1)


@pytest.fixture
def store(adapters: Endpoints) -> RedisRooms:
    return RedisRooms()


@pytest.fixture
def room() -> Room:
    """A room that no other test knows."""
    return Room("event", next(numbers))


def open_connection(connection_id: str, user_id: int = 7) -> OpenConnection:
    return OpenConnection.of(connection_id, caller(user_id))


def publish(store: RedisRooms, room: Room, *texts: str) -> list[int]:
    """Publish a frame for each text; their offsets."""
    offsets = []
    for text in texts:
        frame, _ = store.publish(room, f"message-{next(numbers)}", {"text": text})
        assert frame is not None
        offsets.append(frame["offset"])
    return offsets


def since(joined: Joined, offset: int | None = None) -> Position:
    return Position(epoch=joined.epoch, offset=joined.offset if offset is None else offset)


def texts(joined: Joined) -> list[str]:
    return [frame["text"] for frame in joined.messages]


def test_offsets_of_a_room_have_no_gaps(store: RedisRooms, room: Room) -> None:
    assert publish(store, room, "a", "b") + publish(store, room, "c") == [1, 2, 3]


def test_a_frame_says_where_it_stands(store: RedisRooms, room: Room) -> None:
    joined = store.join(room, open_connection("c1"), None)

    frame, connections = store.publish(room, "m", {"text": "a"})

    assert frame == {"text": "a", "epoch": joined.epoch, "offset": 1}
    assert list(connections) == ["c1"]


def test_a_message_that_is_published_again_is_told_once(store: RedisRooms, room: Room) -> None:
    store.join(room, open_connection("c1"), None)
    first, _ = store.publish(room, "m", {"text": "a"})

    again = store.publish(room, "m", {"text": "a"})

    assert first is not None
    assert again == (None, ())
    assert publish(store, room, "b") == [2]


def test_the_same_message_is_told_once_in_each_of_its_rooms(store: RedisRooms, room: Room) -> None:
    other = Room("organizer", room.id)

    assert store.publish(room, "m", {})[0] is not None
    assert store.publish(other, "m", {})[0] is not None


def test_whoever_joins_anew_begins_where_the_room_is(store: RedisRooms, room: Room) -> None:
    publish(store, room, "a", "b")

    joined = store.join(room, open_connection("c1"), None)

    assert (joined.offset, joined.recovered, joined.messages) == (2, False, [])


def test_whoever_was_away_gets_exactly_what_was_missed(store: RedisRooms, room: Room) -> None:
    here = store.join(room, open_connection("c1"), None)
    publish(store, room, "a", "b", "c")

    back = store.join(room, open_connection("c1"), since(here, 1))

    assert back.recovered
    assert texts(back) == ["b", "c"]
    assert [frame["offset"] for frame in back.messages] == [2, 3]
    assert {frame["epoch"] for frame in back.messages} == {here.epoch}
    assert back.offset == 3


def test_whoever_missed_nothing_is_told_so(store: RedisRooms, room: Room) -> None:
    publish(store, room, "a")
    here = store.join(room, open_connection("c1"), None)

    back = store.join(room, open_connection("c1"), since(here))

    assert (back.recovered, back.messages) == (True, [])


@pytest.mark.parametrize("position", [Position(epoch="another", offset=1), Position(epoch="", offset=0)])
def test_a_position_of_another_epoch_recovers_nothing(store: RedisRooms, room: Room, position: Position) -> None:
    publish(store, room, "a", "b")

    back = store.join(room, open_connection("c1"), position)

    assert (back.recovered, back.messages, back.offset) == (False, [], 2)


@pytest.mark.parametrize("offset", [3, 2**53, 10**20])
def test_a_position_from_the_future_recovers_nothing(store: RedisRooms, room: Room, offset: int) -> None:
    here = store.join(room, open_connection("c1"), None)
    publish(store, room, "a", "b")

    back = store.join(room, open_connection("c1"), since(here, offset))

    assert (back.recovered, back.messages) == (False, [])


def test_history_ends_at_300_frames_and_says_so(store: RedisRooms, room: Room) -> None:
    here = store.join(room, open_connection("c1"), None)
    publish(store, room, *(str(n) for n in range(HISTORY_FRAMES + 1)))

    whole = store.join(room, open_connection("c1"), since(here, 1))
    beyond = store.join(room, open_connection("c1"), since(here, 0))

    assert whole.recovered
    assert len(whole.messages) == HISTORY_FRAMES
    assert (beyond.recovered, beyond.messages) == (False, [])


def test_a_room_whose_state_was_lost_begins_a_new_epoch(store: RedisRooms, room: Room) -> None:
    before = store.join(room, open_connection("c1"), None)
    publish(store, room, "a", "b")
    for key in redis_client().scan_iter(match=f"ws:room:{{{room.name}}}:*"):
        redis_client().delete(key)

    assert publish(store, room, "c") == [1]
    after = store.join(room, open_connection("c1"), since(before, 1))

    assert after.epoch != before.epoch
    assert (after.recovered, after.messages) == (False, [])


def test_a_room_that_lost_its_counter_alone_does_not_mix_old_frames_with_new_ones(
    store: RedisRooms, room: Room
) -> None:
    """Under memory pressure Redis evicts keys one by one."""
    publish(store, room, "old 1", "old 2", "old 3")
    redis_client().delete(f"ws:room:{{{room.name}}}:meta")

    here = store.join(room, open_connection("c1"), None)
    publish(store, room, "new 1")

    assert texts(store.join(room, open_connection("c1"), since(here))) == ["new 1"]


def test_presence_counts_connections_and_forgets_those_that_left(store: RedisRooms, room: Room) -> None:
    for connection in ("c1", "c2"):
        store.add_connection(open_connection(f"{room.name}-{connection}"))
        joined = store.join(room, open_connection(f"{room.name}-{connection}"), None)
    assert joined.presence == 2

    store.remove_connection(f"{room.name}-c1")

    assert store.join(room, open_connection(f"{room.name}-c2"), None).presence == 1
    assert list(store.publish(room, "m", {})[1]) == [f"{room.name}-c2"]


def test_a_connection_is_forgotten_everywhere(store: RedisRooms, room: Room) -> None:
    other = Room("user", room.id)
    connection = f"{room.name}-c"
    store.add_connection(open_connection(connection))
    store.join(room, open_connection(connection), None)
    store.join(other, open_connection(connection), None)

    store.remove_connection(connection)

    assert list(store.publish(room, "m", {})[1]) == []
    assert list(store.publish(other, "m", {})[1]) == []
    assert not redis_client().exists(f"ws:connection:{connection}")


def test_nothing_is_kept_of_a_connection_longer_than_it_can_last(store: RedisRooms, room: Room) -> None:
    """$disconnect may overtake a join, and is not promised to come at all."""
    connection = f"{room.name}-late"
    store.remove_connection(connection)
    store.join(room, open_connection(connection), None)

    client = redis_client()
    assert 0 < client.ttl(f"ws:connection:{connection}") <= CONNECTION_SECONDS
    assert 0 < client.ttl(f"ws:room:{{{room.name}}}:members") <= CONNECTION_SECONDS


def test_every_key_of_a_room_expires(store: RedisRooms, room: Room) -> None:
    store.join(room, open_connection("c1"), None)
    publish(store, room, "a")

    client = redis_client()
    keys = list(client.scan_iter(match=f"ws:room:{{{room.name}}}:*"))

    assert len(keys) == 4
    assert all(client.ttl(key) > 0 for key in keys)


def test_a_member_whose_time_is_over_is_neither_pushed_to_nor_counted(store: RedisRooms, room: Room) -> None:
    store.join(room, open_connection("c1"), None)
    redis_client().zadd(f"ws:room:{{{room.name}}}:members", {"gone": 1})

    assert list(store.publish(room, "m", {})[1]) == ["c1"]
    assert store.join(room, open_connection("c1"), None).presence == 1


def test_whoever_leaves_is_neither_pushed_to_nor_counted(store: RedisRooms, room: Room) -> None:
    for connection in ("c1", "c2"):
        store.join(room, open_connection(connection), None)

    store.leave(room, "c1")
    store.leave(room, "c1")

    assert list(store.publish(room, "m", {})[1]) == ["c2"]
    assert store.presence(room) == 1


def test_presence_is_known_without_being_there(store: RedisRooms, room: Room) -> None:
    assert store.presence(room) == 0

    store.join(room, open_connection("c1"), None)
    redis_client().zadd(f"ws:room:{{{room.name}}}:members", {"gone": 1})

    assert store.presence(room) == 1


def test_a_member_whose_token_has_expired_is_not_pushed_to_any_more(store: RedisRooms, room: Room) -> None:
    """Without waiting for the sweep that closes its connection."""
    expiring = dataclasses.replace(open_connection("c2"), expires_at=utc_now() - timedelta(seconds=2))
    store.join(room, open_connection("c1"), None)
    store.join(room, expiring, None)

    assert list(store.publish(room, "m", {})[1]) == ["c1"]
    assert store.presence(room) == 1


def test_history_is_the_latest_frames_oldest_first(store: RedisRooms, room: Room) -> None:
    publish(store, room, "a", "b", "c")

    history = store.history(room, 2)

    assert [(frame["text"], frame["offset"]) for frame in history.messages] == [("b", 2), ("c", 3)]
    assert history.offset == 3
    assert {frame["epoch"] for frame in history.messages} == {history.epoch}


def test_a_room_in_which_nothing_has_happened_has_no_history_and_is_not_made(store: RedisRooms, room: Room) -> None:
    history = store.history(room, 10)

    assert (history.epoch, history.offset, history.messages) == (None, 0, [])
    assert list(redis_client().scan_iter(match=f"ws:room:{{{room.name}}}:*")) == []


def test_history_that_does_not_fit_into_a_message_is_its_latest_part(
    rooms: Rooms, store: RedisRooms, room: Room
) -> None:
    publish(store, room, *(str(n) + "é" * 10_000 for n in range(10)))

    history = rooms.history(room.name, caller(1), 100)

    assert 1 < len(history.messages) < 10
    assert history.messages[-1]["offset"] == 10
    assert len(orjson.dumps(history.messages)) <= CAUGHT_UP_BYTES


def test_a_connection_enters_no_more_rooms_than_it_may(store: RedisRooms, room: Room) -> None:
    mine = open_connection(f"{room.name}-many")
    entered = [Room("event", 1_000_000 + number) for number in range(MAXIMUM_ROOMS)]
    for each in entered:
        store.join(each, mine, None)

    with pytest.raises(ConflictError):
        store.join(room, mine, None)

    assert list(store.publish(room, "m", {})[1]) == []
    assert store.join(entered[0], mine, None).presence >= 1, "one that it is in already"
    store.leave(entered[0], mine.id)
    store.join(room, mine, None)
    store.remove_connection(mine.id)


def test_connections_are_found_by_their_session_and_by_their_user(store: RedisRooms, room: Room) -> None:
    assert room.id is not None
    user_id = 10_000 + room.id
    first = open_connection(f"{room.name}-1", user_id)
    second = dataclasses.replace(first, id=f"{room.name}-2", session_id="another")
    for each in (first, second, first):
        store.add_connection(each)

    assert store.connections_of_session(first.session_id) == [first]
    assert {each.id for each in store.connections_of_user(user_id)} == {first.id, second.id}
    assert {first, second} <= {each for batch in store.all_connections() for each in batch}

    store.remove_connection(first.id)

    assert store.connections_of_session(first.session_id) == []
    assert store.connections_of_user(user_id) == [second]
    assert first not in {each for batch in store.all_connections() for each in batch}
    store.remove_connection(second.id)


def test_whoever_is_in_a_room_is_known_even_if_redis_had_forgotten_the_connection(
    store: RedisRooms, room: Room
) -> None:
    mine = open_connection(f"{room.name}-forgotten")
    store.add_connection(mine)
    redis_client().delete("ws:connections", f"ws:connection:{mine.id}")

    store.join(room, mine, None)

    assert mine in {each for batch in store.all_connections() for each in batch}


# The use cases ----------------------------------------------------------------------------------


class Sockets:
    """What was pushed to whom; `closed` ones are gone."""

    def __init__(self) -> None:
        self.pushed: list[tuple[str, bytes]] = []
        self.closed: set[str] = set()

    def post(self, connection_id: str, data: bytes) -> bool:
        self.pushed.append((connection_id, data))
        return connection_id not in self.closed


@pytest.fixture
def sockets() -> Sockets:
    return Sockets()


@pytest.fixture
def rooms(store: RedisRooms, sockets: Sockets) -> Rooms:
    return Rooms(store, sockets, lambda _: {})


def published(number: int, **data: Any) -> Any:
    return message(
        number, "events.published", data={"id": number, "status": "published", "organizer": {"id": 7}, **data}
    )


def test_a_message_reaches_everyone_in_its_room_once(rooms: Rooms, sockets: Sockets, room: Room) -> None:
    for connection in ("a", "b"):
        rooms.connect(connection, caller(1))
        rooms.join(room.name, connection, caller(1), None)
    assert room.id is not None

    assert rooms.fan_out(published(room.id)) == 2
    assert rooms.fan_out(published(room.id)) == 0, "it was delivered again"

    assert [connection for connection, _ in sockets.pushed] == ["a", "b"]


def test_a_connection_that_is_gone_is_forgotten(rooms: Rooms, sockets: Sockets, room: Room) -> None:
    for connection in (f"{room.name}-a", f"{room.name}-b"):
        rooms.connect(connection, caller(1))
        rooms.join(room.name, connection, caller(1), None)
    sockets.closed.add(f"{room.name}-a")
    assert room.id is not None

    rooms.fan_out(published(room.id))
    sockets.pushed.clear()
    rooms.fan_out(
        message(
            room.id, "events.updated", id="another", data={"id": room.id, "status": "published", "organizer": {"id": 7}}
        )
    )

    assert [connection for connection, _ in sockets.pushed] == [f"{room.name}-b"]


def test_a_message_that_no_room_can_make_sense_of_is_poison(rooms: Rooms) -> None:
    for data in ({}, {"id": 1}, {"id": 1, "status": "published", "counts": 5}):
        broken = message(1, "registrations.created", data=data)
        with pytest.raises(PoisonMessageError):
            rooms.fan_out(broken)


def test_a_long_absence_that_does_not_fit_into_a_message_is_not_recovered(rooms: Rooms, room: Room) -> None:
    assert room.id is not None
    here = rooms.join(room.name, "a", caller(1), None)
    for number in range(20):
        rooms.fan_out(
            published(room.id, description="é" * 5_000)
            if number == 0
            else message(
                room.id,
                "events.updated",
                id=f"{room.id}-{number}",
                data={"id": room.id, "status": "published", "organizer": {"id": 7}, "description": "é" * 5_000},
            )
        )

    back = rooms.join(room.name, "a", caller(1), since(here))

    assert (back.recovered, back.messages, back.offset) == (False, [], 20)


def test_what_is_published_reaches_the_room_and_says_who_said_it(
    store: RedisRooms, sockets: Sockets, room: Room
) -> None:
    assert room.id is not None
    rooms = Rooms(store, sockets, lambda _: {7: "owner"})
    for connection in ("a", "b"):
        rooms.join(room.name, connection, caller(1), None)

    said = rooms.publish(room.name, {"text": "Doors open at eight."}, caller(7))

    assert (said["event"], said["from"], said["offset"]) == ("rooms.published", 7, 1)
    assert said["data"] == {"text": "Doors open at eight."}
    assert [(to, orjson.loads(content)) for to, content in sockets.pushed] == [("a", said), ("b", said)]
    assert rooms.history(room.name, caller(1), 10).messages == [said]


def test_the_same_thing_may_be_said_twice(store: RedisRooms, sockets: Sockets, room: Room) -> None:
    rooms = Rooms(store, sockets, lambda _: {7: "owner"})

    assert [rooms.publish(room.name, {"text": "Hello?"}, caller(7))["offset"] for _ in range(2)] == [1, 2]


def test_nobody_speaks_in_a_room_that_is_not_theirs(store: RedisRooms, sockets: Sockets, room: Room) -> None:
    rooms = Rooms(store, sockets, lambda _: {7: "owner"})
    rooms.join(room.name, "a", caller(1), None)

    with pytest.raises(ForbiddenError):
        rooms.publish(room.name, {"text": "It is cancelled!"}, caller(1))

    assert sockets.pushed == []
    assert rooms.history(room.name, caller(1), 10).messages == []


TEAM = {7: "owner", 8: "manager", 9: "check_in"}


def test_everyone_who_helps_hears_what_the_organiser_hears(store: RedisRooms, sockets: Sockets, room: Room) -> None:
    rooms = Rooms(store, sockets, lambda _: TEAM)

    for user_id in TEAM:
        assert rooms.join(f"organizer:{room.id}", str(user_id), caller(user_id), None).presence
    with pytest.raises(ForbiddenError):
        rooms.join(f"organizer:{room.id}", "other", caller(10), None)


def test_managers_speak_in_an_events_room_and_people_at_the_door_do_not(
    store: RedisRooms, sockets: Sockets, room: Room
) -> None:
    rooms = Rooms(store, sockets, lambda _: TEAM)

    assert rooms.publish(room.name, {"text": "Doors open."}, caller(8))["from"] == 8
    with pytest.raises(ForbiddenError):
        rooms.publish(room.name, {"text": "Doors open."}, caller(9))


@pytest.mark.parametrize("status", ["draft", "published"])
def test_who_helps_no_longer_hears_no_more(store: RedisRooms, sockets: Sockets, room: Room, status: str) -> None:
    # Given a room with all who help
    team = dict(TEAM)
    rooms = Rooms(store, sockets, lambda _: team)
    ours = f"organizer:{room.id}"
    for user_id in TEAM:
        rooms.join(ours, str(user_id), caller(user_id), None)

    # When one of them is taken out of the team
    del team[8]
    rooms.fan_out(published(room.id or 0, status=status, team=[{"user_id": 9, "role": "check_in"}]))

    # Then that one is told, and hears no more
    told = [(to, orjson.loads(content)) for to, content in sockets.pushed]
    assert told == [("8", {"type": "left", "room": ours})]
    assert rooms.presence(ours, caller(7)) == 2
    assert {each.user_id for each in store.members(Room("organizer", room.id))} == {7, 9}


def test_a_message_of_when_somebody_did_not_help_yet_puts_nobody_out(
    store: RedisRooms, sockets: Sockets, room: Room
) -> None:
    rooms = Rooms(store, sockets, lambda _: TEAM)
    rooms.join(f"organizer:{room.id}", "8", caller(8), None)

    rooms.fan_out(published(room.id or 0, team=[]))

    assert rooms.presence(f"organizer:{room.id}", caller(7)) == 1
    assert sockets.pushed == []


@pytest.mark.parametrize("act", [Rooms.presence, lambda rooms, name, who: rooms.history(name, who, 10)])
def test_a_room_tells_nothing_to_whom_it_does_not_let_in(rooms: Rooms, act: Any) -> None:
    for name in ("user:8", "organizer:5", "admin"):
        with pytest.raises(ForbiddenError):
            act(rooms, name, caller(7))


def test_a_connection_is_kept_without_redis() -> None:
    with core_environment(Endpoints(redis="redis://127.0.0.1:1")):
        Rooms(RedisRooms(), Sockets(), lambda _: {}).keep("c1", caller(7))


# Without Redis ----------------------------------------------------------------------------------


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[RunningEngines]:
    """A Valkey that this test may kill."""
    with engines_running(tmp_path, only=frozenset({"redis"})) as running:
        yield running


def test_rooms_are_unavailable_without_redis_and_come_back_with_a_new_epoch(mortal: RunningEngines, room: Room) -> None:
    with core_environment(mortal.endpoints):
        store = RedisRooms()
        before = store.join(room, open_connection("c1"), None)
        publish(store, room, "a")
        redis_client().flushall()
        after = store.join(room, open_connection("c1"), since(before, 0))
        assert after.epoch != before.epoch
        assert not after.recovered

        with engine_killed(mortal, "redis"):
            pass

        eventually(lambda: store.join(room, open_connection("c1"), None), within=30, what="rooms again")
        assert publish(store, room, "b")[0] > 0


def test_rooms_are_unavailable_where_no_redis_is() -> None:
    with core_environment(Endpoints(redis="redis://127.0.0.1:1")):
        store = RedisRooms()
        for attempt in (
            lambda: store.add_connection(open_connection("c1")),
            lambda: store.remove_connection("c1"),
            lambda: store.join(Room("event", 1), open_connection("c1"), None),
            lambda: store.publish(Room("event", 1), "m", {}),
        ):
            with pytest.raises(DependencyUnavailableError):
                attempt()
