"""NATS → Kafka: everything, in order per key, whoever is killed in between."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from eventsplatform.adapters.jetstream import DurableReader
from eventsplatform.adapters.kafka import KafkaMessage
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.messaging.bridge_from_nats import BridgeFromNats, Start
from eventsplatform.messaging.envelope import Message
from local.engines import Endpoints
from tests.support.database import administrator
from tests.support.inbound import Inbound, inbound_of_ones_own, once, recording, until
from tests.support.jetstream import over_nats
from tests.support.polling import eventually_async
from tests.support.round_trips import counting_proxy

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def inbound(endpoints: Endpoints, migrated_database: str, tmp_path: Path) -> Iterator[Inbound]:
    with inbound_of_ones_own(endpoints, tmp_path) as made:
        yield made


def bridge_all(inbound: Inbound, count: int, **options: Any) -> BridgeFromNats:
    """Bridge until so many have been acknowledged."""
    sent: list[KafkaMessage] = []
    bridge = inbound.bridge(wrap=recording(sent), **options)
    bridge.run(until(lambda: len(sent) >= count))
    return bridge


def the_only(inbound: Inbound) -> tuple[Message, dict[str, str], str]:
    (record,) = inbound.records()
    headers = {name: (value or b"").decode() for name, value in record.headers() or []}
    return Message.from_json(record.value() or b""), headers, (record.key() or b"").decode()


# What a message becomes ---------------------------------------------------------------------------------------


def test_a_cloud_event_arrives_with_what_its_sender_says(inbound: Inbound) -> None:
    event = {
        "specversion": "1.0",
        "id": "c-1",
        "source": "https://partner.example/orders",
        "type": "partner.order",
        "subject": "order-7",
        "time": "2026-05-01T10:00:00Z",
        "tenant": "acme",
        "hops": 1,
        "via": "partner",
        "natsseq": 99,
        "replyto": "_INBOX.of.the.body",
        "replayid": "again",
        "data": {"title": "Jazz"},
    }
    headers = {"Partner": "acme", "traceparent": TRACE, "Evp-Reply-To": "_INBOX.abc.1", "Nats-Msg-Id": "m-1"}
    inbound.publish(("events.create", json.dumps(event).encode(), headers))

    bridge_all(inbound, 1)

    message, carried, key = the_only(inbound)
    assert (message.id, message.source, message.time) == ("c-1", "https://partner.example/orders", event["time"])
    assert (message.type, message.subject, message.partitionkey, key) == (
        f"{inbound.name}.events.create",
        "order-7",
        "order-7",
        "order-7",
    )
    assert (message.data, message.traceparent) == ({"title": "Jazz"}, TRACE)
    assert (message.via, message.hops) == ("partner,evp", 2)
    assert message.extensions == {
        "tenant": "acme",
        "natsseq": 1,
        "replyto": "_INBOX.abc.1",
        "sendertype": "partner.order",
    }
    assert carried["Partner"] == "acme"
    assert carried["ce_type"] == message.type
    assert not {"Nats-Msg-Id", "Evp-Reply-To", "traceparent"} & carried.keys()


def test_a_cloud_event_in_binary_mode_arrives_like_one_in_structured_mode(inbound: Inbound) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "b-1", "ce-source": "/p%20q", "ce-type": "t", "ce-subject": "9"}
    inbound.publish(("events.update", b'{"title": "Jazz"}', headers))

    bridge_all(inbound, 1)

    message, carried, key = the_only(inbound)
    assert (message.id, message.source, message.subject, key) == ("b-1", "/p q", "9", "9")
    assert message.data == {"title": "Jazz"}
    assert not any(name.startswith("ce-") for name in carried)


@pytest.mark.parametrize(("headers", "id"), [({}, "{stream}:1"), ({"Nats-Msg-Id": "m-1"}, "m-1")])
def test_a_plain_object_becomes_the_data_of_a_cloud_event(inbound: Inbound, headers: dict[str, str], id: str) -> None:
    inbound.publish(("events.update.42", b'{"title": "Jazz"}', headers))

    bridge_all(inbound, 1)

    message, _, key = the_only(inbound)
    assert (message.type, message.subject, key) == (f"{inbound.name}.events.update", "42", "42")
    assert message.id == id.format(stream=inbound.stream)
    assert message.source == f"nats://{inbound.stream}/{inbound.name}.events.update.42"
    assert message.time > "2026"


POISON = {
    "no JSON": b"\xff",
    "no object": b"[1]",
    "another version": b'{"specversion": "0.3"}',
    "an id that is no text": b'{"specversion": "1.0", "id": 7}',
    "an empty source": b'{"specversion": "1.0", "source": ""}',
    "an id with a line's end": b'{"specversion": "1.0", "id": "a\\nb"}',
    "an id without end": b'{"specversion": "1.0", "id": "%s"}' % (b"x" * 300),
    "a name that is none": b'{"specversion": "1.0", "Tenant": "a"}',
    "an attribute with parts": b'{"specversion": "1.0", "tenant": {"a": 1}}',
    "too many attributes": json.dumps({"specversion": "1.0", **{f"a{n}": n for n in range(40)}}).encode(),
    "a time that is none": b'{"specversion": "1.0", "time": "yesterday"}',
    "hops below none": b'{"specversion": "1.0", "hops": -5}',
    "data of another kind": b'{"specversion": "1.0", "datacontenttype": "text/xml", "data": {}}',
    "data that are no object": b'{"specversion": "1.0", "data": [1]}',
    "data in base64": b'{"specversion": "1.0", "data_base64": "AA=="}',
    "data nested without end": b'{"a":' * 600 + b"1" + b"}" * 600,
}


def test_what_cannot_be_read_is_put_aside_whole_and_holds_nothing_up(inbound: Inbound) -> None:
    inbound.publish(*(("events.create", data, {"Partner": "acme"}) for data in POISON.values()))
    inbound.commands(1)

    bridge_all(inbound, len(POISON) + 1)

    assert inbound.numbers() == {"0": [0]}
    letters = inbound.dead_letters()
    assert [letter.value() for letter in letters] == list(POISON.values())
    headers = {name: (value or b"").decode() for name, value in letters[0].headers() or []}
    assert headers["Partner"] == "acme"
    assert headers["dlt_origin"] == f"{inbound.stream}@1"
    assert (headers["dlt_error"], headers["dlt_attempts"]) == ("PoisonMessageError", "1")
    assert headers["dlt_reason"].startswith("not JSON")
    assert (letters[0].key() or b"").decode() == f"{inbound.name}.events.create"


def test_what_came_from_here_goes_no_further_and_is_counted(
    inbound: Inbound, metrics: Callable[[], list[dict[str, Any]]]
) -> None:
    inbound.publish(("events.create", b'{"specversion": "1.0", "via": "evp", "hops": 1}'))
    inbound.publish(("events.create", b'{"specversion": "1.0", "via": "a", "hops": 5}'))
    inbound.commands(1)

    bridge_all(inbound, 1)

    assert len(inbound.records()) == 1
    counted = {name: line[name] for line in metrics() for name in line if name.startswith("bridge_")}
    assert (counted["bridge_loops_total"], counted["bridge_messages_total"]) == ([2], [1])
    assert len(counted["bridge_latency_seconds"]) == 1


# Who reads, and from where ------------------------------------------------------------------------------------


def position(inbound: Inbound) -> int:
    with administrator(inbound.endpoints.postgres) as connection:
        rows = connection.execute(
            "SELECT sequence FROM messaging.bridge_leases WHERE shard = %s", (inbound.name,)
        ).fetchall()
    return int(rows[0]["sequence"]) if rows else 0


def consumer(inbound: Inbound) -> Any:
    async def info(client: Client) -> Any:
        return await client.jetstream().consumer_info(inbound.stream, f"bridge-{inbound.name}")

    return over_nats(inbound.endpoints.nats, info)


def test_all_of_it_arrives_in_order_per_key_and_once(inbound: Inbound) -> None:
    inbound.commands(1_200)

    bridge_all(inbound, 1_200)

    assert inbound.numbers() == {str(key): list(range(key, 1_200, 5)) for key in range(5)}
    assert position(inbound) == 1_200
    state = consumer(inbound)
    assert (state.num_pending, state.num_ack_pending, state.ack_floor.stream_seq) == (0, 0, 1_200)
    assert state.config.max_deliver == -1


def test_the_next_run_carries_on_where_the_last_one_stopped(inbound: Inbound) -> None:
    inbound.commands(10)
    bridge_all(inbound, 10)
    created = consumer(inbound).created
    inbound.commands(10, first=10)

    bridge_all(inbound, 10)

    assert inbound.numbers() == {str(key): list(range(key, 20, 5)) for key in range(5)}
    assert consumer(inbound).created == created, "the consumer stays, for those who watch it"


def test_a_second_holder_waits_until_the_first_has_ended(inbound: Inbound) -> None:
    inbound.commands(20)
    ran: list[str] = []

    def beside(start: Start) -> Start:
        def start_while_another_tries(messages: Sequence[KafkaMessage]) -> Callable[[], list[bool]]:
            ran.append("first")
            assert inbound.bridge(start=lambda _: pytest.fail("both hold the lease")).run(once()) == 0
            return start(messages)

        return start_while_another_tries

    inbound.bridge(wrap=beside).run(until(lambda: position(inbound) == 20))

    assert ran
    assert sorted(chain(*inbound.numbers().values())) == list(range(20))


def test_a_holder_that_was_overtaken_notes_nothing_and_acknowledges_nothing(inbound: Inbound) -> None:
    """It slept while it produced: its lease has passed on, and the other one has done the work."""
    inbound.commands(20)

    def overtaken(start: Start) -> Start:
        def start_late(messages: Sequence[KafkaMessage]) -> Callable[[], list[bool]]:
            with administrator(inbound.endpoints.postgres) as connection:
                connection.execute(
                    "UPDATE messaging.bridge_leases SET expires_at = '-infinity' WHERE shard = %s", (inbound.name,)
                )
            inbound.commands(20, first=20)
            bridge_all(inbound, 40)
            return start(messages)

        return start_late

    inbound.bridge(wrap=overtaken).run(once())

    assert position(inbound) == 40
    state = consumer(inbound)
    assert (state.num_ack_pending, state.ack_floor.stream_seq) == (0, 40)
    first_times = [list(dict.fromkeys(numbers)) for numbers in inbound.numbers().values()]
    assert all(numbers == sorted(numbers) for numbers in first_times)
    assert sorted(chain(*first_times)) == list(range(40))


def bridge_beside_a_thief(inbound: Inbound) -> list[int]:
    """Bridge ten messages, then ten more of which another reader of the consumer has got some; which those are.

    So it would be with a holder that was cut off: NATS still gives it what it has asked for.
    """
    inbound.commands(10)
    bridge_all(inbound, 10)

    async def steal(client: Client) -> list[int]:
        jetstream, durable = client.jetstream(), f"bridge-{inbound.name}"

        async def requests() -> int:
            return (await jetstream.consumer_info(inbound.stream, durable)).num_waiting or 0

        async def is_waiting_behind(count: int) -> bool:
            return await requests() == count + 1

        thief = await jetstream.pull_subscribe_bind(durable, inbound.stream)
        stealing = asyncio.create_task(thief.fetch(5, timeout=10))
        await eventually_async(lambda: is_waiting_behind(0))
        bridge = inbound.bridge()
        bridging = asyncio.create_task(asyncio.to_thread(bridge.run, until(lambda: position(inbound) == 20)))
        await eventually_async(lambda: is_waiting_behind(1))
        await asyncio.to_thread(inbound.commands, 10, first=10)
        await bridging
        return [message.metadata.sequence.stream for message in await stealing]

    return over_nats(inbound.endpoints.nats, steal)


def test_messages_that_another_reader_has_got_are_missed_and_read_again(inbound: Inbound) -> None:
    assert bridge_beside_a_thief(inbound)

    assert inbound.numbers() == {str(key): list(range(key, 20, 5)) for key in range(5)}


def test_who_does_not_count_what_a_consumer_delivers_loses_them(
    inbound: Inbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: acknowledging what comes behind them acknowledges them as well."""
    monkeypatch.setattr(DurableReader, "_follows", lambda self, number: True)

    stolen = bridge_beside_a_thief(inbound)

    assert set(range(1, 21)) - {number + 1 for number in chain(*inbound.numbers().values())} == set(stolen) != set()
    assert consumer(inbound).num_ack_pending == 0


def test_a_stream_that_was_made_anew_is_read_from_its_beginning(inbound: Inbound) -> None:
    inbound.commands(10)
    bridge_all(inbound, 10)

    async def begin_anew(client: Client) -> None:
        jetstream = client.jetstream()
        config = (await jetstream.stream_info(inbound.stream)).config
        await jetstream.delete_stream(inbound.stream)
        await jetstream.add_stream(config.evolve(first_seq=None))

    over_nats(inbound.endpoints.nats, begin_anew)
    inbound.commands(3, first=10)

    bridge_all(inbound, 3)

    assert sorted(chain(*inbound.numbers().values())) == list(range(13))
    assert position(inbound) == 3


def test_a_stream_that_the_bridge_makes_anew_goes_on_counting(inbound: Inbound) -> None:
    """Messages without an id have the sequence for one: two of the same would be taken for one message."""
    inbound.commands(10)
    bridge_all(inbound, 10)

    async def delete(client: Client) -> None:
        await client.jetstream().delete_stream(inbound.stream)

    over_nats(inbound.endpoints.nats, delete)
    inbound.bridge().run(once())
    inbound.commands(1, first=10)
    bridge_all(inbound, 1)

    ids = [json.loads(record.value() or b"")["id"] for record in inbound.records()]
    assert len(ids) == len(set(ids)) == 11


def test_a_position_that_was_set_back_brings_everything_behind_it_again(inbound: Inbound) -> None:
    inbound.commands(10)
    bridge_all(inbound, 10)
    with administrator(inbound.endpoints.postgres) as connection:
        connection.execute("UPDATE messaging.bridge_leases SET sequence = 6 WHERE shard = %s", (inbound.name,))

    bridge_all(inbound, 4)

    assert sorted(chain(*inbound.numbers().values())) == sorted([*range(10), *range(6, 10)])


def test_the_collector_is_spared_what_was_loaded_before_the_first_message(inbound: Inbound) -> None:
    inbound.bridge().run(once())

    assert gc.get_freeze_count() > 10_000


# What fails in between ----------------------------------------------------------------------------------------

HOLDER = """
import os, sys
from pathlib import Path
from eventsplatform.messaging.bridge_repository import PostgresLeaseStore
from eventsplatform.messaging.routes_file import KNOWN_TOPICS, read_routes
from local.engines import Endpoints
from tests.support.inbound import Inbound

postgres, kafka, nats = sys.argv[1:4]
endpoints = Endpoints(postgres=postgres, redis="", kafka=kafka, nats=nats, opensearch="", aws="", moto="")
routes, name, dies = Path(sys.argv[4]), sys.argv[5], sys.argv[6]
inbound = Inbound(endpoints, read_routes(routes, topics={*KNOWN_TOPICS, f"evp-{name}.v1"}), name)
if dies == "producing":
    wrap = lambda start: lambda messages: start(messages)() and os.kill(os.getpid(), 9)
else:
    wrap = None
    advance = PostgresLeaseStore.advance
    PostgresLeaseStore.advance = lambda *arguments: (
        advance(*arguments) and (arguments[3].sequence < 100 or os.kill(os.getpid(), 9))
    )
inbound.bridge(wrap=wrap).run(lambda: True)
"""


def killed(inbound: Inbound, directory: Path, *, after: str) -> None:
    """Run a holder in a process of its own, which is killed as soon as it has done this."""
    holder = subprocess.run(
        [
            sys.executable,
            "-c",
            HOLDER,
            inbound.endpoints.postgres,
            inbound.endpoints.kafka,
            inbound.endpoints.nats,
            str(directory / f"{inbound.name}.yaml"),
            inbound.name,
            after,
        ],
        timeout=60,
        check=False,
    )
    assert holder.returncode == -9


def end_lease(inbound: Inbound) -> None:
    """What half a minute does."""
    with administrator(inbound.endpoints.postgres) as connection:
        connection.execute(
            "UPDATE messaging.bridge_leases SET expires_at = '-infinity' WHERE shard = %s", (inbound.name,)
        )


def effects(records: Sequence[bytes], *, inbox: bool) -> list[int]:
    """What a consumer does, with an inbox (of ids, as `UnitOfWork.once` has it) or without."""
    seen: set[tuple[str, str]] = set()
    done = []
    for value in records:
        message = Message.from_json(value)
        if inbox and (message.source, message.id) in seen:
            continue
        seen.add((message.source, message.id))
        done.append(int(message.data["number"]))
    return done


def test_a_holder_that_is_killed_after_producing_repeats_what_an_inbox_knows(inbound: Inbound, tmp_path: Path) -> None:
    inbound.commands(100)
    killed(inbound, tmp_path, after="producing")
    end_lease(inbound)
    inbound.commands(20, first=100)

    bridge_all(inbound, 120)

    values = [record.value() or b"" for record in inbound.records()]
    by_key: dict[str, list[bytes]] = {}
    for value in values:
        by_key.setdefault(Message.from_json(value).partitionkey, []).append(value)
    for key, of_key in by_key.items():
        assert effects(of_key, inbox=True) == list(range(int(key), 120, 5))
    # The control: those of the first batch, most often all of them, did come twice.
    assert 120 < len(values) <= 220
    assert len(effects(values, inbox=False)) == len(values)


def test_a_holder_that_is_killed_after_noting_its_position_repeats_nothing(inbound: Inbound, tmp_path: Path) -> None:
    inbound.commands(100)
    killed(inbound, tmp_path, after="noting")
    assert consumer(inbound).num_ack_pending, "the last batch was not acknowledged"
    end_lease(inbound)
    inbound.commands(20, first=100)

    bridge_all(inbound, 20)

    assert inbound.numbers() == {str(key): list(range(key, 120, 5)) for key in range(5)}


def test_a_consumer_that_was_left_as_it_was_would_lose_what_was_under_way(inbound: Inbound, tmp_path: Path) -> None:
    """The control of both: what was delivered to the killed holder comes last, and an acknowledgement covers it."""
    inbound.commands(10)
    killed(inbound, tmp_path, after="producing")
    inbound.commands(10, first=10)

    async def next_ones(client: Client) -> list[int]:
        subscription = await client.jetstream().pull_subscribe_bind(f"bridge-{inbound.name}", inbound.stream)
        return [message.metadata.sequence.stream for message in await subscription.fetch(10, timeout=5)]

    assert over_nats(inbound.endpoints.nats, next_ones)[0] == 11


def test_what_kafka_does_not_take_is_tried_again_from_there(inbound: Inbound) -> None:
    inbound.commands(50)
    refused = [7]

    def refuse(start: Start) -> Start:
        def start_some(messages: Sequence[KafkaMessage]) -> Callable[[], list[bool]]:
            if not refused:
                return start(messages)
            first = refused.pop()
            finish = start(messages[:first])
            return lambda: [*finish(), *([False] * (len(messages) - first))]

        return start_some

    inbound.bridge(wrap=refuse).run(until(lambda: position(inbound) == 50))

    assert inbound.numbers() == {str(key): list(range(key, 50, 5)) for key in range(5)}


def test_a_run_that_ends_with_kafka_gone_fails_and_has_acknowledged_nothing(inbound: Inbound) -> None:
    inbound.commands(10)
    tries = iter(range(3))

    with pytest.raises(DependencyUnavailableError):
        inbound.bridge(start=lambda messages: lambda: [False] * len(messages)).run(
            lambda: next(tries, None) is not None
        )

    assert position(inbound) == 0
    bridge_all(inbound, 10)
    assert sorted(chain(*inbound.numbers().values())) == list(range(10))


def test_a_connection_to_nats_that_breaks_costs_nothing_but_time(inbound: Inbound) -> None:
    inbound.commands(1_000)
    with counting_proxy(inbound.endpoints.nats) as (proxy, url):
        broken: list[bool] = []

        def cut(start: Start) -> Start:
            def start_and_cut(messages: Sequence[KafkaMessage]) -> Callable[[], list[bool]]:
                finish = start(messages)
                if len(broken) < 3:
                    broken.append(True)
                    proxy.drop_connections()
                return finish

            return start_and_cut

        started = time.monotonic()
        with suppress(DependencyUnavailableError):  # of the acknowledgement behind the last position
            inbound.bridge(nats=url, wrap=cut).run(until(lambda: position(inbound) == 1_000))

    assert broken
    assert time.monotonic() - started < 15
    assert inbound.numbers() == {str(key): list(range(key, 1_000, 5)) for key in range(5)}


def test_without_nats_a_run_fails_at_its_end(inbound: Inbound) -> None:
    tries = iter(range(2))

    with pytest.raises(DependencyUnavailableError):
        inbound.bridge(nats="nats://127.0.0.1:1").run(lambda: next(tries, None) is not None)
