"""EventBridge's `rate(…)` and `cron(…)` expressions: when a schedule is due next.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html. All times are UTC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from aws_croniter import AwsCroniter

_EXPRESSION = re.compile(r"(rate|cron)\((.*)\)")
_RATE = re.compile(r"([1-9]\d*) (minute|hour|day)(s?)")


class InvalidScheduleError(ValueError):
    """An expression that EventBridge would refuse; the message says what is wrong with it."""


class Expression(Protocol):
    def next_after(self, moment: datetime) -> datetime | None:
        """The first time due after `moment`; None when there is none any more."""


@dataclass(frozen=True)
class Rate:
    """Due at `first` and every `interval` from then on, however late the calls are."""

    interval: timedelta
    first: datetime

    def next_after(self, moment: datetime) -> datetime:
        if moment < self.first:
            return self.first
        return self.first + ((moment - self.first) // self.interval + 1) * self.interval


class Cron:
    """Six fields: minutes, hours, day of month, month, day of week, year."""

    def __init__(self, fields: str) -> None:
        """Raises InvalidScheduleError."""
        try:
            self._expression = AwsCroniter(" ".join(fields.split()))
        except ValueError as error:
            raise InvalidScheduleError(f"cron({fields}): {error}") from error

    def next_after(self, moment: datetime) -> datetime | None:
        following: datetime | None = self._expression.get_next(moment)[0]
        return following


def parse_expression(text: str, *, anchor: datetime) -> Expression:
    """`anchor` is when the schedule came into being: rates are counted from then. Raises InvalidScheduleError."""
    expression = _EXPRESSION.fullmatch(text.strip())
    if expression is None:
        raise InvalidScheduleError(f"{text!r} is neither rate(…) nor cron(…)")
    kind, content = expression.groups()
    return Cron(content) if kind == "cron" else _parse_rate(content, anchor)


def _parse_rate(content: str, anchor: datetime) -> Rate:
    rate = _RATE.fullmatch(content.strip())
    if rate is None:
        raise InvalidScheduleError(f"rate({content}): expected a positive number and minutes, hours or days")
    number, unit, plural = int(rate[1]), rate[2], bool(rate[3])
    if plural == (number == 1):
        raise InvalidScheduleError(f"rate({content}): the unit is singular for 1 and plural for anything else")
    # A rate begins with its schedule, to the minute: what is due daily is done by a platform of a few hours, too.
    # https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
    return Rate(timedelta(**{f"{unit}s": number}), anchor + timedelta(minutes=1))
