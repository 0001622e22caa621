"""CloudWatch's Embedded Metric Format in, Prometheus text out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from local.metrics import EmfMetrics, LambdaMetrics


def emf(
    metrics: dict[str, tuple[str, Any]], dimensions: dict[str, str], dimension_sets: list[list[str]] | None = None
) -> bytes:
    """A line as Powertools writes it; `metrics` maps a name to its unit and value."""
    directive = {
        "Namespace": "EventsPlatform",
        "Dimensions": dimension_sets if dimension_sets is not None else [list(dimensions)],
        "Metrics": [{"Name": name, "Unit": unit} for name, (unit, _) in metrics.items()],
    }
    values = {name: value for name, (_, value) in metrics.items()}
    return json.dumps(
        {
            "_aws": {"Timestamp": 1, "CloudWatchMetrics": [directive]},
            **dimensions,
            **values,
            "request_id": "not a label",
        }
    ).encode()


def samples(metrics: EmfMetrics, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Label pairs → value of the samples of this name, read back with the library's own parser."""
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name == name
    }


REQUEST = {"method": "GET", "endpoint": "/v1/events/{event_id}", "status": "200"}


def test_a_count_is_a_counter_of_exactly_its_name() -> None:
    metrics = EmfMetrics()

    for value in (1, 1, [2, 3]):
        metrics.observe("GetEvent", emf({"http_requests_total": ("Count", value)}, REQUEST))

    assert samples(metrics, "http_requests_total") == {tuple(sorted(REQUEST.items())): 7}
    assert b"# TYPE http_requests_total counter\n" in metrics.render()
    assert b"_created" not in metrics.render()


def test_seconds_are_a_histogram() -> None:
    metrics = EmfMetrics()
    labels = {"method": "GET", "endpoint": "/v1/events"}

    metrics.observe("ListEvents", emf({"http_request_duration_seconds": ("Seconds", [0.004, 0.03, 0.3])}, labels))

    key = tuple(sorted(labels.items()))
    assert samples(metrics, "http_request_duration_seconds_count") == {key: 3}
    assert samples(metrics, "http_request_duration_seconds_sum")[key] == pytest.approx(0.334)
    buckets = samples(metrics, "http_request_duration_seconds_bucket")
    counts = {dict(labels)["le"]: value for labels, value in buckets.items()}
    assert [counts[bound] for bound in ("0.005", "0.05", "0.5", "+Inf")] == [1, 2, 3, 3]


def test_milliseconds_are_a_histogram_with_buckets_in_milliseconds() -> None:
    metrics = EmfMetrics()

    metrics.observe("Relay", emf({"relay_latency": ("Milliseconds", 30)}, {}))

    buckets = {dict(labels)["le"]: value for labels, value in samples(metrics, "relay_latency_bucket").items()}
    assert (buckets["25.0"], buckets["50.0"]) == (0, 1)


def test_any_other_unit_is_a_gauge_that_keeps_the_last_value() -> None:
    metrics = EmfMetrics()

    metrics.observe("Evaluate", emf({"ml_model_accuracy": ("None", 0.5)}, {"model": "m1"}))
    metrics.observe("Evaluate", emf({"ml_model_accuracy": ("None", [0.7, 0.9])}, {"model": "m1"}))

    assert samples(metrics, "ml_model_accuracy") == {(("model", "m1"),): 0.9}


def test_several_dimension_sets_become_one_series_with_all_dimensions() -> None:
    metrics = EmfMetrics()
    dimensions = {"service": "registrations", "status": "confirmed"}

    line = emf({"event_registrations_total": ("Count", 1)}, dimensions, [["service"], ["service", "status"], []])
    metrics.observe("Register", line)

    assert samples(metrics, "event_registrations_total") == {tuple(sorted(dimensions.items())): 1}


def test_one_metric_may_come_with_different_dimensions() -> None:
    metrics = EmfMetrics()

    metrics.observe("A", emf({"jobs_total": ("Count", 1)}, {"kind": "a"}))
    metrics.observe("B", emf({"jobs_total": ("Count", 2)}, {"kind": "b", "zone": "z"}))
    metrics.observe("C", emf({"jobs_total": ("Count", 4)}, {}))

    assert samples(metrics, "jobs_total") == {
        (("kind", "a"),): 1,
        (("kind", "b"), ("zone", "z")): 2,
        (): 4,
    }
    assert metrics.render().count(b"# TYPE jobs_total ") == 1


def test_names_that_prometheus_does_not_allow_are_made_legal() -> None:
    metrics = EmfMetrics()

    metrics.observe("F", emf({"Cold Start.µs": ("Microseconds", 5)}, {"le": "1", "my-zone": "z"}))

    assert samples(metrics, "Cold_Start__s_count") == {(("emf_le", "1"), ("my_zone", "z")): 1}


@pytest.mark.parametrize(
    "line",
    [
        b'{"_aws": {"CloudWatchMetrics": [',
        b'{"_aws": {}}',
        b'{"_aws": 1}',
        b'{"_aws": {"CloudWatchMetrics": [{"Namespace": "n", "Dimensions": [["gone"]], "Metrics": []}]}}',
        b'{"_aws": {"CloudWatchMetrics": [{"Dimensions": [], "Metrics": [{"Name": "gone"}]}]}}',
        b'{"_aws": {"CloudWatchMetrics": [{"Dimensions": [], "Metrics": [{"Name": "m"}]}]}, "m": "many"}',
        b'{"_aws": {"CloudWatchMetrics": [{"Dimensions": [], "Metrics": [{"Name": "m"}]}]}, "m": null}',
        b'\xff "_aws"',
    ],
)
def test_a_malformed_line_is_counted_and_nothing_else(line: bytes) -> None:
    metrics, untouched = EmfMetrics(), EmfMetrics()

    metrics.observe("F", line)

    assert samples(metrics, "emf_malformed_total") == {(("function", "F"),): 1}
    assert {line for line in metrics.render().splitlines() if b"emf_malformed_total{" not in line} == set(
        untouched.render().splitlines()
    )


@pytest.mark.parametrize("line", [b"", b"plain text", b'{"message": "structured"}', b"[1, 2]"])
def test_any_other_line_is_ignored(line: bytes) -> None:
    metrics = EmfMetrics()
    before = metrics.render()

    metrics.observe("F", line)

    assert metrics.render() == before


def test_label_values_beyond_the_limit_are_dropped_and_counted() -> None:
    metrics = EmfMetrics(maximum_series=3)

    for number in range(10):
        metrics.observe("F", emf({"logins_total": ("Count", 1)}, {"user": str(number)}))
    metrics.observe("F", emf({"logins_total": ("Count", 1)}, {"user": "0"}))  # a known one still counts

    assert samples(metrics, "logins_total") == {(("user", "0"),): 2, (("user", "1"),): 1, (("user", "2"),): 1}
    assert samples(metrics, "emf_dropped_total") == {(("function", "F"),): 7}


def test_metrics_beyond_the_limit_are_dropped_and_counted() -> None:
    metrics = EmfMetrics(maximum_metrics=2)

    for number in range(4):
        metrics.observe("F", emf({f"metric_{number}": ("None", 1)}, {}))

    assert samples(metrics, "emf_dropped_total") == {(("function", "F"),): 2}


@pytest.mark.parametrize(("unit", "value"), [("None", 1), ("Seconds", 1), ("Count", -1)])
def test_a_value_that_contradicts_what_the_metric_is_is_dropped(unit: str, value: float) -> None:
    metrics = EmfMetrics()
    metrics.observe("F", emf({"jobs_total": ("Count", 1)}, {}))

    metrics.observe("F", emf({"jobs_total": (unit, value)}, {}))

    assert samples(metrics, "jobs_total") == {(): 1}
    assert samples(metrics, "emf_dropped_total") == {(("function", "F"),): 1}


def test_lambdas_own_metrics_are_rendered_beside() -> None:
    metrics = EmfMetrics()
    of_lambda = LambdaMetrics(metrics.registry)

    of_lambda.scaled("F", environments=2, running=1)
    of_lambda.invoked("F", duration_seconds=0.02, init_seconds=0.1, error_type=None)
    of_lambda.invoked("F", duration_seconds=3.0, init_seconds=None, error_type="Sandbox.Timedout")
    of_lambda.throttled("F")

    f = (("function", "F"),)
    assert samples(metrics, "lambda_invocations_total") == {f: 2}
    assert samples(metrics, "lambda_errors_total") == {(("error_type", "Sandbox.Timedout"), *f): 1}
    assert samples(metrics, "lambda_throttles_total") == {f: 1}
    assert samples(metrics, "lambda_cold_starts_total") == {f: 1}
    assert samples(metrics, "lambda_duration_seconds_sum") == {f: pytest.approx(3.02)}
    assert samples(metrics, "lambda_init_duration_seconds_count") == {f: 1}
    assert samples(metrics, "lambda_environments") == {f: 2}
    assert samples(metrics, "lambda_concurrent_executions") == {f: 1}
