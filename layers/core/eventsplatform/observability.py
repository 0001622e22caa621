"""Logging, metrics and tracing of every function, through AWS Lambda Powertools.

Logs are JSON on standard output and carry the request id and trace id; secrets and mail addresses are taken out of
them (`redaction`), whoever logs: the records of libraries take the same way. Metrics are CloudWatch EMF
lines under the seed's names, as Powertools writes them. X-Ray subsegments cost 350 ms of imports, so the
tracer is loaded only where `TRACING=xray` asks for it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from aws_lambda_powertools.metrics import MetricUnit

from eventsplatform.redaction import redact_member, redact_traceback
from eventsplatform.tracing import continue_trace

NAMESPACE = "EventsPlatform"
# What a metric may have in one line of CloudWatch's Embedded Metric Format.
VALUES_PER_LINE = 100

# Set by the platform itself, on nearly every line: not worth the time of looking for secrets.
_OWN_KEYS = frozenset({"level", "location", "timestamp", "service", "trace_id", "request_id", "function_request_id"})

# JSON escapes no more than it must. These would end a line, turn its direction or move a terminal's cursor for who
# reads it, and let a text look like lines of its own (CWE-117).
_MISLEADING = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class RedactingFormatter(LambdaPowertoolsFormatter):
    """Powertools' JSON lines without secrets, and one line whatever the text in them is."""

    def serialize(self, log: Any) -> str:
        safe = {key: value if key in _OWN_KEYS else redact_member(key, value) for key, value in log.items()}
        try:
            line = orjson.dumps(safe).decode()
        except TypeError:  # half a character, or a number of more than 64 bits
            return json.dumps(safe)
        return _MISLEADING.sub(lambda found: f"\\u{ord(found[0]):04x}", line)

    def formatException(self, ei: Any) -> str:
        return redact_traceback(super().formatException(ei), ei[1])


logger = Logger(logger_formatter=RedactingFormatter(utc=True, use_rfc3339=True))


def _adopt_libraries() -> None:
    """Have what libraries log formatted the same way, on Lambda: its runtime's handler writes text as it comes."""
    if "AWS_LAMBDA_RUNTIME_API" in os.environ:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(logger.registered_formatter)


_adopt_libraries()


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


def emit_seconds(name: str, seconds: Sequence[float], **dimensions: str) -> None:
    """Write many timings of one metric, as a distribution; nothing when there are none."""
    for first in range(0, len(seconds), VALUES_PER_LINE):
        values = seconds[first : first + VALUES_PER_LINE]
        _write_metrics(_Metric(name, values, MetricUnit.Seconds, dimensions))


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
    value: float | Sequence[float]
    unit: MetricUnit
    dimensions: Mapping[str, str]


def _write_metrics(*metrics: _Metric) -> None:
    """One EMF line with a directive per metric; a dimension that several have must have one value.

    Each metric goes out without dimensions of its own as well: an alarm can't add up those that have some.

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
                "Dimensions": [[*metric.dimensions, *service], *([[*service]] if metric.dimensions else [])],
                "Metrics": [{"Name": metric.name, "Unit": metric.unit.value}],
            }
        )
        values = metric.value if isinstance(metric.value, Sequence) else [float(metric.value)]
        members |= {**metric.dimensions, metric.name: values}
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
