"""When schedules are due, and what they start."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from local.application import ACCOUNT_ID, REGION, Schedule
from local.triggers.schedule_expressions import InvalidScheduleError, parse_expression
from local.triggers.schedules import ScheduleTrigger

START = datetime(2026, 1, 1, 0, 0, tzinfo=UTC)  # a Thursday


def due_times(expression: str, *, after: datetime = START, number: int = 3) -> list[str]:
    parsed = parse_expression(expression, anchor=after)
    times: list[str] = []
    moment = after
    for _ in range(number):
        following = parsed.next_after(moment)
        if following is None:
            break
        moment = following
        times.append(f"{moment:%Y-%m-%d %H:%M:%S}")
    return times


# The first eleven are the examples of
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html with their meaning there.
@pytest.mark.parametrize(
    ("expression", "times"),
    [
        # 10:00 every day
        ("cron(0 10 * * ? *)", ["2026-01-01 10:00:00", "2026-01-02 10:00:00", "2026-01-03 10:00:00"]),
        # 12:15 every day
        ("cron(15 12 * * ? *)", ["2026-01-01 12:15:00", "2026-01-02 12:15:00", "2026-01-03 12:15:00"]),
        # 18:00 Monday to Friday
        ("cron(0 18 ? * MON-FRI *)", ["2026-01-01 18:00:00", "2026-01-02 18:00:00", "2026-01-05 18:00:00"]),
        # 8:00 on the first day of the month
        ("cron(0 8 1 * ? *)", ["2026-01-01 08:00:00", "2026-02-01 08:00:00", "2026-03-01 08:00:00"]),
        # every 15 minutes
        ("cron(0/15 * * * ? *)", ["2026-01-01 00:15:00", "2026-01-01 00:30:00", "2026-01-01 00:45:00"]),
        # every 10 minutes Monday to Friday
        ("cron(0/10 * ? * MON-FRI *)", ["2026-01-01 00:10:00", "2026-01-01 00:20:00", "2026-01-01 00:30:00"]),
        # every 5 minutes from 8:00 to 17:55 Monday to Friday
        ("cron(0/5 8-17 ? * MON-FRI *)", ["2026-01-01 08:00:00", "2026-01-01 08:05:00", "2026-01-01 08:10:00"]),
        # every 30 minutes from 20:00 to 2:00 Monday to Friday
        ("cron(0/30 20-2 ? * MON-FRI *)", ["2026-01-01 00:30:00", "2026-01-01 01:00:00", "2026-01-01 01:30:00"]),
        # the second Tuesday of the month (3 is Tuesday: Sunday is 1)
        ("cron(0 9 ? * 3#2 *)", ["2026-01-13 09:00:00", "2026-02-10 09:00:00", "2026-03-10 09:00:00"]),
        # the last day of the month
        ("cron(0 0 L * ? *)", ["2026-01-31 00:00:00", "2026-02-28 00:00:00", "2026-03-31 00:00:00"]),
        # the weekday closest to the third day of the month
        ("cron(0 0 3W * ? *)", ["2026-01-02 00:00:00", "2026-02-03 00:00:00", "2026-03-03 00:00:00"]),
        # the last Friday of the month in the quarters of two years
        ("cron(0 12 ? JAN,APR 6L 2026-2027)", ["2026-01-30 12:00:00", "2026-04-24 12:00:00", "2027-01-29 12:00:00"]),
        # a leap day, and then the end
        ("cron(0 0 29 2 ? 2026-2028)", ["2028-02-29 00:00:00"]),
    ],
)
def test_cron_is_due_when_eventbridge_documents_it(expression: str, times: list[str]) -> None:
    assert due_times(expression) == times


@pytest.mark.parametrize(
    ("expression", "times"),
    [
        ("rate(1 minute)", ["2026-01-01 00:01:07", "2026-01-01 00:02:07", "2026-01-01 00:03:07"]),
        ("rate(5 minutes)", ["2026-01-01 00:01:07", "2026-01-01 00:06:07", "2026-01-01 00:11:07"]),
        ("rate(1 hour)", ["2026-01-01 00:01:07", "2026-01-01 01:01:07", "2026-01-01 02:01:07"]),
        ("rate(7 days)", ["2026-01-01 00:01:07", "2026-01-08 00:01:07", "2026-01-15 00:01:07"]),
    ],
)
def test_rates_are_counted_from_the_start(expression: str, times: list[str]) -> None:
    assert due_times(expression, after=START + timedelta(seconds=7)) == times


def test_a_rate_asked_late_keeps_its_beat() -> None:
    rate = parse_expression("rate(5 minutes)", anchor=START)

    assert rate.next_after(START + timedelta(minutes=12, seconds=3)) == START + timedelta(minutes=16)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("every minute", "neither"),
        ("at(2026-01-01T00:00:00)", "neither"),
        ("rate(1 minutes)", "singular"),
        ("rate(5 minute)", "plural"),
        ("rate(0 minutes)", "positive"),
        ("rate(30 seconds)", "minutes, hours or days"),
        ("cron(0 10 * * ?)", "6 required, 5 provided"),
        ("cron(0 10 * * * *)", "question mark"),
        ("cron(0 10 ? * ? *)", "question mark"),
        ("cron(60 10 * * ? *)", "minute"),
        ("cron(0 24 * * ? *)", "hour"),
        ("cron(0 10 32 * ? *)", "day-of-month"),
        ("cron(0 10 * 13 ? *)", "month"),
        ("cron(0 10 ? * 8 *)", "day-of-week"),
        ("cron(0 10 ? * 3#6 *)", "day-of-week"),
        ("cron(0 10 * * ? 1969)", "year"),
    ],
)
def test_an_expression_that_eventbridge_refuses_is_refused_with_the_reason(expression: str, reason: str) -> None:
    with pytest.raises(InvalidScheduleError, match=reason):
        parse_expression(expression, anchor=START)


class Starts:
    """Takes what a schedule starts, in place of asynchronous invocations and of Step Functions."""

    def __init__(self, clock: SteppingClock) -> None:
        self._clock = clock
        self.made: list[tuple[datetime, str, str]] = []
        self.failing = False

    def submit(self, name: str, payload: bytes) -> str:
        self.made.append((self._clock.now(), name, payload.decode()))
        if self.failing:
            raise LookupError(name)
        return "request"

    async def start_execution(self, name: str, document: str) -> None:
        self.made.append((self._clock.now(), name, document))


class SteppingClock:
    """Time that passes only in sleeps; the `oversleep`-th of them takes ten minutes more."""

    def __init__(self, *, oversleep: int | None = None) -> None:
        self._now = START
        self._sleeps = 0
        self._oversleep = oversleep

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._sleeps += 1
        self._now += timedelta(seconds=seconds)
        if self._sleeps == self._oversleep:
            self._now += timedelta(minutes=10)
        await asyncio.sleep(0)


def starts_of(schedule: Schedule, clock: SteppingClock, number: int, *, failing: bool = False) -> Starts:
    """Run the schedule until it has started something so many times."""

    async def run() -> Starts:
        starts = Starts(clock)
        starts.failing = failing
        trigger = ScheduleTrigger(schedule, starts, starts, clock=clock)
        await trigger.start()
        while len(starts.made) < number:
            await asyncio.sleep(0)
        await trigger.stop()
        return starts

    return asyncio.run(run())


def test_a_rate_fires_at_each_interval_without_drift_with_the_scheduled_event() -> None:
    starts = starts_of(Schedule("Sweep", "rate(1 minute)", function="Sweeper"), SteppingClock(), 5)

    assert [moment for moment, _, _ in starts.made[:5]] == [START + timedelta(minutes=n) for n in range(1, 6)]
    _, name, document = starts.made[0]
    event = json.loads(document)
    assert name == "Sweeper"
    assert event.pop("id")
    assert event == {
        "version": "0",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT_ID,
        "time": "2026-01-01T00:01:00Z",
        "region": REGION,
        "resources": [f"arn:aws:events:{REGION}:{ACCOUNT_ID}:rule/Sweep"],
        "detail": {},
    }


def test_the_input_of_a_schedule_takes_the_place_of_the_event() -> None:
    starts = starts_of(Schedule("Run", "rate(1 hour)", state_machine="Pipeline", input='{"a":1}'), SteppingClock(), 1)

    assert starts.made[0] == (START + timedelta(minutes=1), "Pipeline", '{"a":1}')


def test_a_machine_that_slept_through_several_times_runs_once_and_then_on_the_beat() -> None:
    # Given that the second sleep of the first minute takes ten minutes more
    starts = starts_of(Schedule("Sweep", "rate(1 minute)", function="Sweeper"), SteppingClock(oversleep=2), 3)

    times = [moment - START for moment, _, _ in starts.made[:3]]
    assert times == [timedelta(minutes=11), timedelta(minutes=12), timedelta(minutes=13)]


def test_a_run_that_cannot_start_does_not_end_the_schedule() -> None:
    starts = starts_of(Schedule("Sweep", "rate(1 minute)", function="Gone"), SteppingClock(), 3, failing=True)

    assert all(later[0] - earlier[0] == timedelta(minutes=1) for earlier, later in pairwise(starts.made[:3]))
