"""What the garbage collector has to look at."""

from __future__ import annotations

import gc
from functools import cache


@cache
def spare_what_is_loaded() -> None:
    """From now on, leave modules, clients and all else that is here by now out of every collection.

    Batches of messages are objects by the ten thousand that live for a while. Each time that they have become a quarter
    of what there is, the collector goes through all of it, and finds nothing: of the bridge from NATS that took a sixth
    of its processor time. https://docs.python.org/3/library/gc.html#gc.freeze
    """
    gc.freeze()
