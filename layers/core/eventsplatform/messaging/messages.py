"""The messages that answer commands, on the subject where their sender waits."""

from __future__ import annotations

from collections.abc import Mapping

from eventsplatform.messaging.commands import FAILED, SUCCEEDED, CommandFailed, CommandSucceeded
from eventsplatform.messaging.schemas import Schema, told


def schemas() -> Mapping[str, Schema]:
    """What the data of each type look like."""
    return {SUCCEEDED: told(CommandSucceeded), FAILED: told(CommandFailed)}
