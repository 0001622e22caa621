"""Runs the whole platform until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import sys
import time
from pathlib import Path

import uvloop
from rich.console import Console
from rich.markup import escape

from local.commands.endpoints import STATE
from local.demo.emptiness import is_empty
from local.engines import EngineError, EngineEvent
from local.gateway import PortInUseError
from local.openapi import template_directory
from local.platform import RELAY_FUNCTION, Platform, PlatformSettings, running
from local.template import TemplateError

console = Console(highlight=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT") or 8080), help="default: $PORT or 8080")
    parser.add_argument("--state", type=Path, default=STATE, help="default: $EVENTS_PLATFORM_STATE or .local")
    parser.add_argument(
        "--no-demo",
        action="store_true",
        default=os.environ.get("DEMO") == "0",
        help="leave an empty database empty (also DEMO=0)",
    )


def run(options: argparse.Namespace) -> int:
    _allow_many_files()
    try:
        return uvloop.run(_run(options))
    except (EngineError, TemplateError, PortInUseError) as error:
        console.print(f"[red]{type(error).__name__}[/red]: {escape(str(error))}", soft_wrap=True, markup=True)
        return 1
    except KeyboardInterrupt:
        return 130


async def _run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    settings = PlatformSettings(root=template_directory(), state=options.state.resolve(), port=options.port)
    started = asyncio.Event()
    serving = asyncio.create_task(_serve(settings, options, began, started, stop))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        console.print("\nStopping")
        if not started.is_set() or not await _finished(serving, within=20):
            serving.cancel()
            await asyncio.wait([serving])
    stopped.cancel()
    if serving.cancelled():
        return 130
    serving.result()
    return 0


async def _finished(task: asyncio.Task[None], *, within: float) -> bool:
    await asyncio.wait([task], timeout=within)
    return task.done()


async def _serve(
    settings: PlatformSettings, options: argparse.Namespace, began: float, started: asyncio.Event, stop: asyncio.Event
) -> None:
    async with running(settings, engine_event=_print_engine_event, say=_print) as platform:
        started.set()
        if not options.no_demo:
            await _load_demo(platform, stop)
        if not stop.is_set():
            _print_addresses(platform, time.monotonic() - began)
        await stop.wait()


async def _load_demo(platform: Platform, stop: asyncio.Event) -> None:
    """In a process of its own: what makes the demo data takes memory that this one would keep for good."""
    if not await asyncio.to_thread(is_empty, platform.endpoints.postgres):
        return
    console.print("\n  Loading the demo data into the empty database (DEMO=0 leaves it empty)")
    shards = platform.application.functions[RELAY_FUNCTION].environment["OUTBOX_SHARDS"]
    loading = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local", "demo", "--state", str(platform.settings.state), "--shards", shards),
        cwd=platform.settings.root,
        stdin=asyncio.subprocess.DEVNULL,
    )
    stopped = asyncio.create_task(stop.wait())
    ended = asyncio.create_task(loading.wait())
    await asyncio.wait([stopped, ended], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if loading.returncode is None:
        # What is loaded stays.
        loading.terminate()
        await ended
    elif loading.returncode == 0:
        platform.wake_relay()


def _print(text: str) -> None:
    console.print(f"  [dim]{escape(text)}[/dim]", soft_wrap=True)


def _print_engine_event(event: EngineEvent) -> None:
    match event.kind:
        case "ready":
            console.print(f"  [green]✓[/green] {event.engine:<12} {event.address}  [dim]{event.seconds:.1f} s[/dim]")
        case "external":
            console.print(f"  [green]✓[/green] {event.engine:<12} {event.address}  [dim]as the environment says[/dim]")
        case "died":
            console.print(f"  [red]✗[/red] {event.engine} died: {escape(event.detail)}", soft_wrap=True)
        case "restarted":
            console.print(f"  [green]✓[/green] {event.engine:<12} is back")
        case "failed":
            console.print(f"  [red]✗[/red] {event.engine} does not stay up: {escape(event.detail)}", soft_wrap=True)


def _print_addresses(platform: Platform, seconds: float) -> None:
    gateway = platform.addresses.gateway
    console.print(f"\n[bold]Events Platform[/bold] is ready after {seconds:.1f} s. Ctrl-C stops it.\n")
    rows = [
        ("REST", f"{gateway}/v1/search/events?q=jazz"),
        ("WebSocket", platform.addresses.websocket),
        ("API docs", f"{gateway}/docs"),
        ("Metrics", f"{gateway}/metrics"),
        ("NATS", platform.addresses.nats),
        ("AWS endpoint", platform.addresses.aws),
        ("All addresses", str(platform.settings.state / "endpoints.json")),
        ("Logs", str(platform.settings.state / "logs")),
    ]
    for name, value in rows:
        console.print(f"  {name:<14} {value}", soft_wrap=True)
    console.print()
    sys.stdout.flush()


def _allow_many_files() -> None:
    """A socket, a listener and two pipes per execution environment soon pass the usual limit of 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
