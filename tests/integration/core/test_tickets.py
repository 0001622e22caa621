"""Tickets for WebSocket connections in Redis, and asking for one again with the same Idempotency-Key."""

from __future__ import annotations

import base64
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from eventsplatform.adapters.redis import redis_client
from eventsplatform.entrypoints.idempotency_cache import once
from eventsplatform.errors import (
    ConflictError,
    DependencyUnavailableError,
    InvalidInputError,
    UnauthenticatedError,
)
from eventsplatform.idempotency import NamedRequest, handling_request
from eventsplatform.realtime.ticket_store import RedisTickets
from eventsplatform.realtime.tickets import TICKET_SECONDS, Ticket, Tickets
from local.engines import Endpoints
from tests.support.callers import caller
from tests.support.core_environment import core_environment

ADA = caller(7)


@pytest.fixture
def tickets(adapters: Endpoints) -> Tickets:
    return Tickets(RedisTickets())


def kept_in_redis() -> dict[str, str]:
    """All that Redis holds of tickets and of requests for them."""
    names = [name for pattern in ("ws:ticket:*", "idempotency:*") for name in redis_client().scan_iter(match=pattern)]
    return {name: redis_client().get(name) for name in names}  # type: ignore[misc]


def test_a_ticket_stands_for_whom_it_was_issued_to(tickets: Tickets) -> None:
    assert tickets.redeem(tickets.issue(ADA).ticket) == ADA


def test_a_ticket_is_good_once(tickets: Tickets) -> None:
    ticket = tickets.issue(ADA).ticket
    tickets.redeem(ticket)

    with pytest.raises(UnauthenticatedError):
        tickets.redeem(ticket)


def test_of_many_who_redeem_a_ticket_at_once_one_gets_in(tickets: Tickets) -> None:
    ticket, together, entered = tickets.issue(ADA).ticket, threading.Barrier(8), []

    def redeem() -> None:
        together.wait()
        with suppress(UnauthenticatedError):
            entered.append(tickets.redeem(ticket))

    threads = [threading.Thread(target=redeem) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert entered == [ADA]


def test_a_ticket_ends_after_half_a_minute(tickets: Tickets) -> None:
    before = set(kept_in_redis())
    ticket = tickets.issue(ADA)
    (name,) = set(kept_in_redis()) - before

    assert ticket.expires_in == TICKET_SECONDS == 30
    assert 0 < redis_client().pttl(name) <= 30_000
    redis_client().pexpire(name, 0)
    with pytest.raises(UnauthenticatedError):
        tickets.redeem(ticket.ticket)


def test_a_ticket_has_256_bits_and_redis_has_none_of_them(tickets: Tickets) -> None:
    ticket = tickets.issue(ADA).ticket

    assert len(base64.urlsafe_b64decode(ticket + "=")) == 32
    assert ticket not in str(kept_in_redis())


@pytest.mark.parametrize("ticket", ["", "x", "é", "\ud800", "*", "x" * 10_000])
def test_what_is_no_ticket_is_refused(tickets: Tickets, ticket: str) -> None:
    with pytest.raises(UnauthenticatedError):
        tickets.redeem(ticket)


def test_without_redis_there_are_no_tickets() -> None:
    with core_environment(Endpoints(redis="redis://127.0.0.1:1")):
        tickets = Tickets(RedisTickets())
        for attempt in (lambda: tickets.issue(ADA), lambda: tickets.redeem("x")):
            with pytest.raises(DependencyUnavailableError):
                attempt()


# Asked for again --------------------------------------------------------------------------------


def request(key: str, *, user: int = 7, content: bytes = b"") -> NamedRequest:
    return NamedRequest.of(
        caller=str(user), method="POST", path="/v1/realtime/tickets", key=key, content=content, secret=False
    )


def asked(tickets: Tickets, named: NamedRequest | None, *, user: int = 7) -> str:
    """The ticket that a request is answered with."""
    with handling_request(named):
        return once(Ticket, lambda: tickets.issue(caller(user)), user_id=user, seconds=TICKET_SECONDS).ticket


def new_key() -> str:
    return str(uuid.uuid4())


def test_a_repeat_is_answered_with_the_same_ticket(tickets: Tickets) -> None:
    key = new_key()
    first, again = request(key), request(key)

    ticket = asked(tickets, first)

    assert asked(tickets, again) == ticket
    assert (first.replayed, again.replayed) == (False, True)
    tickets.redeem(ticket)
    with pytest.raises(UnauthenticatedError):
        tickets.redeem(ticket)


def test_without_a_key_or_with_another_each_request_gets_a_ticket_of_its_own(tickets: Tickets) -> None:
    """The control."""
    given = [asked(tickets, named) for named in (None, None, request(new_key()), request(new_key()))]

    assert len(set(given)) == 4


def test_a_key_is_its_users_own(tickets: Tickets) -> None:
    key = new_key()

    mine, theirs = asked(tickets, request(key)), asked(tickets, request(key, user=8), user=8)

    assert mine != theirs
    assert tickets.redeem(theirs).user_id == 8


def test_a_key_that_named_another_request_is_refused(tickets: Tickets) -> None:
    key = new_key()
    asked(tickets, request(key))

    with pytest.raises(InvalidInputError):
        asked(tickets, request(key, content=b'{"a":1}'))


def test_what_is_kept_for_a_repeat_is_sealed_and_lasts_no_longer_than_the_ticket(tickets: Tickets) -> None:
    named = request(new_key())
    before = set(kept_in_redis())

    ticket = asked(tickets, named)

    new = {name: value for name, value in kept_in_redis().items() if name not in before}
    (record,) = [name for name in new if name.startswith("idempotency:7:")]
    assert 0 < redis_client().ttl(record) <= TICKET_SECONDS
    assert ticket not in str(new)
    assert named.id.hex() not in str(new), "the seal follows from it"


def test_a_request_that_failed_may_be_tried_again(tickets: Tickets) -> None:
    key = new_key()

    def fail() -> Ticket:
        raise DependencyUnavailableError("cache")

    with handling_request(request(key)), pytest.raises(DependencyUnavailableError):
        once(Ticket, fail, user_id=7, seconds=TICKET_SECONDS)

    assert asked(tickets, request(key))


def test_a_repeat_while_the_first_is_still_running_is_a_conflict(tickets: Tickets) -> None:
    key = new_key()
    refused: list[Any] = []

    def slow() -> Ticket:
        with pytest.raises(ConflictError) as conflict:
            asked(tickets, request(key))
        refused.append(conflict.value.headers["Retry-After"])
        return tickets.issue(ADA)

    with handling_request(request(key)):
        once(Ticket, slow, user_id=7, seconds=TICKET_SECONDS)

    assert refused == ["1"]


def test_a_named_request_without_redis_is_unavailable() -> None:
    never: Callable[[], Ticket] = lambda: pytest.fail("it has no record")  # noqa: E731
    with (
        core_environment(Endpoints(redis="redis://127.0.0.1:1")),
        handling_request(request(new_key())),
        pytest.raises(DependencyUnavailableError),
    ):
        once(Ticket, never, user_id=7, seconds=TICKET_SECONDS)
