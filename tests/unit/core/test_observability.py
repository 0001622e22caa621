from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from eventsplatform.observability import begin_invocation, emit_metric, handling_message, header, logger

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
Lines = Callable[[], list[dict[str, Any]]]


def test_every_line_of_an_invocation_has_its_keys_and_trace(logged: Lines) -> None:
    begin_invocation(traceparent=TRACEPARENT, request_id="r-1")
    logger.info("hello", extra={"answer": 42})

    (line,) = logged()
    assert (line["trace_id"], line["request_id"], line["answer"]) == (TRACE, "r-1", 42)
    assert line["message"] == "hello"


def test_the_keys_of_one_invocation_are_gone_in_the_next(logged: Lines) -> None:
    begin_invocation(traceparent=TRACEPARENT, request_id="r-1", connection_id="c-1")
    begin_invocation(traceparent=None, request_id="r-2")
    logger.info("hello")

    (line,) = logged()
    assert line["request_id"] == "r-2"
    assert "connection_id" not in line
    assert line["trace_id"] != TRACE


def test_a_messages_keys_are_gone_behind_it_even_when_it_failed(logged: Lines) -> None:
    begin_invocation(traceparent=None, request_id="r-1")
    try:
        with handling_message(TRACEPARENT, message_id="m-1"):
            logger.info("within")
            raise ValueError
    except ValueError:
        logger.info("behind")

    within, behind = logged()
    assert (within["message_id"], within["trace_id"], within["request_id"]) == ("m-1", TRACE, "r-1")
    assert "message_id" not in behind
    assert behind["request_id"] == "r-1"


def test_a_metric_is_an_embedded_metric_format_line(metrics: Lines) -> None:
    emit_metric("bridge_duplicates_total", 3, unit=MetricUnit.Count, route="platform-to-nats")

    (line,) = metrics()
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "EventsPlatform"
    assert directive["Metrics"] == [{"Name": "bridge_duplicates_total", "Unit": "Count"}]
    assert set(directive["Dimensions"][0]) <= set(line)
    assert "route" in directive["Dimensions"][0]
    assert line["bridge_duplicates_total"] in (3, [3])
    assert line["route"] == "platform-to-nats"


def test_a_metric_goes_out_as_a_whole_too_for_alarms_that_can_add_up_none(metrics: Lines) -> None:
    emit_metric("bridge_duplicates_total", 3, route="platform-to-nats")
    emit_metric("rate_limiter_unavailable_total", 1)

    dimensions = [line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] for line in metrics()]
    assert dimensions == [[["route", "service"], ["service"]], [["service"]]]


def test_header_names_have_no_case() -> None:
    headers = {"Traceparent": "a", "X-Other": "b"}

    assert header(headers, "traceparent") == "a"
    assert header(headers, "missing") is None
    assert header(None, "traceparent") is None
