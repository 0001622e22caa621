"""CloudWatch metrics on one machine, as Prometheus text.

Functions publish metrics as log lines in CloudWatch's Embedded Metric Format
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).
`EmfMetrics` reads them from the log, `LambdaMetrics` keeps what Lambda itself measures; both are rendered together.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

Kind = Literal["counter", "gauge", "histogram"]
M = TypeVar("M", Counter, Gauge, Histogram)

# How many units make a second, for histogram buckets in the metric's own unit.
UNITS_PER_SECOND = {"Seconds": 1, "Milliseconds": 1_000, "Microseconds": 1_000_000}

_ILLEGAL = re.compile(r"[^a-zA-Z0-9_]")


class EmfMetrics:
    """Turns EMF log lines into Prometheus metrics of the same names, with all dimensions as labels.

    The unit says what a metric is: `Count` a counter (Prometheus' text format has its name end in `_total`), a unit
    of time a histogram with Prometheus' default buckets (scaled to the unit), anything else a gauge. The namespace is
    dropped. A metric with several dimension sets gets the union of their dimensions: any one of the sets is a sum
    over it.

    At most `maximum_series` label combinations are kept per metric and `maximum_metrics` metrics; what comes beyond
    is counted in `emf_dropped_total`, and lines that claim to be EMF and are not in `emf_malformed_total`.
    """

    def __init__(self, *, maximum_series: int = 1_000, maximum_metrics: int = 500) -> None:
        disable_created_metrics()  # a second series per counter, of use to OpenMetrics alone
        self.registry = CollectorRegistry()
        self._families = _Families(maximum_series, maximum_metrics)
        self.registry.register(self._families)
        self._malformed = Counter(
            "emf_malformed", "Log lines with broken metrics", ["function"], registry=self.registry
        )
        self._dropped = Counter("emf_dropped", "Metric values over a limit", ["function"], registry=self.registry)

    def observe(self, function: str, line: bytes) -> None:
        """Take the metrics of one log line; lines without any are ignored."""
        if b'"_aws"' not in line:
            return
        try:
            values = list(_read(line))
        except (ValueError, LookupError, TypeError, AttributeError):
            self._malformed.labels(function).inc()
            return
        for name, unit, labels, numbers in values:
            if not self._families.observe(name, unit, labels, numbers):
                self._dropped.labels(function).inc(len(numbers))

    def render(self) -> bytes:
        """Everything in Prometheus' text format (version 0.0.4)."""
        return generate_latest(self.registry)


class LambdaMetrics:
    """Lambda's own metrics per function: invocations, errors, throttles, duration, cold starts, concurrency."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def per_function(metric: type[M], name: str, text: str) -> Callable[[str], M]:
            # Looking a label up costs more than counting, and this is done for every invocation.
            return functools.cache(metric(name, text, ["function"], registry=registry).labels)

        self._invocations = per_function(Counter, "lambda_invocations", "Invocations, failed ones included")
        self._throttles = per_function(Counter, "lambda_throttles", "Invocations refused: reserved concurrency")
        self._cold_starts = per_function(Counter, "lambda_cold_starts", "Invocations that were an environment's first")
        self._duration = per_function(Histogram, "lambda_duration_seconds", "Time in the function")
        self._init = per_function(Histogram, "lambda_init_duration_seconds", "Time to initialise an environment")
        self._environments = per_function(Gauge, "lambda_environments", "Execution environments")
        self._running = per_function(Gauge, "lambda_concurrent_executions", "Invocations running")
        self._errors = Counter("lambda_errors", "Failed invocations", ["function", "error_type"], registry=registry)

    def invoked(
        self, function: str, *, duration_seconds: float, init_seconds: float | None, error_type: str | None
    ) -> None:
        """An invocation has ended; `init_seconds` when its environment was new, `error_type` when it failed."""
        self._invocations(function).inc()
        self._duration(function).observe(duration_seconds)
        if init_seconds is not None:
            self._cold_starts(function).inc()
            self._init(function).observe(init_seconds)
        if error_type is not None:
            self._errors.labels(function, error_type).inc()

    def throttled(self, function: str) -> None:
        """An invocation was refused with 429."""
        self._throttles(function).inc()

    def scaled(self, function: str, *, environments: int, running: int) -> None:
        """The function now has so many environments, of which so many are running an invocation."""
        self._environments(function).set(environments)
        self._running(function).set(running)


def _read(line: bytes) -> Iterator[tuple[str, str, dict[str, str], list[float]]]:
    """The (name, unit, labels, values) of a line. Raises ValueError, LookupError, TypeError or AttributeError."""
    document = json.loads(line)
    for directive in document["_aws"]["CloudWatchMetrics"]:
        dimensions = dict.fromkeys(name for names in directive["Dimensions"] for name in names)
        labels = {_legal(name): str(document[name]) for name in dimensions}
        for metric in directive["Metrics"]:
            value = document[metric["Name"]]
            numbers = [float(number) for number in (value if isinstance(value, list) else [value])]
            yield _legal(metric["Name"]), metric.get("Unit", "None"), labels, numbers


def _legal(name: str) -> str:
    """The name in the characters Prometheus allows, in which "le" is a histogram's own label."""
    legal = _ILLEGAL.sub("_", name)
    if legal == "le" or not legal or legal[0].isdigit() or legal.startswith("__"):
        return f"emf_{legal.lstrip('_')}"
    return legal


class _Families(Collector):
    """Metrics by name; below one name, a library metric for each set of label names that has occurred."""

    def __init__(self, maximum_series: int, maximum_metrics: int) -> None:
        self._maximum_series = maximum_series
        self._maximum_metrics = maximum_metrics
        self._families: dict[str, dict[tuple[str, ...], Counter | Gauge | Histogram]] = {}
        self._kinds: dict[str, Kind] = {}
        self._series: dict[str, set[tuple[tuple[str, str], ...]]] = {}

    def observe(self, name: str, unit: str, labels: Mapping[str, str], values: Sequence[float]) -> bool:
        """Record the values; False when a limit forbids it or they contradict what the metric is."""
        kind = _kind(unit)
        if kind == "counter":
            name = f"{name.removesuffix('_total')}_total"
            if not all(value >= 0 for value in values):
                return False
        if name not in self._families and len(self._families) >= self._maximum_metrics:
            return False
        if self._kinds.setdefault(name, kind) != kind:
            return False
        ordered = tuple(sorted(labels.items()))
        series = self._series.setdefault(name, set())
        if ordered not in series:
            if len(series) >= self._maximum_series:
                return False
            series.add(ordered)
        names = tuple(label for label, _ in ordered)
        family = self._families.setdefault(name, {})
        if names not in family:
            family[names] = _metric(kind, name, unit, names)
        metric = family[names].labels(*(value for _, value in ordered)) if names else family[names]
        for value in values:
            if isinstance(metric, Counter):
                metric.inc(value)
            elif isinstance(metric, Histogram):
                metric.observe(value)
            else:
                metric.set(value)
        return True

    def collect(self) -> Iterator[Metric]:
        for family in self._families.values():
            merged, *others = [metric for member in family.values() for metric in member.collect()]
            for other in others:
                merged.samples.extend(other.samples)
            yield merged


def _kind(unit: str) -> Kind:
    if unit == "Count":
        return "counter"
    return "histogram" if unit in UNITS_PER_SECOND else "gauge"


def _metric(kind: Kind, name: str, unit: str, labels: tuple[str, ...]) -> Counter | Gauge | Histogram:
    """A metric outside any registry: `_Families` collects it."""
    text = f"Published by functions, unit {unit}"
    if kind == "counter":
        return Counter(name, text, labels, registry=None)
    if kind == "gauge":
        return Gauge(name, text, labels, registry=None)
    scale = UNITS_PER_SECOND[unit]
    buckets = [bound * scale for bound in Histogram.DEFAULT_BUCKETS]
    return Histogram(name, text, labels, registry=None, buckets=buckets)
