"""OpenSearch: osmem, from the wheel `osmem-server`. In memory: it comes back without indices."""

from __future__ import annotations

import httpx

from local.engines.engine import ANSWER_WITHIN_SECONDS, HOST, Command, Engine, packaged_program


class OpenSearch(Engine):
    name = "opensearch"
    variable = "OPENSEARCH_URL"
    ends_with_stdin = True

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> Command:
        program = packaged_program("osmem_server", "bin/osmem-server")
        return Command((program, "-addr", f"{HOST}:{self.port}", "-no-ja"))  # its Japanese dictionary takes memory

    @staticmethod
    async def check(address: str) -> None:
        async with httpx.AsyncClient(timeout=ANSWER_WITHIN_SECONDS, trust_env=False) as client:
            response = await client.get(address)
        response.raise_for_status()
        if "version" not in response.json():
            raise ValueError(f"{address} answers, but not as OpenSearch does")
