"""64 clients race for 100 places over the gateway, while people cancel and offers expire: what is left adds up.

Offers live for hours (`OFFER_HOURS`). So that some expire at random during the race, they are made due in the database,
and the function that runs every minute is invoked more often.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from eventsplatform.registrations.model import LINE
from local.triggers.aws import aws_client
from tests.support.accounts import open_accounts
from tests.support.database import administrator
from tests.support.platform import Account, RunningPlatform, copied_sources, has_ended, platform_running
from tests.support.polling import eventually, eventually_async
from tests.support.race import Race, Told
from tests.support.recount import taken_places, violations

PLACES, PEOPLE = 100, 180
SWEEP_EVERY_SECONDS = 0.2

Fault = Callable[[RunningPlatform, Race], Awaitable[None]]


@pytest.fixture(scope="module")
def organiser(platform: RunningPlatform) -> Account:
    return platform.sign_up("Ada")


async def run_race(platform: RunningPlatform, race: Race, event_id: int, fault: Fault | None = None) -> Told:
    """The race, while offers expire, and something else happens if it is to."""
    sweeping = asyncio.create_task(expire_offers(platform, event_id))
    faulting = asyncio.create_task(fault(platform, race)) if fault else None
    try:
        told = await race.run()
        if faulting is not None:
            await faulting
    finally:
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping
    return told


async def expire_offers(platform: RunningPlatform, event_id: int) -> None:
    """Again and again one offer, if there is any, is over, and passed on."""
    chance = random.Random(event_id)
    while True:
        await asyncio.sleep(SWEEP_EVERY_SECONDS * 2 * chance.random())
        with suppress(psycopg.OperationalError, BotoCoreError, ClientError):  # where an engine is down, it is later
            await asyncio.to_thread(make_an_offer_due, platform, event_id)
            await asyncio.to_thread(sweep, platform)


def make_an_offer_due(platform: RunningPlatform, event_id: int) -> None:
    with psycopg.connect(platform.endpoints["postgres"], connect_timeout=5) as connection:
        # As everyone who changes an offer: nobody accepts it meanwhile.
        connection.execute(
            "SELECT FROM registrations.places WHERE event_id = %s AND part = %s FOR NO KEY UPDATE", (event_id, LINE)
        )
        connection.execute(
            """
            WITH due AS (
                UPDATE registrations.offers SET expires_at = now()
                 WHERE registration_id = (SELECT min(registration_id) FROM registrations.offers WHERE event_id = %s)
                RETURNING *
            )
            UPDATE registrations.event_registrations AS offered
               SET offer_expires_at = due.expires_at
              FROM due
             WHERE offered.id = due.registration_id AND offered.registered_at = due.registered_at
            """,
            (event_id,),
        )


def sweep(platform: RunningPlatform) -> None:
    aws_client("lambda", platform.endpoints["aws"]).invoke(FunctionName="ExpireOffersFunction", Payload=b"{}")


def expired(platform: RunningPlatform, event_id: int) -> int:
    """How many offers nobody took: what the platform cancelled by itself."""
    (row,) = platform.sql(
        """
        SELECT count(*) AS number FROM messaging.outbox
         WHERE type = 'registrations.cancelled' AND partition_key = %s AND actor_id IS NULL
        """,
        [str(event_id)],
    )
    return int(row["number"])


async def accept_all(platform: RunningPlatform, race: Race, event_id: int, people: list[Account]) -> None:
    """Whoever has an offer in the end takes it."""
    by_id = {person.id: person for person in people}
    async with httpx.AsyncClient(base_url=platform.endpoints["gateway"], timeout=32, trust_env=False) as http:
        while offered := platform.sql(
            "SELECT user_id FROM registrations.event_registrations WHERE event_id = %s AND status = 'offered'",
            [event_id],
        ):
            for row in offered:
                await race.accept(http, by_id[row["user_id"]])
            sweep(platform)


def line_over_http(platform: RunningPlatform, organiser: Account, event_id: int) -> list[int]:
    """Who waits, by position; the positions have no gap."""
    waiting: dict[int, int] = {}
    query = {"limit": "100"}
    while True:
        answer = platform.http.get(f"/v1/events/{event_id}/registrations", headers=organiser.headers, params=query)
        page = answer.raise_for_status().json()
        waiting |= {each["position"]: each["user_id"] for each in page["items"] if each["status"] == "waitlisted"}
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert sorted(waiting) == list(range(1, len(waiting) + 1))
    return [waiting[position] for position in sorted(waiting)]


async def kill_a_worker_and_postgres(platform: RunningPlatform, race: Race) -> None:
    """In the middle of it a function's process is killed while its statement runs, and then the database server."""
    race.hold_at(PEOPLE // 5)
    await acknowledged(race, PEOPLE // 5)
    workers = await asyncio.to_thread(workers_of_registrations, platform)
    race.go_on()
    worker = await asyncio.to_thread(eventually, lambda: at_work(platform, workers), every=0, what="a worker at work")
    worker.kill()
    race.hold_at(PEOPLE // 2)
    await acknowledged(race, PEOPLE // 2)
    race.go_on()
    await acknowledged(race, PEOPLE // 2 + 2)
    await asyncio.to_thread(kill_and_await_postgres, platform)
    assert has_ended(worker)


def kill_and_await_postgres(platform: RunningPlatform) -> None:
    with platform.engine_killed("postgres"):
        pass


async def acknowledged(race: Race, number: int) -> None:
    """Return when so many are registered and have been told so."""

    async def so_many() -> bool:
        return len(race.told.registered) >= number

    await eventually_async(so_many, within=60, every=0.002, what=f"{number} registrations")


def workers_of_registrations(platform: RunningPlatform) -> dict[int, psutil.Process]:
    """The processes of functions that are connected to the database as registrations, by the port of the connection."""
    rows = platform.sql("SELECT client_port FROM pg_stat_activity WHERE usename = 'registrations'")
    ports = {row["client_port"] for row in rows}
    found: dict[int, psutil.Process] = {}
    for process in platform.family():
        with suppress(psutil.NoSuchProcess):
            for connection in process.net_connections("tcp4"):
                if connection.laddr.port in ports:
                    found[connection.laddr.port] = process
    return found


def at_work(platform: RunningPlatform, workers: Mapping[int, psutil.Process]) -> psutil.Process | None:
    """One of the workers, by the ports of their connections, who is registering somebody at this moment."""
    rows = platform.sql(
        """
        SELECT client_port FROM pg_stat_activity
         WHERE state <> 'idle' AND query LIKE '%%INSERT INTO registrations.event_registrations%%'
           AND client_port = ANY(%s)
         LIMIT 1
        """,
        [list(workers)],
    )
    return workers[rows[0]["client_port"]] if rows else None


@pytest.mark.parametrize("fault", [None, kill_a_worker_and_postgres], ids=["quietly", "in-a-storm"])
def test_a_hundred_places_are_taken_once_and_everyone_else_waits_in_order(
    platform: RunningPlatform, organiser: Account, fault: Fault | None
) -> None:
    # Given an event with 100 places, and more people than that
    event_id = platform.create_event(organiser, capacity=PLACES)["id"]
    people = open_accounts(platform, PEOPLE + 1)
    *crowd, latecomer = people
    race = Race(platform.endpoints["gateway"], event_id, crowd)

    # When they all come at once
    told = asyncio.run(run_race(platform, race, event_id, fault))
    asyncio.run(accept_all(platform, race, event_id, crowd))

    # Then everyone was answered, and what they were told is so
    assert told.unexpected == []
    assert told.registered.keys() == {person.id for person in crowd}
    happened = len(told.cancelled), len(told.accepted), expired(platform, event_id)
    print("{} cancelled, {} accepted, {} offers expired; sent again for {}".format(*happened, dict(told.again)))
    assert all(happened)
    assert told.again or fault is None
    rows = platform.sql(
        "SELECT user_id, id, status FROM registrations.event_registrations WHERE event_id = %s", [event_id]
    )
    assert told.lost(rows) == []
    # And exactly the places are taken, each once, by people who came in order
    assert violations(platform.endpoints["postgres"], event_id, PLACES) == []
    assert sum(row["status"] == "active" for row in rows) == PLACES
    line = line_over_http(platform, organiser, event_id)
    assert len(line) == sum(row["status"] == "waitlisted" for row in rows)
    assert told.overtaken(line) == []
    # And everyone is told the same counts
    with platform.socket(organiser) as live:
        assert live.request("join", room=f"event:{event_id}")["type"] == "joined"
        assert platform.register(latecomer, event_id)["position"] == len(line) + 1
        pushed = live.next_push("registrations.waitlisted")["data"]
    counts = {"registered": PLACES, "waitlisted": len(line) + 1, "available": 0}
    assert {name: pushed[name] for name in counts} == counts
    assert platform.differences(event=event_id) == []
    shown = platform.http.get(f"/v1/events/{event_id}").json()
    assert {name: shown[name] for name in counts} == counts


# The control ---------------------------------------------------------------------------------------


@contextmanager
def platform_without_the_guard(directory: Path) -> Iterator[RunningPlatform]:
    """The same platform from a copy of its sources, in which a free place is looked for and then taken.

    Nothing holds the place in between, which takes a moment, and no constraint of the table counts.
    """
    root = copied_sources(directory / "source")
    repository = root / "layers/core/eventsplatform/registrations/repository.py"
    guarded = repository.read_text()
    unguarded = guarded.replace("FOR NO KEY UPDATE SKIP LOCKED", "").replace(
        "        SELECT part\n          FROM registrations.places",
        "        SELECT part, pg_sleep(0.02)\n          FROM registrations.places",
        1,
    )
    assert "SKIP LOCKED" not in unguarded
    assert "pg_sleep" in unguarded
    repository.write_text(unguarded)
    with platform_running(directory / "state", root=root) as running:
        with administrator(running.endpoints["postgres"]) as connection:
            connection.execute("ALTER TABLE registrations.places DROP CONSTRAINT never_oversold")
        yield running


def test_without_the_guard_the_same_race_is_seen_to_oversell(tmp_path: Path) -> None:
    with platform_without_the_guard(tmp_path) as platform:
        organiser, *crowd = open_accounts(platform, PEOPLE + 1)
        event_id = platform.create_event(organiser, capacity=PLACES)["id"]

        told = asyncio.run(Race(platform.endpoints["gateway"], event_id, crowd, changing=0).run())

        assert told.registered.keys() == {person.id for person in crowd}
        assert "more places are taken than there are" in violations(platform.endpoints["postgres"], event_id, PLACES)
        assert taken_places(platform.endpoints["postgres"], event_id) > PLACES
        assert any("open" in each for each in platform.differences(event=event_id, within=1))
