"""Logging, metrics and tracing of every function, through AWS Lambda Powertools.

Logs are JSON on standard output and carry the request id and trace id. Metrics are CloudWatch EMF
lines under the seed's names. X-Ray subsegments cost 350 ms of imports, so the tracer is loaded only
where `TRACING=xray` asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit, single_metric

from eventsplatform.tracing import continue_trace

NAMESPACE = "EventsPlatform"

logger = Logger(utc=True, use_rfc3339=True)


def begin_invocation(*, traceparent: str | None, **keys: Any) -> None:
    """Join the caller's trace and put its id and `keys`, in place of the last invocation's, on every log line."""
    logger.structure_logs(trace_id=continue_trace(traceparent).trace_id, **keys)


@contextmanager
def handling_message(traceparent: str, **keys: Any) -> Iterator[None]:
    """Join the trace of one message of a batch; its id and `keys` stand on the log lines within."""
    with logger.append_context_keys(trace_id=continue_trace(traceparent).trace_id, **keys):
        yield


def emit_metric(name: str, value: float, *, unit: MetricUnit = MetricUnit.Count, **dimensions: str) -> None:
    """Write one metric as an EMF line; `dimensions` are its labels and must be of bounded cardinality."""
    with single_metric(name=name, unit=unit, value=value, namespace=NAMESPACE) as metric:
        for key, label in dimensions.items():
            metric.add_dimension(name=key, value=label)


def record_http_request(*, method: str, endpoint: str, status: int, seconds: float) -> None:
    """`endpoint` is the route's template (`/v1/events/{event_id}`), never the path with its ids."""
    emit_metric("http_requests_total", 1, method=method, endpoint=endpoint, status=str(status))
    emit_metric("http_request_duration_seconds", seconds, unit=MetricUnit.Seconds, method=method, endpoint=endpoint)


@cache
def _tracer() -> Any:
    if os.environ.get("TRACING") != "xray":
        return None
    from aws_lambda_powertools import Tracer

    return Tracer()


@contextmanager
def traced(name: str, **annotations: str) -> Iterator[None]:
    """An X-Ray subsegment around a call to an engine or another service; nothing where tracing is off."""
    tracer = _tracer()
    if tracer is None:
        yield
        return
    with tracer.provider.in_subsegment(name) as subsegment:
        for key, value in annotations.items():
            subsegment.put_annotation(key, value)
        yield


def header(headers: Mapping[str, str] | None, name: str) -> str | None:
    """A header by its lower-case name, whatever case the sender used (RFC 9110 §5.1)."""
    for key, value in (headers or {}).items():
        if key.lower() == name:
            return value
    return None
