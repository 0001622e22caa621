from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest

from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.relay import STOP_BEFORE_MS, PendingChange, Relay, RelayError

PLENTY = 60_000


def change(row_id: int, key: str = "1", shard_type: str = "events.created") -> PendingChange:
    return PendingChange(
        id=row_id,
        aggregate_type="event",
        aggregate_id=int(key),
        version=row_id,
        type=shard_type,
        partition_key=key,
        payload={"row": row_id},
        traceparent="",
        occurred_at=datetime(2026, 5, 1, tzinfo=UTC),
    )


class Table:
    """The outbox in memory, with a lease that tests can take away."""

    def __init__(self, *changes: PendingChange, shard: int = 0) -> None:
        self.rows: dict[int, list[PendingChange]] = defaultdict(list, {shard: list(changes)})
        self.fence = 0
        self.held = False
        self.on_release: Callable[[], None] = lambda: None

    def acquire_lease(self, shard: int, holder: uuid.UUID, seconds: int) -> int | None:
        if self.held:
            return None
        self.held, self.fence = True, self.fence + 1
        return self.fence

    def renew_lease(self, shard: int, fence: int, seconds: int) -> bool:
        return self.held and fence == self.fence

    def release_lease(self, shard: int, fence: int) -> None:
        if fence == self.fence:
            self.held = False
        self.on_release()

    def pending(self, shard: int, limit: int) -> list[PendingChange]:
        return sorted(self.rows[shard], key=lambda row: row.id)[:limit]

    def mark_published(self, shard: int, fence: int, ids: Sequence[int]) -> bool:
        if fence != self.fence:
            return False
        self.rows[shard] = [row for row in self.rows[shard] if row.id not in ids]
        return True

    def lose_lease(self) -> None:
        """What happens to a relay that was away for too long: another one has the next fence."""
        self.fence += 1
        self.held = True


class Broker:
    """Keeps what it acknowledges; `refuses` says which messages it does not."""

    def __init__(self, refuses: Callable[[Message], bool] = lambda _: False) -> None:
        self.sent: list[tuple[str, Message]] = []
        self.refuses = refuses

    def __call__(self, messages: Sequence[tuple[str, Message]]) -> list[bool]:
        acknowledged = [not self.refuses(message) for _, message in messages]
        self.sent += [pair for pair, ok in zip(messages, acknowledged, strict=True) if ok]
        return acknowledged

    @property
    def rows(self) -> list[int]:
        return [message.data["row"] for _, message in self.sent]


def test_everything_pending_goes_out_in_the_order_of_its_rows() -> None:
    table, broker = Table(change(2), change(1), change(3, key="2")), Broker()

    relayed = Relay(table, broker).drain(0, lambda: PLENTY)

    assert relayed == 3
    assert broker.rows == [1, 2, 3]
    assert table.pending(0, 10) == []
    assert not table.held


def test_a_message_is_the_change_and_goes_to_the_topic_of_its_type() -> None:
    table, broker = Table(change(5, key="42")), Broker()

    Relay(table, broker).drain(0, lambda: PLENTY)

    (topic, message) = broker.sent[0]
    assert topic == "evp.events.v1"
    assert message.id == "event-42-5"
    assert (message.subject, message.partitionkey, message.sequence) == ("42", "42", 5)
    assert message.time == "2026-05-01T00:00:00Z"


def test_nothing_behind_an_unacknowledged_message_of_its_key_is_marked() -> None:
    table = Table(change(1, "1"), change(2, "2"), change(3, "1"), change(4, "2"))
    broker = Broker(refuses=lambda message: message.data["row"] == 1)

    with pytest.raises(RelayError, match="2 of 4"):
        Relay(table, broker).drain(0, lambda: PLENTY)

    assert [row.id for row in table.pending(0, 10)] == [1, 3]
    assert not table.held


def test_the_next_run_sends_what_was_left_in_order() -> None:
    table = Table(change(1, "1"), change(2, "1"), change(3, "2"))
    broker = Broker(refuses=lambda message: message.data["row"] == 1)
    relay = Relay(table, broker)
    with pytest.raises(RelayError):
        relay.drain(0, lambda: PLENTY)
    broker.sent.clear()
    broker.refuses = lambda _: False

    relay.drain(0, lambda: PLENTY)

    assert broker.rows == [1, 2]


def test_a_relay_that_lost_its_lease_marks_nothing_and_stops() -> None:
    table = Table(change(1), change(2))
    broker = Broker()

    def send_and_be_overtaken(messages: Sequence[tuple[str, Message]]) -> list[bool]:
        acknowledged = broker(messages)
        table.lose_lease()
        return acknowledged

    relayed = Relay(table, send_and_be_overtaken).drain(0, lambda: PLENTY)

    assert relayed == 0
    assert [row.id for row in table.pending(0, 10)] == [1, 2]
    assert table.held, "the lease is the other relay's to give up"


def test_nothing_is_sent_while_another_relay_holds_the_lease() -> None:
    table, broker = Table(change(1)), Broker()
    table.lose_lease()

    assert Relay(table, broker).drain(0, lambda: PLENTY) == 0
    assert broker.sent == []


def test_a_change_that_is_committed_while_the_lease_is_given_up_is_not_left_lying() -> None:
    table, broker = Table(change(1)), Broker()
    poked: list[int] = []

    def commit_and_poke() -> None:
        """Another process commits; its poke finds the lease still taken a moment earlier."""
        if not poked:
            table.rows[0].append(change(2))
            poked.append(2)

    table.on_release = commit_and_poke

    relayed = Relay(table, broker).drain(0, lambda: PLENTY)

    assert relayed == 2
    assert broker.rows == [1, 2]


def test_a_relay_stops_in_time_and_gives_up_its_lease() -> None:
    table, broker = Table(change(1)), Broker()

    assert Relay(table, broker).drain(0, lambda: STOP_BEFORE_MS - 1) == 0

    assert broker.sent == []
    assert not table.held


def test_a_shard_that_fails_does_not_keep_the_others_waiting() -> None:
    table = Table(change(1))
    table.rows[1] = [change(2, "2")]
    broker = Broker(refuses=lambda message: message.data["row"] == 1)

    with pytest.raises(ExceptionGroup) as failed:
        Relay(table, broker).drain_all([0, 1], lambda: PLENTY)

    assert broker.rows == [2]
    assert [type(error) for error in failed.value.exceptions] == [RelayError]
