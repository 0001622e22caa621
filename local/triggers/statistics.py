"""What each trigger counts, for `/metrics`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class TriggerStatistics:
    """Totals since the trigger was created.

    `invocations` counts every call of the function, retries included, and `failures` those that failed, wholly or
    in part; `records` counts what was processed with success and `discarded` what was given up.
    """

    invocations: int = 0
    failures: int = 0
    records: int = 0
    discarded: int = 0
