from __future__ import annotations

import itertools
import math
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime

import pytest

from eventsplatform.messaging.backlog import Backlog, BacklogReport
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.relay import (
    AWAKE_SECONDS,
    BATCH_SIZE,
    LEASE_SECONDS,
    LOOK_EVERY_SECONDS,
    STOP_BEFORE_MS,
    Leases,
    PendingChange,
    Relay,
    RelayError,
)

PLENTY = 60_000


def change(row_id: int, key: str = "1", *, shard: int = 0, type: str = "events.created") -> PendingChange:
    return PendingChange(
        id=row_id,
        shard=shard,
        aggregate_type="event",
        aggregate_id=int(key),
        version=row_id,
        type=type,
        partition_key=key,
        payload={"row": row_id},
        traceparent="",
        occurred_at=datetime(2026, 5, 1, tzinfo=UTC),
    )


class Time:
    """Passes when it is waited for; `during` is called in each wait."""

    def __init__(self) -> None:
        self.now = 0.0
        self.during: Callable[[], None] = lambda: None

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.during()


class Table:
    """The outbox in memory, with leases that expire and that tests can take away."""

    def __init__(self, *changes: PendingChange, time: Time | None = None) -> None:
        self.rows: dict[int, list[PendingChange]] = defaultdict(list)
        self.add(*changes)
        self.time = time or Time()
        self.fences: dict[int, int] = defaultdict(int)
        self.expires: dict[int, float] = defaultdict(lambda: -math.inf)
        self.on_release: Callable[[], None] = lambda: None
        self.looks = 0

    def add(self, *changes: PendingChange) -> None:
        for each in changes:
            self.rows[each.shard].append(each)

    def acquire_leases(self, shards: Collection[int], holder: uuid.UUID, seconds: int) -> Leases:
        return {shard: self._take(shard, seconds) for shard in shards if self.expires[shard] < self.time.now}

    def _take(self, shard: int, seconds: int) -> int:
        self.fences[shard] += 1
        self.expires[shard] = self.time.now + seconds
        return self.fences[shard]

    def renew_leases(self, leases: Leases, seconds: int) -> Leases:
        kept = {shard: fence for shard, fence in leases.items() if self.fences[shard] == fence}
        self.expires |= dict.fromkeys(kept, self.time.now + seconds)
        return kept

    def release_leases(self, leases: Leases) -> None:
        self.expires |= dict.fromkeys(self.renew_leases(leases, 0), -math.inf)
        self.on_release()

    def pending(self, shards: Collection[int], limit: int) -> list[PendingChange]:
        self.looks += 1
        return [row for shard in shards for row in sorted(self.rows[shard], key=lambda row: row.id)[:limit]]

    def mark_published(self, leases: Leases, changes: Sequence[PendingChange], seconds: int) -> Leases:
        kept = self.renew_leases(leases, seconds)
        for each in changes:
            if each.shard in kept:
                self.rows[each.shard].remove(each)
        return kept

    def held(self) -> set[int]:
        return {shard for shard, moment in self.expires.items() if moment >= self.time.now}

    def left(self) -> list[int]:
        return sorted(row.id for rows in self.rows.values() for row in rows)

    def pass_on(self, shard: int) -> None:
        """What happens to a relay that was away for too long: another one has the next fence."""
        self._take(shard, LEASE_SECONDS)


class Broker:
    """Keeps what it acknowledges; `refuses` says which messages it does not."""

    def __init__(self, refuses: Callable[[Message], bool] = lambda _: False) -> None:
        self.sent: list[tuple[str, Message]] = []
        self.batches: list[int] = []
        self.refuses = refuses

    def __call__(self, messages: Sequence[tuple[str, Message]]) -> list[bool]:
        self.batches.append(len(messages))
        acknowledged = [not self.refuses(message) for _, message in messages]
        self.sent += [pair for pair, ok in zip(messages, acknowledged, strict=True) if ok]
        return acknowledged

    @property
    def rows(self) -> list[int]:
        return [message.data["row"] for _, message in self.sent]


def run(table: Table, broker: Callable[[Sequence[tuple[str, Message]]], list[bool]], *shards: int) -> int:
    """One run of a relay over these shards, or over the first."""
    relay = Relay(table, broker, clock=table.time.clock, wait=table.time.wait)
    return relay.run(shards or [0], lambda: PLENTY)


# Order, acknowledgement, leases --------------------------------------------------------------------------


def test_everything_pending_goes_out_in_the_order_of_its_rows() -> None:
    table, broker = Table(change(2), change(1), change(3, key="2")), Broker()

    assert run(table, broker) == 3

    assert broker.rows == [1, 2, 3]
    assert table.left() == []
    assert table.held() == set()


def test_a_message_is_the_change_and_goes_to_the_topic_of_its_type() -> None:
    table, broker = Table(change(5, key="42")), Broker()

    run(table, broker)

    (topic, message) = broker.sent[0]
    assert topic == "evp.events.v1"
    assert message.id == "event-42-5"
    assert (message.subject, message.partitionkey, message.sequence) == ("42", "42", 5)
    assert message.time == "2026-05-01T00:00:00Z"


def test_nothing_behind_an_unacknowledged_message_of_its_key_is_marked() -> None:
    table = Table(change(1, "1"), change(2, "2"), change(3, "1"), change(4, "2"))
    broker = Broker(refuses=lambda message: message.data["row"] == 1)

    with pytest.raises(RelayError, match="2 of 4"):
        run(table, broker)

    assert table.left() == [1, 3]
    assert table.held() == set()


def test_the_next_run_sends_what_was_left_in_order() -> None:
    table = Table(change(1, "1"), change(2, "1"), change(3, "2"))
    broker = Broker(refuses=lambda message: message.data["row"] == 1)
    with pytest.raises(RelayError):
        run(table, broker)
    broker.sent.clear()
    broker.refuses = lambda _: False

    run(table, broker)

    assert broker.rows == [1, 2]


def test_a_relay_that_lost_a_lease_while_it_sent_marks_nothing_of_that_shard() -> None:
    table, broker = Table(change(1), change(2, "2", shard=1)), Broker()

    def send_and_be_overtaken(messages: Sequence[tuple[str, Message]]) -> list[bool]:
        acknowledged = broker(messages)
        table.pass_on(0)
        return acknowledged

    assert run(table, send_and_be_overtaken, 0, 1) == 1

    assert table.left() == [1]
    assert table.held() == {0}, "the lease is the other relay's to give up"


def test_without_the_fence_it_would_mark_what_is_its_successors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control."""
    table, broker = Table(change(1)), Broker()
    monkeypatch.setattr(table, "renew_leases", lambda leases, _: leases)

    def send_and_be_overtaken(messages: Sequence[tuple[str, Message]]) -> list[bool]:
        table.pass_on(0)
        return broker(messages)

    assert run(table, send_and_be_overtaken) == 1
    assert table.left() == []


def test_a_relay_that_stood_still_after_it_had_read_sends_nothing_of_a_shard_that_passed_on() -> None:
    """Its messages would come behind newer ones of the same keys: repeats, and late ones."""
    table, broker = Table(change(1), change(2, "2", shard=1)), Broker()
    read = table.pending

    def read_and_stand_still(shards: Collection[int], limit: int) -> list[PendingChange]:
        found = read(shards, limit)
        table.pending = read  # type: ignore[method-assign]
        table.time.now += LEASE_SECONDS + 1
        table.pass_on(0)
        return found

    table.pending = read_and_stand_still  # type: ignore[method-assign]

    assert run(table, broker, 0, 1) == 1

    assert broker.rows == [2]
    assert table.left() == [1]


def test_nothing_is_sent_while_another_relay_holds_the_lease() -> None:
    table, broker = Table(change(1)), Broker()
    table.pass_on(0)

    assert run(table, broker) == 0
    assert broker.sent == []


def test_a_change_that_is_committed_while_the_lease_is_given_up_is_not_left_lying() -> None:
    table, broker = Table(change(1)), Broker()
    late = iter([change(2)])
    # Another process commits; its poke finds the lease still taken a moment earlier.
    table.on_release = lambda: table.add(*itertools.islice(late, 1))

    assert run(table, broker) == 2
    assert broker.rows == [1, 2]


def test_a_relay_stops_in_time_and_gives_up_its_leases() -> None:
    table, broker = Table(change(1)), Broker()
    moments = iter([PLENTY, STOP_BEFORE_MS - 1, STOP_BEFORE_MS - 1])

    assert Relay(table, broker, clock=table.time.clock, wait=table.time.wait).run([0], lambda: next(moments)) == 0

    assert broker.sent == []
    assert table.held() == set()


# Staying awake ---------------------------------------------------------------------------------------------


def test_a_relay_that_found_something_sends_what_comes_soon_after_within_the_same_run() -> None:
    table, broker = Table(change(1)), Broker()
    moments: list[float] = []

    def commit_now_and_then() -> None:
        if len(moments) < 5 and table.time.now >= (moments or [0.0])[-1] + 0.9 * AWAKE_SECONDS:
            moments.append(table.time.now)
            table.add(change(1 + len(moments)))

    table.time.during = commit_now_and_then

    assert run(table, broker) == 6
    assert table.time.now == pytest.approx(moments[-1] + AWAKE_SECONDS, abs=3 * LOOK_EVERY_SECONDS)


def test_a_relay_that_finds_nothing_does_not_stay() -> None:
    table = Table()

    assert run(table, Broker(), 0, 1, 2, 3) == 0

    assert table.time.now == 0
    assert table.held() == set()


def test_a_relay_that_is_awake_takes_over_a_shard_that_somebody_left() -> None:
    table, broker = Table(change(1)), Broker()
    table.pass_on(1)  # to a relay that dies
    table.time.during = lambda: (
        table.add(change(2, "2", shard=1)) if not table.rows[1] and not broker.rows[1:] else None
    )
    keep_awake = itertools.count(10)

    def send(messages: Sequence[tuple[str, Message]]) -> list[bool]:
        if table.time.now < 2 * LEASE_SECONDS:
            table.add(change(next(keep_awake)))
        return broker(messages)

    run(table, send, 0, 1)

    assert 2 in broker.rows
    assert table.left() == []


def test_leases_are_renewed_for_as_long_as_a_relay_works() -> None:
    table, broker = Table(change(1)), Broker()
    rows = itertools.count(2)

    def work_for_long() -> None:
        assert table.held() == {0}
        if table.time.now < 5 * LEASE_SECONDS and not table.rows[0]:
            table.add(change(next(rows)))

    table.time.during = work_for_long

    run(table, broker)

    assert table.fences[0] == 1
    assert table.left() == []


# Backlogs ----------------------------------------------------------------------------------------------------


def test_a_backlog_is_drained_without_waiting_and_leaves_the_other_shards_to_others() -> None:
    many = 5 * BATCH_SIZE
    table = Table(*(change(n) for n in range(many)), *(change(many + n, "2", shard=1) for n in range(many)))
    helped: list[int] = []

    def broker_with_a_helper(messages: Sequence[tuple[str, Message]]) -> list[bool]:
        if free := {0, 1} - table.held():
            # Another relay, woken by another commit, finds a shard that nobody holds.
            shard = free.pop()
            helped.append(shard)
            table.pass_on(shard)
            table.rows[shard].clear()
        assert len(messages) <= BATCH_SIZE
        assert table.time.now == 0
        return [True] * len(messages)

    relayed = run(table, broker_with_a_helper, 0, 1)

    assert len(helped) == 1
    assert many <= relayed < many + BATCH_SIZE
    assert table.left() == []


def test_without_help_a_relay_drains_one_shard_after_the_other() -> None:
    many = 3 * BATCH_SIZE
    table = Table(*(change(shard * many + n, str(shard), shard=shard) for shard in range(3) for n in range(many)))
    broker = Broker()

    assert run(table, broker, 0, 1, 2) == 3 * many

    assert table.left() == []
    for shard in range(3):
        rows = [row for row in broker.rows if row // many == shard]
        assert rows == sorted(rows)


def test_each_shard_is_told_of_also_where_nothing_waits() -> None:
    class Store:
        def backlogs(self) -> dict[int, Backlog]:
            return {1: Backlog(7, 2.5), 9: Backlog(1, 0.5)}

    told: dict[int, Backlog] = {}

    BacklogReport(Store(), told.__setitem__).make(range(3))

    # A shard that there is no more, after their number was changed, is told of as well.
    assert told == {0: Backlog(0, 0), 1: Backlog(7, 2.5), 2: Backlog(0, 0), 9: Backlog(1, 0.5)}
