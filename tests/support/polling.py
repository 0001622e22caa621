"""Waiting for something to become true, with a deadline instead of a sleep of hopeful length."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(probe: Callable[[], T], *, within: float = 10.0, every: float = 0.02, what: str = "") -> T:
    """Call `probe` until it returns something truthy and return that.

    An exception of the probe counts as "not yet". Raises AssertionError, naming the last value or
    exception seen, when `within` seconds have passed.
    """
    deadline = time.monotonic() + within
    last: object = None
    while True:
        try:
            value = probe()
            if value:
                return value
            last = value
        except Exception as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(
                f"{what or getattr(probe, '__name__', 'condition')} not within {within} s; last: {last!r}"
            )
        time.sleep(every)


async def eventually_async(
    probe: Callable[[], Awaitable[T]], *, within: float = 10.0, every: float = 0.02, what: str = ""
) -> T:
    """`eventually` for a coroutine function; the event loop runs between the attempts."""
    deadline = time.monotonic() + within
    last: object = None
    while True:
        try:
            value = await probe()
            if value:
                return value
            last = value
        except Exception as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(
                f"{what or getattr(probe, '__name__', 'condition')} not within {within} s; last: {last!r}"
            )
        await asyncio.sleep(every)
