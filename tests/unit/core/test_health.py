from __future__ import annotations

import threading
from collections.abc import Callable

from eventsplatform.clock import utc_now
from eventsplatform.operations import health
from eventsplatform.operations.health import Check, Health, UnhealthyError


def fine() -> None:
    return None


def down() -> None:
    raise ConnectionError("10.0.3.7:5432 refused")


def report_of(**checks: tuple[Callable[[], None], bool]) -> health.HealthReport:
    return Health({name: Check(*check) for name, check in checks.items()}, dict, utc_now).check()


def test_all_engines_answering_is_healthy() -> None:
    report = report_of(database=(fine, True), redis=(fine, False))

    assert report.status == "healthy"
    assert {name: check.status for name, check in report.checks.items()} == {"database": "healthy", "redis": "healthy"}


def test_losing_what_all_need_is_unhealthy_and_losing_the_rest_is_degraded() -> None:
    assert report_of(database=(down, True), redis=(fine, False)).status == "unhealthy"
    assert report_of(database=(fine, True), redis=(down, False)).status == "degraded"
    assert report_of(database=(down, True), redis=(down, False)).status == "unhealthy"


def test_a_report_tells_the_kind_of_failure_and_no_addresses() -> None:
    assert report_of(database=(down, True)).checks["database"].error == "ConnectionError"


def test_engines_that_hang_share_one_deadline() -> None:
    """Waited for one after the other, the second would have the first one's two seconds on top of its own."""
    released = threading.Event()

    def hang() -> None:
        released.wait(60)

    def answer_late() -> None:
        released.wait(1.5 * health.CHECK_TIMEOUT_SECONDS)

    report = report_of(a=(hang, True), b=(answer_late, False), c=(fine, False))
    released.set()

    assert {name: check.status for name, check in report.checks.items()} == {
        "a": "unhealthy",
        "b": "unhealthy",
        "c": "healthy",
    }
    assert report.checks["b"].error == "no answer within 2 s"


def test_a_check_may_say_in_its_own_words_what_is_wrong() -> None:
    def incomplete() -> None:
        raise UnhealthyError("registrations of 2030-02 have no partition yet")

    assert report_of(partitions=(incomplete, False)).checks["partitions"].error == (
        "registrations of 2030-02 have no partition yet"
    )
