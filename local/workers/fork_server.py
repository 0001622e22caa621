"""The fork server: a process with the third-party libraries loaded that forks one execution environment per request.

It runs as a script of its own (`python -I fork_server.py <control fd> <parent pid> <library>…`), never as a module
of the package: what a function starts from must be the interpreter and third-party libraries and nothing of ours.
It stays single-threaded, because only the forking thread survives a fork.

Protocol, over a Unix stream socket, one JSON object per line:

    parent → server   {"spawn": id, "directory", "path", "handler", "environment"}, with one file descriptor
                      (SCM_RIGHTS): the write end of the pipe for the environment's stdout and stderr
                      {"kill": id}
    server → parent   {"ready": true, "missing": [libraries that could not be imported]}
                      {"spawned": id, "pid"} or {"refused": id, "reason"}
                      {"exited": id, "status", "max_rss_bytes"}; the status is negative for a signal

The server is the parent of every environment and reaps it, so an id stays valid until its exit was reported and a
kill can never hit a process that got the same pid later. When the control socket closes, everything is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import site
import socket
import sys
import sysconfig
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

# What the functions import, and what those libraries import only when first used. Several packages are named by
# their parts because the package alone loads little. Libraries of a few functions (SQLAlchemy, NumPy) stay out:
# their memory would be held for all.
LIBRARIES = (
    "anyio._backends._asyncio",
    "argon2",
    "aws_lambda_powertools.event_handler",
    "aws_lambda_powertools.logging",
    "aws_lambda_powertools.metrics",
    "aws_lambda_powertools.utilities.batch",
    "aws_lambda_powertools.utilities.parameters",
    "aws_lambda_powertools.utilities.typing",
    "aws_msk_iam_sasl_signer",
    "boto3",
    "circuitbreaker",
    "confluent_kafka",
    "email_validator",
    "fastapi",
    "jsonschema_rs",
    "jwt",
    "mangum",
    "nats.js",
    "opensearchpy",
    "orjson",
    "psycopg.rows",
    "psycopg.types.json",
    "pydantic.dataclasses",
    "pydantic.networks",
    "pydantic.v1",
    "redis",
    "simplejson",
    "snapshot_restore_py",
    "starlette.middleware",
    "tenacity",
    "urllib.request",
    "uuid",
    "zoneinfo",
)

# A prctl(2) option; Linux only.
PR_SET_PDEATHSIG = 1

# More than the parent ever has outstanding, and far below the kernel's limit for one message (253).
MAXIMUM_DESCRIPTORS = 64


@dataclass(frozen=True)
class Spawn:
    """What a forked child becomes: `python -m awslambdaric <handler>` in this directory, path and environment."""

    id: int
    directory: str
    path: list[str]
    handler: str
    environment: dict[str, str]
    output: int


@dataclass
class ForkServer:
    """Forks on request, reaps, reports."""

    control: socket.socket
    children: dict[int, int] = field(default_factory=dict)  # pid → id
    pids: dict[int, int] = field(default_factory=dict)  # id → pid
    _buffer: bytearray = field(default_factory=bytearray)
    _descriptors: deque[int] = field(default_factory=deque)

    def serve(self) -> Spawn | None:
        """Serve until the parent has gone and return None; in a forked child, return what it is to become.

        Returning all the way up, instead of running the function here, gives the child an empty stack and an
        ordinary interpreter exit.
        """
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as sockets:
            wakeup, signalled = (sockets.enter_context(end) for end in socket.socketpair())
            wakeup.setblocking(False)
            signalled.setblocking(False)
            signal.signal(signal.SIGCHLD, lambda *_: None)
            signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
            sockets.callback(signal.set_wakeup_fd, -1)  # before they are closed: children may end even then
            selector.register(self.control, selectors.EVENT_READ)
            selector.register(wakeup, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is wakeup:
                        with contextlib.suppress(BlockingIOError):
                            wakeup.recv(4096)
                        self._reap()
                        continue
                    if not self._receive():
                        self._kill_all()
                        return None
                    while (message := self._next_message()) is not None:
                        child = self._obey(message)
                        if child is not None:
                            return child

    def send(self, message: dict[str, Any]) -> None:
        # A parent that has gone needs no reports; `serve` sees that it has when it reads next.
        with contextlib.suppress(ConnectionError):
            self.control.sendall(json.dumps(message).encode() + b"\n")

    def _receive(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(self.control, 65_536, MAXIMUM_DESCRIPTORS)
        except ConnectionError:
            return False
        self._descriptors.extend(descriptors)
        self._buffer += data
        return bool(data)

    def _next_message(self) -> dict[str, Any] | None:
        line, newline, rest = self._buffer.partition(b"\n")
        if not newline:
            return None
        self._buffer = rest
        message: dict[str, Any] = json.loads(line)
        return message

    def _obey(self, message: dict[str, Any]) -> Spawn | None:
        if "kill" in message:
            if (pid := self.pids.get(message["kill"])) is not None:
                kill_group(pid)
            return None
        # A stream delivers descriptors in order and no later than the first byte they were sent with, so the
        # oldest one belongs to this message.
        spawn = Spawn(
            id=message["spawn"],
            directory=message["directory"],
            path=message["path"],
            handler=message["handler"],
            environment=message["environment"],
            output=self._descriptors.popleft(),
        )
        try:
            pid = os.fork()
        except OSError as error:
            os.close(spawn.output)
            self.send({"refused": spawn.id, "reason": str(error)})
            return None
        if pid == 0:
            return spawn
        os.close(spawn.output)
        # Parent and child both set the group, so that it exists whoever runs first.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        self.children[pid] = spawn.id
        self.pids[spawn.id] = pid
        self.send({"spawned": spawn.id, "pid": pid})
        return None

    def _reap(self) -> None:
        while self.children:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            kill_group(pid)  # whatever the function has started and left behind
            id = self.children.pop(pid)
            del self.pids[id]
            max_rss_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            self.send({"exited": id, "status": os.waitstatus_to_exitcode(status), "max_rss_bytes": max_rss_bytes})

    def _kill_all(self) -> None:
        for pid in self.children:
            kill_group(pid)


def kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM when only zombies are left
        os.killpg(pid, signal.SIGKILL)


def die_with_parent(parent: int) -> None:
    """End this process when its parent ends, however that ends. macOS has no such means; the sockets do it there."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the request took effect
        os._exit(1)


def import_libraries(names: list[str]) -> list[str]:
    """Import these modules; returns the names of those that cannot be imported."""
    missing = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if (boto3 := sys.modules.get("boto3")) is not None:
        # The first client imports most of botocore (endpoints, signers, parsers, retries).
        boto3.Session("none", "none", region_name="us-east-1").client("sqs")
    return missing


def third_party_path() -> list[str]:
    """`sys.path` without what editable installs add to it: the standard library and site-packages.

    A function then finds first-party code only in its own directory and layers, as on Lambda.
    """
    kept = {os.path.realpath(path) for path in (*sysconfig.get_paths().values(), *site.getsitepackages())}
    kept |= {os.path.realpath(path) for path in sys.path if path.endswith(("lib-dynload", ".zip"))}
    return [path for path in sys.path if os.path.realpath(path) in kept]


def become_environment(spawn: Spawn, server: int, base_path: list[str]) -> None:
    """Turn this forked child into the execution environment; returns when its runtime has ended."""
    os.dup2(spawn.output, 1)
    os.dup2(spawn.output, 2)
    close_descriptors(lowest=3)
    die_with_parent(server)
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)

    os.environ.clear()
    os.environ.update(spawn.environment)
    time.tzset()
    os.chdir(spawn.directory)
    sys.path[:] = [*spawn.path, *base_path]
    sys.argv = ["awslambdaric", spawn.handler]
    gc.enable()
    # Only now: awslambdaric reads the environment, among it the address of the Runtime API, when it is imported.
    log_whole_records()
    # `random` needs no seeding: the standard library reseeds it in a forked child.
    runpy.run_module("awslambdaric", run_name="__main__", alter_sys=True)


def log_whole_records() -> None:
    """Have each record that the runtime logs be one line, as it is one event on Lambda, where it travels in a frame.

    Without frames a record that ends with a traceback leaves its line open, and what is printed next, the metrics
    perhaps, is lost in it. Line breaks become carriage returns, as the runtime writes errors.
    """
    from awslambdaric.bootstrap import StandardLogSink

    def log(_sink: StandardLogSink, message: str, frame_type: object = None) -> None:  # noqa: ARG001
        sys.stdout.write(message.rstrip("\n").replace("\n", "\r") + "\n")

    def log_error(sink: StandardLogSink, lines: list[str]) -> None:
        sink.log("\n".join(lines))

    StandardLogSink.log, StandardLogSink.log_error = log, log_error


def close_descriptors(lowest: int) -> None:
    for descriptor in [int(name) for name in os.listdir("/dev/fd")]:
        if descriptor >= lowest:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(descriptor)


def main() -> None:
    control, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with_parent(parent)
    # Nothing may be collected between here and the freeze: the holes it leaves would be filled, page by page, by
    # the children (see the documentation of gc.freeze).
    gc.disable()
    server = ForkServer(socket.socket(fileno=control))
    missing = import_libraries(sys.argv[3:])
    base_path = third_party_path()
    gc.freeze()
    server.send({"ready": True, "missing": missing})
    pid = os.getpid()
    spawn = server.serve()
    server.control.close()
    if spawn is None:
        os._exit(0)  # nothing is left to do, and the interpreter would first take apart all it has imported
    become_environment(spawn, pid, base_path)


if __name__ == "__main__":
    main()
