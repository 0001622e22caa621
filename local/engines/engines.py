"""All engines of the platform together: the object that the platform starts and stops."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from local.engines.engine import Engine, EngineError, EngineEvent, EngineStatus, without_password
from local.engines.kafka import Kafka
from local.engines.moto import Moto
from local.engines.nats import Nats
from local.engines.opensearch import OpenSearch
from local.engines.pids import PidRegistry
from local.engines.ports import choose_ports
from local.engines.postgres import Postgres
from local.engines.state_lock import StateLock
from local.engines.supervisor import Supervisor
from local.engines.valkey import Valkey

ENGINES: tuple[type[Engine], ...] = (Postgres, Valkey, Kafka, Nats, OpenSearch, Moto)
NAMES = frozenset(engine.name for engine in ENGINES)

AWS_FRONT = "aws-front"  # as `ports.json` calls it

EXTERNAL_READY_WITHIN_SECONDS = 3.0  # it may have been started together with the platform
EXTERNAL_PROBE_EVERY_SECONDS = 0.25


@dataclass(frozen=True)
class Endpoints:
    """Where each engine is; empty for one that was not asked for.

    `aws` is the endpoint for AWS clients. With the embedded control plane nothing listens there before
    `local.control_plane` does, which passes on to `moto`; with an external one the two are the same.
    """

    postgres: str = ""  # postgresql://postgres@127.0.0.1:PORT/events_platform
    redis: str = ""  # redis://127.0.0.1:PORT/0
    kafka: str = ""  # 127.0.0.1:PORT
    nats: str = ""  # nats://127.0.0.1:PORT
    opensearch: str = ""  # http://127.0.0.1:PORT
    aws: str = ""  # http://127.0.0.1:PORT
    moto: str = ""  # http://127.0.0.1:PORT


class Engines:
    """The engines, with everything they keep below `state`.

    An engine whose variable is set in `environment` is used where it is and not started. `report` is called with
    each event, on the event loop. `before_restart` is awaited with the name of an engine that has died before it is
    brought back; it must not raise. `only` names the engines wanted, for tests that need a few.
    """

    def __init__(
        self,
        state: Path,
        *,
        environment: Mapping[str, str] = os.environ,
        report: Callable[[EngineEvent], None] | None = None,
        before_restart: Callable[[str], Awaitable[None]] | None = None,
        only: frozenset[str] = NAMES,
    ) -> None:
        if unknown := only - NAMES:
            raise ValueError(f"no such engines: {', '.join(sorted(unknown))}")
        self._state = state.absolute()
        self._report = report or (lambda _: None)
        self._before_restart = before_restart or _nothing_to_do
        wanted = [engine for engine in ENGINES if engine.name in only]
        self._external = {engine: address for engine in wanted if (address := environment.get(engine.variable))}
        self._embedded = [engine for engine in wanted if engine not in self._external]
        self._supervisors: dict[str, Supervisor] = {}
        self._lock = StateLock(self._state / "lock")
        self._registry = PidRegistry(self._state / "pids.json")

    async def start(self) -> Endpoints:
        """Start all, in parallel, and return when every one answers.

        Raises EngineError when one does not, after stopping the others: with its name, its log's path and last
        lines, or with the variable and value of an external one. Also when another platform runs on this state.
        """
        self._state.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            await asyncio.to_thread(self._registry.clean_up)
            endpoints = self._lay_out()
            async with asyncio.TaskGroup() as group:
                for engine, address in self._external.items():
                    group.create_task(self._use(engine, address))
                for supervisor in self._supervisors.values():
                    group.create_task(supervisor.start())
        except BaseExceptionGroup as failures:
            await self.stop()
            failure = _first(failures)
            raise failure from failure.__cause__
        except BaseException:
            await self.stop()
            raise
        return endpoints

    async def stop(self) -> None:
        """Stop what was started, in parallel. Safe to call again, and after a failed start."""
        try:
            await asyncio.gather(*(supervisor.stop() for supervisor in self._supervisors.values()))
        finally:
            self._lock.release()

    async def kill(self, name: str) -> None:
        """SIGKILL the process of an embedded engine, as a crash would end it. It is then brought back."""
        self._supervisors[name].kill()

    def statuses(self) -> Mapping[str, EngineStatus]:
        """By engine name."""
        external = {engine.name: EngineStatus("external", address) for engine, address in self._external.items()}
        return external | {name: supervisor.status for name, supervisor in self._supervisors.items()}

    def _lay_out(self) -> Endpoints:
        """Give each embedded engine its port, log and supervisor."""
        names = [engine.name for engine in self._embedded]
        ports = choose_ports([*names, AWS_FRONT], self._state / "ports.json")
        addresses = {engine.name: address for engine, address in self._external.items()}
        addresses["moto"] = addresses.get("aws", "")
        for engine_class in self._embedded:
            if engine_class is Moto:
                moto = Moto(self._state, ports["aws"], ports[AWS_FRONT])
                engine: Engine = moto
                addresses |= {"aws": moto.front_address, "moto": moto.address}
            else:
                engine = engine_class(self._state, ports[engine_class.name])
                addresses[engine.name] = engine.address
            self._supervisors[engine.name] = Supervisor(
                engine,
                log=self._fresh_log(engine.name),
                registry=self._registry,
                report=self._report,
                before_restart=self._before_restart,
            )
        return Endpoints(**addresses)

    def _fresh_log(self, name: str) -> Path:
        """The path of an engine's log, with the previous run's moved aside to `<name>.log.1`."""
        log = self._state / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            log.replace(log.with_suffix(".log.1"))
        return log

    async def _use(self, engine: type[Engine], address: str) -> None:
        began = time.monotonic()
        while True:
            try:
                await engine.check(address)
                break
            except Exception as error:
                # Each client library has exceptions of its own for "no answer".
                if time.monotonic() - began > EXTERNAL_READY_WITHIN_SECONDS:
                    raise EngineError(
                        f"{engine.variable}={without_password(address)} does not answer as {engine.name}: "
                        f"{error or type(error).__name__}\nunset {engine.variable} to have {engine.name} embedded"
                    ) from error
            await asyncio.sleep(EXTERNAL_PROBE_EVERY_SECONDS)
        self._report(EngineEvent(engine.name, "external", address, time.monotonic() - began, keeps_data=True))


async def _nothing_to_do(_engine: str) -> None:
    pass


def _first(failures: BaseExceptionGroup) -> BaseException:
    """The first failure; those that it made the other tasks stop with say no more."""
    failure = failures.exceptions[0]
    return _first(failure) if isinstance(failure, BaseExceptionGroup) else failure
