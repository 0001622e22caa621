"""The AWS control plane: moto's server. In memory: it comes back without queues, secrets and state machines.

Clients talk to a front on another port (`local.control_plane`), which answers what moto cannot, such as Lambda's
Invoke API, and passes the rest on.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import httpx

from local.application import REGION
from local.engines.engine import ANSWER_WITHIN_SECONDS, HOST, Command, Engine

# What `moto_server` does, but without a line in the log for each of the polls that consumers of queues make.
PROGRAM = "import logging, moto.server; logging.getLogger('werkzeug').setLevel('WARNING'); moto.server.main()"


class Moto(Engine):
    name = "aws"
    variable = "AWS_ENDPOINT_URL"
    stop_signal = signal.SIGKILL  # has nothing to save, and would wait for the state machines that it executes

    def __init__(self, state: Path, port: int, front_port: int) -> None:
        super().__init__(state, port)
        self._front_port = front_port

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def front_address(self) -> str:
        return f"http://{HOST}:{self._front_port}"

    def command(self) -> Command:
        environment = {
            # Where moto's executor of state machines calls Lambda and every other service: through the front.
            "MOTO_PORT": str(self._front_port),
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": REGION,
        }
        return Command((sys.executable, "-c", PROGRAM, "--host", HOST, "--port", str(self.port)), environment)

    @staticmethod
    async def check(address: str) -> None:
        async with httpx.AsyncClient(timeout=ANSWER_WITHIN_SECONDS, trust_env=False) as client:
            response = await client.get(f"{address.rstrip('/')}/moto-api/")
        if response.is_server_error:  # another emulator has no such page, and says so with a client error
            response.raise_for_status()

    async def configure(self) -> None:
        """Have state machines executed rather than only recorded, and ask for no Docker: functions run elsewhere."""
        async with httpx.AsyncClient(timeout=ANSWER_WITHIN_SECONDS, trust_env=False) as client:
            settings = {"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}}
            response = await client.post(f"{self.address}/moto-api/config", json=settings)
        response.raise_for_status()
