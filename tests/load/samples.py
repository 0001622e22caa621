"""What a series of timings comes to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """Percentiles of timings, in milliseconds."""

    count: int
    p50: float
    p95: float
    p99: float
    maximum: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Summary:
        """Interpolated between the timings, never beyond them. Raises ValueError without any."""
        if not seconds:
            raise ValueError("no timings")
        ms = [second * 1000 for second in seconds]
        cuts = statistics.quantiles(ms, n=100, method="inclusive") if len(ms) > 1 else ms * 99
        return cls(len(ms), cuts[49], cuts[94], cuts[98], max(ms))
