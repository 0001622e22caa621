"""State and outbox row commit together or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from eventsplatform.errors import ConflictError, DependencyUnavailableError, InvalidInputError, NotFoundError
from eventsplatform.identity.model import SignUp
from eventsplatform.messaging.outbox import Outbox
from eventsplatform.tracing import continue_trace
from tests.support.callers import caller
from tests.support.database import Services, administrator, event_in, services

ORGANIZER = 11


@pytest.fixture
def running(migrated_database: str) -> Iterator[Services]:
    with services(migrated_database) as built:
        yield built


def changes_of(url: str, aggregate: str, aggregate_id: int) -> list[dict[str, Any]]:
    with administrator(url) as connection:
        return connection.execute(
            "SELECT * FROM messaging.outbox WHERE aggregate_type = %s AND aggregate_id = %s ORDER BY id",
            (aggregate, aggregate_id),
        ).fetchall()


def test_each_change_of_an_event_is_a_row_with_the_event_as_it_is_then(
    running: Services, migrated_database: str
) -> None:
    event_id = running.published_event(ORGANIZER, title="Folded")

    changes = changes_of(migrated_database, "event", event_id)

    assert [(change["type"], change["version"]) for change in changes] == [
        ("events.created", 1),
        ("events.published", 2),
    ]
    assert [change["payload"]["status"] for change in changes] == ["draft", "published"]
    now = json.loads(running.catalog.get(event_id, None).model_dump_json())
    assert changes[-1]["payload"].items() <= now.items()
    assert {change["partition_key"] for change in changes} == {str(event_id)}
    assert {change["actor_id"] for change in changes} == {ORGANIZER}


def test_a_message_about_a_user_has_no_address_in_it(running: Services, migrated_database: str) -> None:
    user = running.accounts.open(SignUp(email="outbox@example.org", password=SecretStr("correct horse"), name="Ada"))

    (change,) = changes_of(migrated_database, "user", user.id)

    assert change["payload"] == {"id": user.id, "name": "Ada", "suspended": False, "version": 1}


def test_a_change_carries_the_trace_of_its_request(running: Services, migrated_database: str) -> None:
    trace = continue_trace("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")

    event = running.catalog.create(event_in(), caller(ORGANIZER))

    assert changes_of(migrated_database, "event", event.id)[0]["traceparent"] == trace.traceparent


def test_the_relay_is_poked_after_a_commit_with_the_shards_that_changed(running: Services) -> None:
    event = running.catalog.create(event_in(), caller(ORGANIZER))
    assert len(running.poked) == 1

    running.catalog.get(event.id, caller(ORGANIZER))
    with pytest.raises(NotFoundError):
        running.catalog.publish(event.id, caller(ORGANIZER + 1))

    assert len(running.poked) == 1, "nothing was changed"


def test_a_transaction_that_is_killed_before_its_outbox_row_changes_nothing(
    running: Services, migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = running.catalog.create(event_in(), caller(ORGANIZER))

    def kill_instead(outbox: Outbox, _change: object) -> None:
        with administrator(migrated_database) as connection:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", (outbox.connection.info.backend_pid,))

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "append", kill_instead)
        with pytest.raises(DependencyUnavailableError):
            running.catalog.publish(event.id, caller(ORGANIZER))

    assert running.catalog.get(event.id, caller(ORGANIZER)).status == "draft"
    assert [change["type"] for change in changes_of(migrated_database, "event", event.id)] == ["events.created"]
    assert running.catalog.publish(event.id, caller(ORGANIZER)).status == "published"


def test_a_row_that_the_outbox_refuses_takes_the_change_of_the_state_with_it(
    running: Services, migrated_database: str
) -> None:
    """Its version is taken already: the state must not move on without its message."""
    event = running.catalog.create(event_in(), caller(ORGANIZER))
    with administrator(migrated_database) as connection:
        connection.execute(
            """
            INSERT INTO messaging.outbox
                   (shard, aggregate_type, aggregate_id, version, type, partition_key, payload, traceparent)
            VALUES (0, 'event', %s, 2, 'events.updated', '', '{}', '')
            """,
            (event.id,),
        )

    with pytest.raises(Exception, match="duplicate key"):
        running.catalog.publish(event.id, caller(ORGANIZER))

    assert running.catalog.get(event.id, caller(ORGANIZER)).status == "draft"


def test_a_refused_change_leaves_no_row(running: Services, migrated_database: str) -> None:
    event_id = running.published_event(ORGANIZER)
    with pytest.raises(ConflictError):
        running.catalog.publish(event_id, caller(ORGANIZER))

    assert len(changes_of(migrated_database, "event", event_id)) == 2


def test_an_organiser_whose_message_is_still_on_the_way_is_asked_for(migrated_database: str) -> None:
    with services(migrated_database) as running:
        stranger = caller(987_654)

        event = running.catalog.create(event_in(), stranger)

    assert event.organizer.name == "User 987654"


def test_an_unknown_category_is_refused_with_those_that_exist(running: Services) -> None:
    with pytest.raises(InvalidInputError) as refused:
        running.catalog.create(event_in(category="juggling"), caller(ORGANIZER))

    (error,) = refused.value.errors
    assert error.pointer == "/category"
    assert "'juggling' is not a category" in error.detail
    assert "music" in error.detail


def test_an_event_keeps_every_value_it_was_given(running: Services) -> None:
    asked = event_in(
        title="Ünïcödé – 音楽 🎺",
        description="One.\n\tTwo.",
        tags=["a'b\"c", "%s"],
        location={"name": "Łódź; DROP TABLE", "lat": -89.999999, "lon": 179.999999},
        price={"amount": "9999999999.99", "currency": "EUR"},
        timezone="Pacific/Chatham",
    )

    event = running.catalog.create(asked, caller(ORGANIZER))

    kept = running.catalog.get(event.id, caller(ORGANIZER))
    assert kept == event
    assert asked.model_dump().items() <= kept.model_dump().items()
