"""No lock is held across a call: whoever waits for the rows of a transaction would wait for the called one, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_holder: ContextVar[object | None] = ContextVar("transaction_holder", default=None)


@contextmanager
def holding_locks(holder: object) -> Iterator[None]:
    """While the transaction of `holder`, a database connection's owner, is open."""
    token = _holder.set(holder)
    try:
        yield
    finally:
        _holder.reset(token)


def require_no_locks(called: str, *, besides: object | None = None) -> None:
    """Before every call that leaves the process. Raises RuntimeError while a transaction is open.

    What the holder of the transaction itself sends, named by `besides`, is no call.
    """
    holder = _holder.get()
    if holder is not None and holder is not besides:
        raise RuntimeError(f"{called} is called in a transaction: call before it or after its commit")
