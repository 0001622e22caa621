"""Stopping an engine that is just being brought back."""

from __future__ import annotations

import asyncio
from pathlib import Path

from local.engines.pids import PidRegistry
from local.engines.supervisor import Supervisor
from local.engines.valkey import Valkey
from tests.support.platform import free_port


class Distracted(Valkey):
    """Once it is told to be, its next probe waits, and takes the first cancellation for a connection that failed."""

    distracted = False
    probed: asyncio.Event

    async def check(self, address: str) -> None:  # type: ignore[override]
        await Valkey.check(address)
        if not self.distracted:
            return
        self.probed.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.distracted = False
            raise ConnectionError("no answer yet") from None


def test_an_engine_is_stopped_although_its_probe_swallows_the_cancellation(tmp_path: Path) -> None:
    async def scenario() -> str:
        # Given an engine that has been killed, whose first probe after that hangs
        engine = Distracted(tmp_path, free_port())
        engine.probed = asyncio.Event()
        registry = PidRegistry(tmp_path / "pids.json")
        supervisor = Supervisor(
            engine,
            log=tmp_path / "valkey.log",
            registry=registry,
            report=lambda _: None,
            before_restart=lambda _: asyncio.sleep(0),
        )
        await supervisor.start()
        engine.distracted = True
        supervisor.kill()
        await asyncio.wait_for(engine.probed.wait(), 30)

        # When it is stopped
        await asyncio.wait_for(supervisor.stop(), 30)
        return supervisor.status.state

    # Then it ends
    assert asyncio.run(scenario()) == "stopped"
