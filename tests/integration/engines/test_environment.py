"""Where engines are: addresses from the environment, ports, and one platform per state directory."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from local.engines import EngineError, EngineEvent
from local.engines.engine import HOST, without_password
from local.engines.ports import CANDIDATES, choose_ports
from tests.support.engines import RunningEngines, engines_running

REDIS = frozenset({"redis"})


def test_an_engine_whose_address_is_given_is_used_and_not_started(engines: RunningEngines, tmp_path: Path) -> None:
    environment = {"REDIS_URL": engines.endpoints.redis, "AWS_ENDPOINT_URL": engines.endpoints.moto}
    events: list[EngineEvent] = []

    with engines_running(
        tmp_path, only=frozenset({"redis", "aws"}), environment=environment, report=events.append
    ) as running:
        statuses = running.statuses()

    assert running.endpoints.redis == engines.endpoints.redis
    assert running.endpoints.aws == running.endpoints.moto == engines.endpoints.moto
    assert {(status.state, status.pid) for status in statuses.values()} == {("external", None)}
    assert {(event.engine, event.kind) for event in events} == {("redis", "external"), ("aws", "external")}
    assert not (tmp_path / "logs").exists()


def test_a_given_address_that_does_not_answer_is_named_with_its_variable(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as unused:
        address = f"redis://:secret@{HOST}:{unused.getsockname()[1]}/0"

    with (
        pytest.raises(EngineError, match="REDIS_URL=redis://") as failure,
        engines_running(tmp_path, only=REDIS, environment={"REDIS_URL": address}),
    ):
        pass

    assert without_password(address) in str(failure.value)
    assert "secret" not in str(failure.value)


def test_a_second_platform_on_the_same_state_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    with engines_running(tmp_path, only=REDIS) as first:
        with (
            pytest.raises(EngineError, match=f"in use by another platform, process {os.getpid()}"),
            engines_running(tmp_path, only=REDIS),
        ):
            pass
        assert first.statuses()["redis"].state == "running"

    with engines_running(tmp_path, only=REDIS) as after_the_first:
        assert after_the_first.statuses()["redis"].state == "running"


def test_ports_are_the_same_at_the_next_start(tmp_path: Path) -> None:
    with engines_running(tmp_path, only=REDIS) as first:
        pass
    with engines_running(tmp_path, only=REDIS) as second:
        assert second.endpoints == first.endpoints


def test_a_remembered_port_that_is_taken_is_replaced_and_the_others_are_kept(tmp_path: Path) -> None:
    before = choose_ports(["redis", "nats"], tmp_path / "ports.json")

    with socket.create_server((HOST, before["redis"])):
        after = choose_ports(["redis", "nats"], tmp_path / "ports.json")

    assert after["redis"] != before["redis"]
    assert after["nats"] == before["nats"]


def test_ports_are_distinct_and_outside_the_range_that_connecting_clients_are_given(tmp_path: Path) -> None:
    ports = choose_ports([f"engine-{number}" for number in range(100)], tmp_path / "ports.json")

    assert len(set(ports.values())) == 100
    assert all(port in CANDIDATES for port in ports.values())
