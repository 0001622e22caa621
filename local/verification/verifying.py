"""All comparisons, and looking again at what may have been on its way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from local.verification import event_store, projections
from local.verification.comparison import Counter, Difference, Key, Mismatch, Row, differences, mismatches
from local.verification.source import Scope, Source, snapshot

# How long nothing may arrive of what is missing, and how often it is looked for meanwhile.
WITHIN_SECONDS = 15.0
AGAIN_AFTER_SECONDS = 0.25

# More suspects than anyone reads are not followed up: memory stays what it is, whatever is wrong.
MOST_SUSPECTS = 10_000

Stream = Callable[[Source, Scope], Iterable[Row]]
Comparison = Callable[[Source, Scope, Counter], Iterator[Mismatch]]


@dataclass(frozen=True)
class Check:
    """One place, compared with what it is to be; `aggregate` names a key. `told`: by message, so a moment later."""

    place: str
    aggregate: str
    compare: Comparison
    told: bool = False
    of_users: bool = False

    def differences(self, mismatch: Mismatch) -> Iterator[Difference]:
        return differences(mismatch, self.aggregate.format(*mismatch.key), self.place)


@dataclass(frozen=True)
class Report:
    """How many rows were compared, and how many differences there were."""

    rows: int
    differences: int
    seconds: float


# The keys that did not agree, and the versions that they were to have then.
Suspects = dict[Check, dict[Key, int]]


def _compared(expected: Stream, found: Stream) -> Comparison:
    return lambda source, scope, counter: mismatches(expected(source, scope), found(source, scope), counter)


def _complete(kind: str) -> Comparison:
    return lambda source, scope, _: event_store.incomplete(source, scope, kind)


EVENT, REGISTRATION, USER = "event {0}", "registration {0}", "user {0}"
PART, BLOCK = "event {0}, part {1}", "event {0}, block {1}"

CHECKS = (
    Check("messaging.outbox", EVENT, _complete("event")),
    Check("messaging.outbox", REGISTRATION, _complete("registration")),
    Check("messaging.outbox", USER, _complete("user"), of_users=True),
    Check("catalog.events", EVENT, _compared(event_store.events, projections.events)),
    Check(
        "registrations.event_registrations",
        REGISTRATION,
        _compared(event_store.registrations, projections.REGISTRATIONS),
    ),
    Check("identity.users", USER, _compared(event_store.users, projections.USERS), of_users=True),
    Check("registrations.holders", REGISTRATION, _compared(projections.SHOULD_HOLD, projections.HOLD)),
    Check("registrations.waitlist", REGISTRATION, _compared(projections.SHOULD_WAIT, projections.WAIT)),
    Check("registrations.line_blocks", BLOCK, _compared(projections.BLOCKS_OF_LINES, projections.COUNTED_BLOCKS)),
    Check(
        "registrations.offers",
        REGISTRATION,
        _compared(projections.SHOULD_BE_OFFERED, projections.ARE_OFFERED),
    ),
    Check("registrations.check_ins", REGISTRATION, _compared(event_store.check_ins, projections.CHECK_INS)),
    Check("registrations.doors", EVENT, _compared(projections.RECOUNTED_DOORS, projections.DOORS)),
    Check("registrations.places", PART, _compared(projections.RECOUNTED_PLACES, projections.PLACES)),
    Check("registrations.places", EVENT, _compared(projections.RECOUNTED_LINES, projections.LINES)),
    Check("registrations.places", EVENT, _compared(projections.PLACES_TO_OPEN, projections.OPEN_PLACES), told=True),
    Check(
        "registrations.events",
        EVENT,
        _compared(event_store.told_events, projections.events_of_registrations),
        told=True,
    ),
    Check(
        "registrations.erased_users",
        USER,
        _compared(event_store.erased_users, projections.ERASED_USERS_OF_REGISTRATIONS),
        told=True,
        of_users=True,
    ),
    Check(
        "catalog.users",
        USER,
        _compared(event_store.users, projections.USERS_OF_CATALOG),
        told=True,
        of_users=True,
    ),
    Check("catalog.event_counts", PART, _compared(projections.COUNTS_TO_TELL, projections.TOLD_COUNTS), told=True),
    Check("catalog.events", EVENT, _compared(projections.RECOUNT, projections.SHOWN_COUNTS), told=True),
    Check("search index", EVENT, _compared(event_store.documents, projections.documents), told=True),
)


def verify(
    postgres: str,
    opensearch: str,
    *,
    event: int | None = None,
    within: float = WITHIN_SECONDS,
    tell: Callable[[Difference], object],
) -> Report:
    """Compare everything, or what concerns one event; `tell` is given each difference.

    What is told by message is waited for until none of it has arrived for `within` seconds. Raises
    psycopg.OperationalError and httpx.HTTPError.
    """
    began = last_arrival = time.monotonic()
    counter, found = Counter(), 0

    def report(check: Check, mismatched: Iterable[Mismatch]) -> None:
        nonlocal found
        for mismatch in mismatched:
            for difference in check.differences(mismatch):
                found += 1
                tell(difference)

    suspects: Suspects = {}
    with snapshot(postgres, opensearch) as source:
        for check in CHECKS:
            if check.of_users and event is not None:
                continue
            mismatched = check.compare(source, Scope(event), counter)
            if check.told:
                suspects[check] = {each.key: _version(each) for each in islice(mismatched, MOST_SUSPECTS)}
            else:
                report(check, mismatched)
    while any(suspects.values()):
        time.sleep(AGAIN_AFTER_SECONDS)
        is_late = time.monotonic() - last_arrival > within
        missing = sum(map(len, suspects.values()))
        with snapshot(postgres, opensearch) as source:
            for check, since in suspects.items():
                mismatched = _still_mismatched(check, source, since)
                if is_late:
                    report(check, mismatched)
                else:
                    suspects[check] = {each.key: since[each.key] for each in mismatched}
        if is_late:
            break
        if sum(map(len, suspects.values())) < missing:
            last_arrival = time.monotonic()
    return Report(counter.rows, found, time.monotonic() - began)


def _version(mismatch: Mismatch) -> int:
    return mismatch.expected.version if mismatch.expected is not None else 0


def _still_mismatched(check: Check, source: Source, since: Mapping[Key, int]) -> Iterator[Mismatch]:
    """Those of the suspects, each with the version that it had then, that have not become what they were to be."""
    if not since:
        return
    scope = Scope(ids=sorted({key[0] for key in since}))
    for mismatch in check.compare(source, scope, Counter()):
        version = since.get(mismatch.key)
        if version is not None and not mismatch.has_caught_up(version):
            yield mismatch
