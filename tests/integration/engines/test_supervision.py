"""Engines that die come back where they were; those that cannot are given up on, and said so."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import nats
import psutil
import psycopg
import pytest

from local.engines import NAMES, EngineError, EngineEvent
from local.engines.engines import ENGINES
from local.engines.supervisor import MAXIMUM_QUICK_DEATHS
from tests.integration.engines.state_machines import execute_state_machine
from tests.support.engines import RunningEngines, engines_running
from tests.support.polling import eventually

CHECKS = {engine.name: engine.check for engine in ENGINES}


def is_back(running: RunningEngines, name: str, *, restarts: int) -> bool:
    status = running.statuses()[name]
    return status.state == "running" and status.restarts == restarts


class Watched:
    """Engines that the tests of this module may kill, and what was reported of them."""

    def __init__(self, running: RunningEngines, events: list[EngineEvent]) -> None:
        self.running = running
        self.events = events

    def kill_and_await_return(self, name: str) -> list[EngineEvent]:
        """What was reported from the death to the return."""
        reported = len(self.events)
        restarts = self.running.statuses()[name].restarts
        self.running.kill(name)
        eventually(partial(is_back, self.running, name, restarts=restarts + 1), within=30, what=f"{name} is back")
        return [event for event in self.events[reported:] if event.engine == name]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    events: list[EngineEvent] = []
    with engines_running(tmp_path_factory.mktemp("watched"), report=events.append) as running:
        yield Watched(running, events)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_killed_engine_comes_back_on_the_same_port_as_another_process(watched: Watched, name: str) -> None:
    before = watched.running.statuses()[name]

    events = watched.kill_and_await_return(name)

    after = watched.running.statuses()[name]
    assert (after.state, after.address) == ("running", before.address)
    assert after.pid != before.pid
    assert events[0].kind == "died"
    assert events[0].detail == "ended by SIGKILL"
    assert events[-1].kind == "restarted"
    asyncio.run(CHECKS[name](after.address))


def test_an_engine_that_died_comes_back_only_when_it_is_prepared_for(tmp_path: Path) -> None:
    died, prepared = threading.Event(), threading.Event()

    async def prepare(name: str) -> None:
        assert name == "redis"
        died.set()
        await asyncio.to_thread(prepared.wait)

    with engines_running(tmp_path, only=frozenset({"redis"}), before_restart=prepare) as running:
        before = running.statuses()["redis"]
        running.kill("redis")
        assert died.wait(10)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", urlsplit(before.address).port or 0), timeout=5)

        prepared.set()

        eventually(partial(is_back, running, "redis", restarts=1), within=30, what="redis is back")


def test_postgres_keeps_committed_rows_when_killed(watched: Watched) -> None:
    with psycopg.connect(watched.running.endpoints.postgres, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (id int)")
        connection.execute("INSERT INTO kept VALUES (42)")

        events = watched.kill_and_await_return("postgres")

    with psycopg.connect(watched.running.endpoints.postgres) as connection:
        assert connection.execute("SELECT id FROM kept").fetchall() == [(42,)]
    assert events[-1].keeps_data


def test_nats_keeps_stored_messages_when_killed(watched: Watched) -> None:
    async def publish() -> None:
        client = await nats.connect(watched.running.endpoints.nats)
        await client.jetstream().add_stream(name="kept", subjects=["kept.>"])
        await client.jetstream().publish("kept.created", b"payload")
        await client.close()

    async def fetch() -> bytes | None:
        client = await nats.connect(watched.running.endpoints.nats)
        message = await client.jetstream().get_msg("kept", seq=1)
        await client.close()
        return message.data

    asyncio.run(publish())

    watched.kill_and_await_return("nats")

    assert asyncio.run(fetch()) == b"payload"


def test_moto_still_executes_state_machines_after_its_return(watched: Watched) -> None:
    watched.kill_and_await_return("aws")

    assert execute_state_machine(watched.running.endpoints.moto) == {"answer": 42}


def test_an_engine_that_dies_again_and_again_is_left_alone_and_reported(tmp_path: Path) -> None:
    events: list[EngineEvent] = []
    with engines_running(tmp_path, only=frozenset({"redis"}), report=events.append) as running:
        for death in range(MAXIMUM_QUICK_DEATHS):
            eventually(partial(is_back, running, "redis", restarts=death))
            running.kill("redis")
        eventually(lambda: running.statuses()["redis"].state == "failed")

    kinds = [event.kind for event in events]
    assert kinds.count("died") == MAXIMUM_QUICK_DEATHS
    assert kinds.count("restarted") == MAXIMUM_QUICK_DEATHS - 1
    assert kinds[-1] == "failed"
    assert str(tmp_path / "logs" / "redis.log") in events[-1].detail


def test_a_failed_start_names_engine_and_log_and_stops_the_others(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    data.mkdir(mode=0o700)
    (data / "PG_VERSION").write_text("9.6\n")
    (data / "postgresql.conf").touch()
    before = set(psutil.Process().children())

    with (
        pytest.raises(EngineError) as failure,
        engines_running(tmp_path, only=frozenset({"postgres", "redis", "nats"})),
    ):
        pass

    message = str(failure.value)
    assert message.startswith("postgres does not start")
    assert str(tmp_path / "logs" / "postgres.log") in message
    assert "incompatible with server" in message  # PostgreSQL's own words, from its log
    assert set(psutil.Process().children()) <= before


def test_postgres_starts_although_another_program_has_the_pid_that_a_crash_left_behind(tmp_path: Path) -> None:
    with engines_running(tmp_path, only=frozenset({"postgres"})):
        pass
    unrelated = psutil.Process()
    (tmp_path / "postgres" / "postmaster.pid").write_text(f"{unrelated.pid}\n{tmp_path / 'postgres'}\n")

    with engines_running(tmp_path, only=frozenset({"postgres"})) as running:
        assert running.statuses()["postgres"].state == "running"


def test_postgres_starts_although_nobody_has_reaped_the_one_that_crashed(tmp_path: Path) -> None:
    with engines_running(tmp_path, only=frozenset({"postgres"})):
        pass
    data = tmp_path / "postgres"
    ended = subprocess.Popen(["true"], user=data.owner() if os.geteuid() == 0 else None)
    eventually(lambda: psutil.Process(ended.pid).status() == psutil.STATUS_ZOMBIE, what="a process that has ended")
    (data / "postmaster.pid").write_text(f"{ended.pid}\n{data}\n")

    with engines_running(tmp_path, only=frozenset({"postgres"})) as running:
        assert running.statuses()["postgres"].state == "running"
    ended.wait()
