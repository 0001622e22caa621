"""Logging, metrics and tracing of every function, through AWS Lambda Powertools.

Logs are JSON on standard output and carry the request id and trace id. Metrics are CloudWatch EMF
lines under the seed's names, as Powertools writes them. X-Ray subsegments cost 350 ms of imports, so the
tracer is loaded only where `TRACING=xray` asks for it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit

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
    _write_metrics(_Metric(name, value, unit, dimensions))


def record_http_request(*, method: str, endpoint: str, status: int, seconds: float) -> None:
    """`endpoint` is the route's template (`/v1/events/{event_id}`), never the path with its ids."""
    route = {"method": method, "endpoint": endpoint}
    _write_metrics(
        _Metric("http_requests_total", 1, MetricUnit.Count, {**route, "status": str(status)}),
        _Metric("http_request_duration_seconds", seconds, MetricUnit.Seconds, route),
    )


@dataclass(frozen=True)
class _Metric:
    name: str
    value: float
    unit: MetricUnit
    dimensions: Mapping[str, str]


def _write_metrics(*metrics: _Metric) -> None:
    """One EMF line with a directive per metric; a dimension that several have must have one value.

    Powertools can't give the metrics of a line dimensions of their own, and its two lines for each request took a
    fifth of a short function's time. The line goes out whole: Lambda's standard output is not buffered.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    service = {"service": logger.service}
    directives = []
    members: dict[str, Any] = {}
    for metric in metrics:
        directives.append(
            {
                "Namespace": NAMESPACE,
                "Dimensions": [[*metric.dimensions, *service]],
                "Metrics": [{"Name": metric.name, "Unit": metric.unit.value}],
            }
        )
        members |= {**metric.dimensions, metric.name: [float(metric.value)]}
    header = {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": directives}
    sys.stdout.write(orjson.dumps({"_aws": header, **members, **service}).decode() + "\n")


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
