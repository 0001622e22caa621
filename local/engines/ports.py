"""Ports of the engines: free when chosen, and the same again at the next start where possible."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from local.engines.engine import HOST

# Below the ranges from which Linux (32768-60999) and macOS (49152-65535) take the local ports of outgoing connections.
# A client that keeps trying to reach a stopped engine on a port inside that range will in time be given that very port
# as its own and connect to itself, and the engine can no longer listen on it.
CANDIDATES = range(20_000, 32_768)


def choose_ports(names: Iterable[str], remembered: Path) -> dict[str, int]:
    """A distinct free port of the loopback interface for each name, preferring those in the file `remembered`.

    Writes the choice back to that file, beside the ports of names not asked for now.
    """
    before: dict[str, int] = json.loads(remembered.read_text()) if remembered.exists() else {}
    with ExitStack() as held:
        chosen = {name: _first_free(before.get(name), held) for name in names}
    remembered.write_text(json.dumps(before | chosen, indent=1))
    return chosen


def _first_free(preferred: int | None, held: ExitStack) -> int:
    for port in (*((preferred,) if preferred else ()), *random.sample(CANDIDATES, k=len(CANDIDATES))):
        listener = held.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the engines do; TIME_WAIT is no obstacle
        try:
            listener.bind((HOST, port))
            listener.listen()  # with SO_REUSEADDR, bind alone would let two of our own choices share a port
        except OSError:
            continue
        return port
    raise OSError(f"no free port from {CANDIDATES[0]} to {CANDIDATES[-1]}")
