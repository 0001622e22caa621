"""Folding the event store: what each aggregate is, as the rows of the outbox tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import sql

from eventsplatform.catalog.messages import facts_of
from eventsplatform.catalog.model import KnownEvent
from eventsplatform.personal_data import DELETED_NAME
from eventsplatform.registrations.model import EventFacts
from eventsplatform.search.index import document_of
from local.verification.comparison import Mismatch, Row
from local.verification.source import Scope, Source

# Each row tells the whole aggregate, so the last one is what all of them come to.
_LATEST = sql.SQL(
    """
    SELECT DISTINCT ON (aggregate_id) aggregate_id AS id, version, type, payload
      FROM messaging.outbox
     WHERE {scope}
     ORDER BY aggregate_id, version DESC
    """
)
_INCOMPLETE = sql.SQL(
    """
    SELECT aggregate_id AS id, array_agg(version ORDER BY version) AS versions
      FROM messaging.outbox
     WHERE {scope}
     GROUP BY aggregate_id
    HAVING count(*) <> max(version) OR count(DISTINCT version) <> max(version)
     ORDER BY aggregate_id
    """
)
# An event's rows bear its number, and those of its registrations bear it as their key.
_OF_EVENT = {"event": sql.SQL("aggregate_id = %(event)s"), "registration": sql.SQL("partition_key = %(event)s::text")}


def _of(query: sql.SQL, kind: str) -> sql.Composed:
    scope = sql.SQL(
        """
        aggregate_type = {kind} AND (%(event)s::bigint IS NULL OR {of_event})
        AND (%(ids)s::bigint[] IS NULL OR aggregate_id = ANY (%(ids)s))
        """
    )
    of_event = _OF_EVENT.get(kind, sql.SQL("false"))
    return query.format(scope=scope.format(kind=sql.Literal(kind), of_event=of_event))


def incomplete(source: Source, scope: Scope, kind: str) -> Iterator[Mismatch]:
    """The aggregates of which a version is missing before the last, so that nothing tells what it changed, or is there
    twice: the outbox itself refuses that within a month only.
    """
    for each in source.rows(_of(_INCOMPLETE, kind), scope):
        counts, key = Counter(each["versions"]), (each["id"],)
        whole = f"1 to {max(counts)}"
        missing = [str(version) for version in range(1, max(counts)) if version not in counts]
        repeated = [str(version) for version, count in counts.items() if count > 1]
        wrong = [f"without {', '.join(missing)}"] if missing else []
        wrong += [f"with {', '.join(repeated)} more than once"] if repeated else []
        found = f"{whole} {' and '.join(wrong)}"
        yield Mismatch(key, Row(key, {"versions": whole}), Row(key, {"versions": found}))


def users(source: Source, scope: Scope) -> Iterator[Row]:
    for each in source.rows(_of(_LATEST, "user"), scope):
        erased = each["type"] == "users.deleted"
        fields = {
            "name": DELETED_NAME if erased else each["payload"]["name"],
            "erased": erased,
            "version": each["version"],
        }
        yield Row((each["id"],), fields, each["version"])


def erased_users(source: Source, scope: Scope) -> Iterator[Row]:
    return (Row(each.key, {}) for each in users(source, scope) if each.fields["erased"])


def registrations(source: Source, scope: Scope) -> Iterator[Row]:
    for each in source.rows(_of(_LATEST, "registration"), scope):
        told = each["payload"]
        fields = {
            "event_id": told["event_id"],
            "user_id": told["user_id"],
            "status": told["status"],
            "registered_at": _moment(told["registered_at"]),
            "offer_expires_at": _moment(told["offer_expires_at"]),
            "version": each["version"],
        }
        yield Row((each["id"],), fields)


def check_ins(source: Source, scope: Scope) -> Iterator[Row]:
    """Who has come, when and seen by whom."""
    for each in source.rows(_of(_LATEST, "registration"), scope):
        if each["payload"]["status"] == "checked_in":
            told = each["payload"]["check_in"]
            fields = {
                "event_id": told["event_id"],
                "user_id": told["user_id"],
                "scan_id": UUID(told["scan_id"]),
                "checked_in_at": _moment(told["checked_in_at"]),
                "checked_in_by": told["checked_in_by"],
            }
            yield Row((each["id"],), fields)


def events(source: Source, scope: Scope) -> Iterator[Row]:
    """Those that have not been deleted."""
    for each in _latest_events(source, scope):
        if each["type"] != "events.deleted":
            yield Row((each["id"],), normal_facts(each["payload"]), each["version"])


def told_events(source: Source, scope: Scope) -> Iterator[Row]:
    """What registrations keeps of events: of deleted ones, too, what was told last."""
    for each in _latest_events(source, scope):
        facts = EventFacts.of_event(each["payload"]).model_dump(mode="json")
        yield Row((each["id"],), facts, each["version"])


def documents(source: Source, scope: Scope) -> Iterator[Row]:
    """What the index is to hold: events that everyone may see."""
    for each in events(source, scope):
        if each.fields["status"] != "draft":
            yield Row(each.key, document_of(dict(each.fields)), each.version)


def normal_facts(told: dict[str, Any]) -> dict[str, Any]:
    """What is told of an event in today's form: an earlier release may have told less of it.

    Raises pydantic.ValidationError for what is no event.
    """
    return facts_of(KnownEvent.model_validate({**told, "registered": 0, "waitlisted": 0, "available": 0}))


def _latest_events(source: Source, scope: Scope) -> Iterator[dict[str, Any]]:
    return source.rows(_of(_LATEST, "event"), scope)


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
