"""Connections whose session has ended, or whose token has expired, are closed."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from eventsplatform.adapters.redis import redis_client
from eventsplatform.clock import utc_now
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.gate.model import Session, SessionState
from eventsplatform.gate.revocations import LiveRevocations, Revocations
from eventsplatform.realtime.connections import Connections
from eventsplatform.realtime.model import OpenConnection, Room
from eventsplatform.realtime.rooms import RedisRooms
from local.engines import Endpoints
from tests.support.callers import caller

numbers = itertools.count(1)


class Sockets:
    """What was said to whom, and who was closed; `stuck` ones cannot be."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}
        self.closed: list[str] = []
        self.stuck: set[str] = set()

    def post(self, connection_id: str, data: bytes) -> bool:
        assert connection_id not in self.closed
        frame = json.loads(data)
        assert (frame["type"], frame["code"]) == ("error", "unauthenticated")
        self.told[connection_id] = frame["detail"]
        return True

    def close(self, connection_id: str) -> bool:
        if connection_id in self.stuck:
            return False
        self.closed.append(connection_id)
        return True


class Identity:
    """Postgres' word about sessions. Asked about one it copies what it knows, where the copy can be written."""

    def __init__(self, revocations: Revocations) -> None:
        self.ended: set[str] = set()
        self.asked: list[str] = []
        self.down = False
        self.copies = True
        self._revocations = revocations

    def check(self, session: Session) -> SessionState:
        if self.down:
            raise DependencyUnavailableError("service behind this one")
        self.asked.append(session.session_id)
        if self.copies:
            self._revocations.restore(lambda: LiveRevocations(session_ids=self.ended))
        return SessionState(live=session.session_id not in self.ended, verified=True)


@pytest.fixture
def store(adapters: Endpoints) -> Iterator[RedisRooms]:
    """Without any connection or revocation."""
    forget_all()
    yield RedisRooms()
    forget_all()


def forget_all() -> None:
    for pattern in ("ws:connection*", "session:*"):
        for key in redis_client().scan_iter(match=pattern):
            redis_client().delete(key)


@pytest.fixture
def revocations(store: RedisRooms) -> Revocations:
    return Revocations(redis_client())


@pytest.fixture
def identity(revocations: Revocations) -> Identity:
    return Identity(revocations)


@pytest.fixture
def sockets() -> Sockets:
    return Sockets()


@pytest.fixture
def connections(store: RedisRooms, sockets: Sockets, revocations: Revocations, identity: Identity) -> Connections:
    return Connections(store, sockets, revocations, identity, utc_now)


def opened(
    store: RedisRooms, *, user: int = 7, session: str = "s-1", generation: int = 1, seconds_left: float = 900
) -> OpenConnection:
    connection = dataclasses.replace(
        OpenConnection.of(f"connection-{next(numbers)}", caller(user)),
        session_id=session,
        generation=generation,
        expires_at=utc_now().replace(microsecond=0) + timedelta(seconds=seconds_left),
    )
    store.add_connection(connection)
    return connection


def known(store: RedisRooms) -> set[str]:
    return {connection.id for batch in store.all_connections() for connection in batch}


# At identity's word -----------------------------------------------------------------------------


def test_what_was_opened_with_an_ended_session_is_closed_and_nothing_else(
    store: RedisRooms, connections: Connections, sockets: Sockets
) -> None:
    first, second = opened(store, session="ends"), opened(store, session="ends")
    other = opened(store, session="stays")

    assert connections.close_session("ends") == 2

    assert set(sockets.closed) == {first.id, second.id}
    assert set(sockets.told.values()) == {"This session has ended; sign in again."}
    assert known(store) == {other.id}
    assert connections.close_session("ends") == 0


def test_what_was_opened_with_tokens_of_an_earlier_generation_is_closed_and_nothing_else(
    store: RedisRooms, connections: Connections, sockets: Sockets
) -> None:
    earlier = [opened(store, generation=1), opened(store, generation=2, session="s-2")]
    later, other = opened(store, generation=3), opened(store, user=8, generation=1)

    assert connections.close_user(7, 3) == 2

    assert set(sockets.closed) == {each.id for each in earlier}
    assert known(store) == {later.id, other.id}


def test_a_closed_connection_has_left_its_rooms(store: RedisRooms, connections: Connections) -> None:
    room = Room("event", 77_000_000)
    ends, stays = opened(store, session="ends"), opened(store, session="stays")
    for each in (ends, stays):
        store.join(room, each, None)

    connections.close_session("ends")

    assert list(store.publish(room, f"message-{next(numbers)}", {})[1]) == [stays.id]


# In the sweep -----------------------------------------------------------------------------------


def test_the_sweep_closes_what_has_expired_and_what_has_ended_and_nothing_else(
    store: RedisRooms, connections: Connections, revocations: Revocations, sockets: Sockets
) -> None:
    expired = opened(store, seconds_left=-1)
    ended = opened(store, session="ends")
    outdated = opened(store, user=9, generation=1)
    live = opened(store, seconds_left=60)
    revocations.end_session("ends")
    revocations.end_user(9, 2)

    assert connections.sweep() == 3

    assert set(sockets.closed) == {expired.id, ended.id, outdated.id}
    assert sockets.told[expired.id] == "The access token has expired; connect again with a new one."
    assert sockets.told[ended.id] == "This session has ended; sign in again."
    assert known(store) == {live.id}
    assert connections.sweep() == 0


def test_the_sweep_of_live_sessions_closes_nothing(
    store: RedisRooms, connections: Connections, sockets: Sockets
) -> None:
    """The control."""
    live = [opened(store, session=f"s-{number}") for number in range(5)]

    assert connections.sweep() == 0

    assert sockets.told == {}
    assert known(store) == {each.id for each in live}


def test_while_the_copy_is_complete_identity_is_not_asked(
    store: RedisRooms, connections: Connections, revocations: Revocations, identity: Identity
) -> None:
    for number in range(5):
        opened(store, session=f"s-{number}")
    revocations.restore(LiveRevocations)

    connections.sweep()

    assert identity.asked == []


def test_a_copy_that_was_lost_is_restored_with_one_question(
    store: RedisRooms, connections: Connections, identity: Identity, sockets: Sockets
) -> None:
    ended = opened(store, session="ends")
    for number in range(5):
        opened(store, session=f"s-{number}")
    identity.ended.add("ends")

    assert connections.sweep() == 1

    assert sockets.closed == [ended.id]
    assert len(identity.asked) == 1


def test_identity_is_asked_about_each_while_there_can_be_no_copy(
    store: RedisRooms, connections: Connections, identity: Identity, sockets: Sockets
) -> None:
    identity.copies = False
    ended = opened(store, session="ends")
    for number in range(5):
        opened(store, session=f"s-{number}")
    identity.ended.add("ends")

    assert connections.sweep() == 1

    assert sockets.closed == [ended.id]
    assert set(identity.asked) == {"ends", *(f"s-{number}" for number in range(5))}


def test_while_nobody_can_tell_what_has_ended_what_has_expired_is_closed_and_the_run_fails(
    store: RedisRooms, connections: Connections, identity: Identity, sockets: Sockets
) -> None:
    identity.down = True
    expired, live = opened(store, seconds_left=-1), opened(store)

    with pytest.raises(DependencyUnavailableError):
        connections.sweep()

    assert sockets.closed == [expired.id]
    assert known(store) == {live.id}


def test_a_connection_that_could_not_be_closed_is_closed_by_the_next_sweep(
    store: RedisRooms, connections: Connections, sockets: Sockets
) -> None:
    expired = opened(store, seconds_left=-1)
    sockets.stuck.add(expired.id)
    assert connections.sweep() == 0
    sockets.stuck.clear()

    assert connections.sweep() == 1

    assert sockets.closed == [expired.id]


def test_a_connection_of_which_nobody_knows_whose_it_is_is_closed(
    store: RedisRooms, connections: Connections, sockets: Sockets
) -> None:
    """Under memory pressure Redis evicts keys one by one."""
    lost = opened(store)
    redis_client().delete(f"ws:connection:{lost.id}")

    assert connections.sweep() == 1

    assert sockets.closed == [lost.id]


def test_a_sweep_gets_through_more_connections_than_it_reads_at_a_time(
    store: RedisRooms, connections: Connections, sockets: Sockets
) -> None:
    expired = {opened(store, seconds_left=-1, session=f"s-{number}").id for number in range(1_100)}
    live = opened(store)

    assert connections.sweep() == len(expired)

    assert set(sockets.closed) == expired
    assert known(store) == {live.id}


def test_a_sweep_that_runs_out_of_time_leaves_the_rest_to_the_next(
    store: RedisRooms, connections: Connections, sockets: Sockets
) -> None:
    for _ in range(1_100):
        opened(store, seconds_left=-1)

    first = connections.sweep(lambda: False)

    assert 0 < first < 1_100
    assert first + connections.sweep() == 1_100
