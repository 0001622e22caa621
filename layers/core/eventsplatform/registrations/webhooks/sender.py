"""Sending what is due to webhooks: many at once, each signed, and tried again until it has arrived or days have passed.

A delivery is claimed for a while, sent without a transaction, and recorded. Who dies in between leaves it claimed; when
that ends it is sent again, under the same id, by which receivers can tell. Nobody waits for a slow receiver but its own
deliveries, and of those only a few are under way at once. One that fails gets one at a time until it takes one, and one
that seems to be down is left alone for a while before the next tries whether it is back.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from eventsplatform.call_policies import CALL_POLICIES
from eventsplatform.clock import Clock
from eventsplatform.messaging.model import Work
from eventsplatform.outbound import NotPublicError, UnreachableError
from eventsplatform.registrations.webhooks.model import DeliveryStatus, DisabledReason
from eventsplatform.registrations.webhooks.service import Seals
from eventsplatform.registrations.webhooks.signing import asked_wait, next_wait, signed_headers

# Under way in one run, and of one webhook in all runs together.
AT_ONCE = 32
AT_ONCE_EACH = 4

# A receiver has this long to answer, and whoever sends has claimed the delivery for longer than sending can take.
ANSWER_WITHIN = timedelta(seconds=CALL_POLICIES["outbound"].timeout)
LEASE = timedelta(seconds=60)
# Nothing more is claimed this long before the function's own time-out.
STOP_BEFORE_MS = 30_000

# For how long a receiver that seems to be down is left alone, unless it asks for more.
PAUSE_MAXIMUM = timedelta(minutes=1)

# Nothing but failures for so long disable a webhook.
FAILING_MAXIMUM = timedelta(days=5)

ANSWER_BYTES = 4_096
EXCERPT_MAXIMUM = 500
ERROR_MAXIMUM = 200

FIXED_HEADERS = {"Content-Type": "application/cloudevents+json", "User-Agent": "EventsPlatform-Webhooks/1"}

GONE, TOO_MANY_REQUESTS, SERVER_ERRORS = 410, 429, 500


class Answer(Protocol):
    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By their names in lower case."""

    @property
    def body(self) -> bytes: ...


class Post(Protocol):
    def __call__(
        self, url: str, body: bytes, headers: Mapping[str, str], *, within_seconds: float, answer_bytes: int
    ) -> Answer:
        """Raises NotPublicError and UnreachableError. It is called from several threads."""


@dataclass(frozen=True)
class Claimed:
    """A delivery that is ours to send: its attempt is counted, and records of earlier ones come too late.

    It is not `entitled` when the event has a later state in which the webhook's owner does not organise it.
    """

    webhook_id: int
    id: int
    attempt: int
    url: str
    message_id: str
    body: str
    sealed_secrets: Sequence[str]
    entitled: bool
    failing_since: datetime | None
    created_at: datetime


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt; without one, `at` and what follows say nothing."""

    status: DeliveryStatus
    next_attempt_at: datetime | None = None
    at: datetime | None = None
    response_status: int | None = None
    response_excerpt: str | None = None
    duration_ms: int | None = None
    error: str | None = None
    paused_until: datetime | None = None

    @property
    def failed(self) -> bool:
        return self.status in ("pending", "failed")

    @property
    def counted_as(self) -> str:
        return "retried" if self.status == "pending" else self.status


WITHDRAWN = Outcome("withdrawn", error="You do not organise this event any more.")


class SendingStore(Protocol):
    def claim(self, now: datetime, until: datetime, at_once: int, at_once_each: int) -> list[Claimed]:
        """Due deliveries of enabled webhooks whose owners are not suspended, at most `at_once`.

        Of each webhook so many that `at_once_each` are under way, or one while it fails; each webhook's first before
        any other's second.
        """

    def record(self, claimed: Claimed, outcome: Outcome) -> bool:
        """Keep what came of it, and whether its webhook fails or is paused; False when it is no longer ours."""

    def uncount(self, claimed: Claimed) -> None:
        """Take an attempt that was none back from its count; the delivery stays claimed."""

    def disable(self, webhook_id: int, reason: DisabledReason, now: datetime, failing_before: datetime | None) -> bool:
        """Disable a webhook that is enabled, and if a moment is given has been failing since before; whether it was."""


class Reports(Protocol):
    """Where what happens is counted."""

    def attempted(self, outcome: Outcome, latency: timedelta) -> None:
        """`latency` is how long after the message had become a delivery."""

    def disabled(self, webhook_id: int, reason: DisabledReason) -> None: ...


class Sender:
    def __init__(
        self,
        work: Work[SendingStore],
        post: Post,
        seals: Seals,
        reports: Reports,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        """`jitter` gives a number from 0 to 1 for each wait."""
        self._work = work
        self._post = post
        self._seals = seals
        self._reports = reports
        self._clock = clock
        self._jitter = jitter

    def run(self, remaining_ms: Callable[[], int]) -> dict[str, int]:
        """Send what is due until nothing is, or the time is up; how many came to which status.

        A delivery that cannot even be tried keeps no other waiting. Raises what stopped it, as a group, at the end.
        """
        outcomes: Counter[str] = Counter()
        failures: list[Exception] = []
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook") as threads:
            under_way: dict[Future[Outcome], Claimed] = {}
            while True:
                claimed = self._claim(AT_ONCE - len(under_way), remaining_ms)
                for delivery in claimed:
                    if not delivery.entitled:
                        outcomes[self._settle(delivery, WITHDRAWN)] += 1
                        continue
                    try:
                        secrets = [self._seals.open(sealed) for sealed in delivery.sealed_secrets]
                    except Exception as error:
                        # It stays claimed, so that it is not tried again at once, and this was no attempt.
                        failures.append(error)
                        with self._work.statement() as store:
                            store.uncount(delivery)
                    else:
                        under_way[threads.submit(self._attempt, delivery, secrets)] = delivery
                if under_way:
                    done, _ = wait(under_way, return_when=FIRST_COMPLETED)
                    for future in done:
                        outcomes[self._settle(under_way.pop(future), future.result())] += 1
                elif not claimed:
                    break
        if failures:
            raise ExceptionGroup(f"{len(failures)} deliveries could not be tried", failures)
        return dict(outcomes)

    def _claim(self, free: int, remaining_ms: Callable[[], int]) -> Sequence[Claimed]:
        if not free or remaining_ms() < STOP_BEFORE_MS:
            return ()
        now = self._clock()
        with self._work.statement() as store:
            return store.claim(now, now + LEASE, free, AT_ONCE_EACH)

    def _attempt(self, delivery: Claimed, secrets: Sequence[str]) -> Outcome:
        """In a thread of its own: everything that may take as long as a receiver likes."""
        at, began = self._clock(), time.monotonic()
        body = delivery.body.encode()
        headers = {**FIXED_HEADERS, **signed_headers(delivery.message_id, body, secrets, at)}
        answer, error = None, None
        try:
            answer = self._post(
                delivery.url,
                body,
                headers,
                within_seconds=ANSWER_WITHIN.total_seconds(),
                answer_bytes=ANSWER_BYTES,
            )
        except (NotPublicError, UnreachableError) as reason:
            error = str(reason)[:ERROR_MAXIMUM]
        seen = Outcome(
            status="delivered",
            at=at,
            response_status=answer.status if answer else None,
            response_excerpt=_excerpt(answer.body) if answer else None,
            duration_ms=round((time.monotonic() - began) * 1000),
            error=error,
        )
        return self._judged(seen, delivery.attempt, answer)

    def _judged(self, seen: Outcome, attempt: int, answer: Answer | None) -> Outcome:
        """With what follows from it: whether and when the delivery is due again, and how long its receiver rests."""
        if answer is not None and 200 <= answer.status < 300:
            return seen
        if answer is not None and answer.status == GONE:
            return replace(seen, status="failed")
        now = self._clock()
        asked = asked_wait(answer.headers.get("retry-after"), now) if answer else None
        pause = next_wait(attempt, asked=asked, jitter=self._jitter())
        rest = max(asked or timedelta(), min(pause or PAUSE_MAXIMUM, PAUSE_MAXIMUM))
        return replace(
            seen,
            status="failed" if pause is None else "pending",
            next_attempt_at=None if pause is None else now + pause,
            paused_until=now + rest if _seems_down(answer) else None,
        )

    def _settle(self, delivery: Claimed, outcome: Outcome) -> str:
        """Record an outcome, and disable the webhook when that is what it says; the status that is counted."""
        now = self._clock()
        reason = _reason_to_disable(delivery, outcome, now)
        with self._work.statement() as store:
            if not store.record(delivery, outcome):
                return "superseded"
            failing_before = now - FAILING_MAXIMUM if reason == "failing" else None
            disabled = reason is not None and store.disable(delivery.webhook_id, reason, now, failing_before)
        self._reports.attempted(outcome, now - delivery.created_at)
        if disabled and reason:
            self._reports.disabled(delivery.webhook_id, reason)
        return outcome.counted_as


def _seems_down(answer: Answer | None) -> bool:
    """Rather than that it refuses this one delivery, and would take another."""
    return answer is None or answer.status == TOO_MANY_REQUESTS or answer.status >= SERVER_ERRORS


def _reason_to_disable(delivery: Claimed, outcome: Outcome, now: datetime) -> DisabledReason | None:
    """As far as is known from when the delivery was claimed; the statement that disables looks again."""
    if outcome.response_status == GONE:
        return "gone"
    failing = outcome.failed and delivery.failing_since and delivery.failing_since <= now - FAILING_MAXIMUM
    return "failing" if failing else None


def _excerpt(content: bytes) -> str:
    """The beginning of an answer, as text that can be stored and shown: it is whatever the receiver likes."""
    text = content.decode(errors="replace")
    return "".join(character for character in text if character.isprintable() or character in "\n\t")[:EXCERPT_MAXIMUM]
