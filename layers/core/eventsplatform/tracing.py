"""W3C Trace Context: one trace from the HTTP request through outbox, Kafka, NATS and WebSocket pushes.

Only the `traceparent` header is carried (https://www.w3.org/TR/trace-context/); X-Ray's own header is
the Lambda runtime's business. The current trace lives in a context variable for one invocation.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_ZEROS = frozenset({"0" * 32, "0" * 16})


@dataclass(frozen=True)
class TraceContext:
    trace_id: str
    span_id: str
    flags: str = "01"

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def child(self) -> TraceContext:
        """The same trace with a span of our own."""
        return TraceContext(self.trace_id, secrets.token_hex(8), self.flags)


_current: ContextVar[TraceContext | None] = ContextVar("trace", default=None)


def continue_trace(traceparent: str | None) -> TraceContext:
    """Enter the caller's trace, or a new one when there is none or it is malformed (as the W3C text asks)."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match and not _ZEROS & {match[1], match[2]}:
        trace = TraceContext(match[1], match[2], match[3]).child()
    else:
        trace = TraceContext(secrets.token_hex(16), secrets.token_hex(8))
    _current.set(trace)
    return trace


def current_traceparent() -> str:
    """The `traceparent` to hand on; starts a trace when the invocation has none yet."""
    return (_current.get() or continue_trace(None)).traceparent
