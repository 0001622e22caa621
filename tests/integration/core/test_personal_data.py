"""Handing over what is held about a person, and forgetting it, service by service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from eventsplatform.adapters.postgres import Connection, Database
from eventsplatform.catalog.model import KnownEvent, Organizer
from eventsplatform.catalog.repository import PostgresCatalog
from eventsplatform.catalog.service import Catalog
from eventsplatform.clock import utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    RateLimitedError,
    UnauthenticatedError,
)
from eventsplatform.idempotency import NamedRequest, handling_request
from eventsplatform.identity.people import AccessChange, AccountPatch, Erasure
from eventsplatform.identity.profiles import KnownUser
from eventsplatform.identity.sign_in_limits import PER_ACCOUNT
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.pagination import encode_cursor
from eventsplatform.personal_data import DELETED_NAME, DELETED_TITLE, PAGE_ROWS
from eventsplatform.registrations.model import EventFacts
from tests.support.callers import caller
from tests.support.database import SHARDS, AnyUser, RegistrationsPlaces, Services, administrator, event_in, services
from tests.support.people import CLIENT, PASSWORD, People, add_user, new_email, people, rows
from tests.support.polling import eventually

NAME = "Unmistakable Personname"
ORGANISER, FIRST, LAST, LATER = range(6_000_001, 6_000_005)


@pytest.fixture
def running(migrated_database: str) -> Iterator[People]:
    with people(migrated_database) as built:
        yield built


@pytest.fixture
def others(migrated_database: str) -> Iterator[Services]:
    with services(migrated_database) as built:
        yield built


@pytest.fixture
def email() -> str:
    return new_email("unmistakable")


@pytest.fixture
def ada(running: People, migrated_database: str, email: str) -> int:
    user_id = add_user(migrated_database, email=email, name=NAME)
    running.organizers.learn([(user_id, NAME, 1)])
    return user_id


def erase(running: People, user_id: int) -> None:
    running.personal_data.erase(Erasure(password=SecretStr(PASSWORD)), caller(user_id), CLIENT)


def forget_everywhere(running: People, user_id: int, version: int = 2) -> None:
    """What the message `users.deleted` makes other services do."""
    running.organizers.forget(user_id, version)
    running.attendees.forget(user_id)
    running.records.forget(user_id)


def messages_about(url: str, aggregate: str, aggregate_id: int) -> list[dict[str, Any]]:
    return rows(
        url,
        "SELECT * FROM messaging.outbox WHERE aggregate_type = %s AND aggregate_id = %s ORDER BY version",
        aggregate,
        aggregate_id,
    )


# The account ------------------------------------------------------------------------------------


def test_an_erased_account_is_a_number(running: People, migrated_database: str, ada: int, email: str) -> None:
    with administrator(migrated_database) as connection:
        session = connection.execute(
            """
            INSERT INTO identity.sessions (user_id, expires_at, address, user_agent)
            VALUES (%s, now() + interval '1 day', '192.0.2.1', 'Lynx') RETURNING id
            """,
            (ada,),
        ).fetchone()
        assert session is not None
        connection.execute(
            """
            INSERT INTO identity.refresh_tokens (session_id, user_id, token_hash, expires_at)
            VALUES (%s, %s, '\\x01', now() + interval '1 day')
            """,
            (session["id"], ada),
        )
        connection.execute(
            "INSERT INTO identity.sign_ups (email, name, password_hash) VALUES (%s, %s, 'x')", (email.upper(), NAME)
        )
        connection.execute("INSERT INTO identity.known_networks (user_id, network) VALUES (%s, '192.0.2.1/32')", (ada,))

    erase(running, ada)

    (left,) = rows(migrated_database, "SELECT * FROM identity.users WHERE id = %s", ada)
    assert left["name"] == DELETED_NAME
    assert left["email"] == f"erased-{ada}@users.invalid"
    assert (left["status"], left["role"], left["permissions"], left["profile"]) == ("erased", "user", [], {})
    assert (left["password_hash"], left["avatar_url"], left["verified_at"]) == ("", None, None)
    assert (left["generation"], left["version"]) == (2, 2)
    for table in ("sessions", "refresh_tokens", "known_networks"):
        assert rows(migrated_database, f"SELECT FROM identity.{table} WHERE user_id = %s", ada) == []
    assert rows(migrated_database, "SELECT FROM identity.sign_ups WHERE email = %s", email) == []


def test_an_erasure_is_told_revoked_recorded_and_cached(running: People, migrated_database: str, ada: int) -> None:
    running.profiles.public(ada)

    erase(running, ada)

    (message,) = messages_about(migrated_database, "user", ada)
    assert (message["type"], message["payload"]) == ("users.deleted", {"id": ada, "version": 2})
    assert running.revocations.ended == {ada: 2}
    assert running.cache.get(ada) == KnownUser(2, None)
    with pytest.raises(NotFoundError):
        running.profiles.public(ada)
    (record,) = rows(migrated_database, "SELECT * FROM messaging.audit_log WHERE subject_id = %s", ada)
    assert (record["action"], record["actor_id"], record["details"]) == ("user.erased", ada, {})


def test_a_wrong_password_erases_nothing(running: People, migrated_database: str, ada: int) -> None:
    wrong = Erasure(password=SecretStr("not " + PASSWORD))

    with pytest.raises(InvalidInputError) as refused:
        running.personal_data.erase(wrong, caller(ada), CLIENT)

    assert refused.value.errors[0].pointer == "/password"
    assert running.profiles.own(caller(ada)).name == NAME
    assert messages_about(migrated_database, "user", ada) == []


def test_who_guesses_the_password_has_to_wait(running: People, ada: int) -> None:
    wrong = Erasure(password=SecretStr("not " + PASSWORD))
    for _ in range(PER_ACCOUNT.free):
        with pytest.raises(InvalidInputError):
            running.personal_data.erase(wrong, caller(ada), CLIENT)

    with pytest.raises(RateLimitedError):
        erase(running, ada)


def test_the_last_administrator_stays(running: People, migrated_database: str) -> None:
    aside = rows(migrated_database, "UPDATE identity.users SET role = 'user' WHERE role = 'admin' RETURNING id")
    last = add_user(migrated_database, role="admin")
    try:
        with pytest.raises(ConflictError):
            erase(running, last)

        other = add_user(migrated_database, role="admin")
        erase(running, last)
    finally:
        rows(migrated_database, "UPDATE identity.users SET role = 'user' WHERE role = 'admin' RETURNING id")
        rows(
            migrated_database,
            "UPDATE identity.users SET role = 'admin' WHERE id = ANY(%s) RETURNING id",
            [row["id"] for row in aside],
        )
    assert other


def test_answers_that_were_kept_for_repeats_go_too(running: People, migrated_database: str, ada: int) -> None:
    named = NamedRequest.of(
        caller=str(ada), method="PATCH", path="/v1/users/me", key=new_email(), content=b"{}", secret=False
    )
    with handling_request(named):
        running.profiles.change(AccountPatch.model_validate({"profile": {"bio": "Hello"}}), caller(ada))
    kept = "SELECT FROM identity.idempotency_keys WHERE outcome::text LIKE %s"
    assert len(rows(migrated_database, kept, f"%{NAME}%")) == 1

    erase(running, ada)

    assert rows(migrated_database, kept, f"%{NAME}%") == []


# The organiser's events -------------------------------------------------------------------------


def test_a_new_name_goes_out_with_each_published_event(
    running: People, others: Services, migrated_database: str, ada: int
) -> None:
    published = others.published_event(ada)
    draft = others.catalog.create(event_in(), caller(ada)).id

    running.organizers.learn([(ada, "Ada Byron", 2)])

    assert others.catalog.describe(published).organizer.name == "Ada Byron"
    *_, told = messages_about(migrated_database, "event", published)
    assert (told["type"], told["version"]) == ("events.updated", 3)
    assert told["payload"]["organizer"] == {"id": ada, "name": "Ada Byron"}
    assert len(messages_about(migrated_database, "event", draft)) == 1


class WithoutOrganizersLock(PostgresCatalog):
    """Locks the event alone when it is to be changed."""

    def find_event(self, event_id: int, *, for_update: bool = False) -> KnownEvent | None:
        if for_update:
            self._connection.execute("SELECT FROM catalog.events WHERE id = %s FOR UPDATE", (event_id,))
        return super().find_event(event_id)


def name_in_search(url: str, running: People, organizer_id: int, store: Callable[[Connection], PostgresCatalog]) -> str:
    """The name that an event was last told with when its organiser's changed while it was being published."""
    database = Database(DatabaseSettings(url, "catalog", False))
    catalog = Catalog(UnitOfWork(database, store, lambda _: None, SHARDS), AnyUser(), RegistrationsPlaces(), utc_now)
    event_id = catalog.create(event_in(), caller(organizer_id)).id
    found, learned = threading.Event(), threading.Event()
    set_status = PostgresCatalog.set_status

    def slowly(self: PostgresCatalog, *arguments: Any) -> list[KnownEvent]:
        found.set()
        # The new name waits for this transaction, or has come and gone.
        eventually(lambda: learned.is_set() or waits_for_lock(url), what="a name that waits")
        # As the message was made before the name was known.
        known = {"organizer": Organizer(id=organizer_id, name=NAME)}
        return [event.model_copy(update=known) for event in set_status(self, *arguments)]

    publishing = threading.Thread(target=lambda: catalog.publish(event_id, caller(organizer_id)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PostgresCatalog, "set_status", slowly)
        publishing.start()
        assert found.wait(10)
        running.organizers.learn([(organizer_id, "Ada Byron", 2)])
        learned.set()
        publishing.join()
    database.close()
    name: str = messages_about(url, "event", event_id)[-1]["payload"]["organizer"]["name"]
    return name


def test_a_name_that_changes_while_an_event_is_being_published_reaches_it(
    running: People, migrated_database: str, ada: int
) -> None:
    assert name_in_search(migrated_database, running, ada, PostgresCatalog) == "Ada Byron"


def test_without_the_organisers_lock_an_event_keeps_the_former_name(
    running: People, migrated_database: str, ada: int
) -> None:
    """The control."""
    assert name_in_search(migrated_database, running, ada, WithoutOrganizersLock) == NAME


def test_an_erased_helper_leaves_every_team_and_everyone_is_told(
    running: People, others: Services, migrated_database: str, ada: int
) -> None:
    owner = caller(add_user(migrated_database))
    event_id = others.published_event(owner.user_id)
    others.teams.put(event_id, ada, "manager", owner)

    running.organizers.forget(ada, 9)

    assert others.catalog.describe(event_id).team == []
    last = messages_about(migrated_database, "event", event_id)[-1]
    assert (last["type"], last["version"], last["payload"]["team"]) == ("events.updated", 4, [])


@pytest.mark.parametrize(("name", "version"), [(NAME, 5), ("Late news", 1)])
def test_what_is_no_new_name_makes_no_new_version(
    running: People, others: Services, migrated_database: str, ada: int, name: str, version: int
) -> None:
    published = others.published_event(ada)

    running.organizers.learn([(ada, name, version)])

    assert len(messages_about(migrated_database, "event", published)) == 2


def test_events_of_an_erased_organiser_are_deleted_cancelled_or_left_without_a_name(
    running: People, others: Services, migrated_database: str, ada: int
) -> None:
    draft = others.catalog.create(event_in(title="A private plan", description="Where we meet"), caller(ada)).id
    upcoming, past = others.published_event(ada), others.published_event(ada)
    rows(
        migrated_database,
        "UPDATE catalog.events SET starts_at = now() - interval '1 day' WHERE id = %s RETURNING id",
        past,
    )

    running.organizers.forget(ada, 2)
    running.organizers.forget(ada, 2)

    with pytest.raises(NotFoundError):
        others.catalog.describe(draft)
    assert others.catalog.describe(upcoming).status == "cancelled"
    assert others.catalog.describe(past).status == "published"
    last = {event: messages_about(migrated_database, "event", event)[-1] for event in (draft, upcoming, past)}
    assert {event: message["type"] for event, message in last.items()} == {
        draft: "events.deleted",
        upcoming: "events.cancelled",
        past: "events.updated",
    }
    assert {message["payload"]["organizer"]["name"] for message in last.values()} == {DELETED_NAME}
    assert last[draft]["payload"]["title"] == DELETED_TITLE
    assert last[draft]["version"] == 2
    assert len(messages_about(migrated_database, "event", upcoming)) == 3, "telling it twice changes nothing"


def test_an_erased_organiser_gets_no_event_any_more(running: People, others: Services, ada: int) -> None:
    """Their token is dead; this request was on its way."""
    running.organizers.forget(ada, 2)

    class Gone:
        def describe(self, user_id: int) -> tuple[str, int]:
            raise NotFoundError(f"There is no user {user_id}.")

    others.catalog._users = Gone()
    with pytest.raises(NotFoundError):
        others.catalog.create(event_in(), caller(ada))


def test_an_event_that_is_being_created_is_seen_by_the_erasure(
    running: People, others: Services, migrated_database: str, ada: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    added, erasing = threading.Event(), threading.Event()
    add_event = PostgresCatalog.add_event

    def slowly(store: PostgresCatalog, *arguments: Any) -> Any:
        event = add_event(store, *arguments)
        added.set()
        assert erasing.wait(10)
        # The erasure waits for the organiser's row by now, or comes after the commit: both are well.
        eventually(lambda: waits_for_lock(migrated_database), what="an erasure that waits")
        return event

    monkeypatch.setattr(PostgresCatalog, "add_event", slowly)
    created: list[int] = []
    creating = threading.Thread(target=lambda: created.append(others.catalog.create(event_in(), caller(ada)).id))
    creating.start()
    assert added.wait(10)
    erasing.set()
    running.organizers.forget(ada, 2)
    creating.join()

    with pytest.raises(NotFoundError):
        others.catalog.describe(created[0])


def waits_for_lock(url: str) -> bool:
    return bool(rows(url, "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND state = 'active'"))


# The attendee's registrations -------------------------------------------------------------------


def register(others: Services, event_id: int, *users: int) -> None:
    others.registrations.learn_events([EventFacts.of_event(others.catalog.describe(event_id).model_dump(mode="json"))])
    for user in users:
        others.registrations.register(event_id, caller(user))


def counts(url: str, event_id: int) -> dict[str, Any]:
    (row,) = rows(
        url,
        """
        SELECT sum(taken)::int AS registered, sum(waiting)::int AS waitlisted
          FROM registrations.places WHERE event_id = %s
        """,
        event_id,
    )
    return row


def test_places_and_places_in_line_are_given_back(
    running: People, others: Services, migrated_database: str, ada: int
) -> None:
    held = others.published_event(ORGANISER, capacity=2)
    in_line = others.published_event(ORGANISER, capacity=1)
    register(others, held, ada, FIRST)
    register(others, in_line, FIRST, ada, LAST)

    running.attendees.forget(ada)
    running.attendees.forget(ada)

    assert counts(migrated_database, held) == {"registered": 1, "waitlisted": 0}
    assert counts(migrated_database, in_line) == {"registered": 1, "waitlisted": 1}
    told = rows(
        migrated_database,
        """
        SELECT payload FROM messaging.outbox
         WHERE type = 'registrations.cancelled' AND payload @> jsonb_build_object('user_id', %s::bigint) ORDER BY id
        """,
        ada,
    )
    assert [(each["payload"]["event_id"], each["payload"]["status"]) for each in told] == [
        (held, "cancelled"),
        (in_line, "cancelled"),
    ]
    assert [each["payload"]["counts"]["registered"] for each in told] == [1, 1]
    assert [each["payload"]["counts"]["waitlisted"] for each in told] == [0, 1]


def test_who_comes_next_in_line_has_the_right_position(running: People, others: Services, ada: int) -> None:
    event_id = others.published_event(ORGANISER, capacity=1)
    register(others, event_id, FIRST, ada, LAST)

    running.attendees.forget(ada)

    assert others.registrations.register(event_id, caller(LATER)).position == 2


def test_attendance_of_what_is_over_stays(running: People, others: Services, migrated_database: str, ada: int) -> None:
    event_id = others.published_event(ORGANISER)
    register(others, event_id, ada)
    rows(
        migrated_database,
        "UPDATE registrations.events SET starts_at = now() - interval '1 day' WHERE event_id = %s RETURNING event_id",
        event_id,
    )

    running.attendees.forget(ada)

    assert counts(migrated_database, event_id) == {"registered": 1, "waitlisted": 0}


def test_an_erased_attendee_gets_no_place_any_more(running: People, others: Services, ada: int) -> None:
    event_id = others.published_event(ORGANISER)
    register(others, event_id)
    running.attendees.forget(ada)

    with pytest.raises(UnauthenticatedError):
        others.registrations.register(event_id, caller(ada))


# The event store --------------------------------------------------------------------------------


def test_names_go_from_the_history_and_the_history_stays(
    running: People, others: Services, migrated_database: str, ada: int
) -> None:
    running.profiles.change(AccountPatch(name=NAME + " the First"), caller(ada))
    published = others.published_event(ada, title="Stays what it was")
    draft = others.catalog.create(event_in(title="A private plan", description="Where we meet"), caller(ada)).id
    somebody_else = others.published_event(ORGANISER)
    untouched = messages_about(migrated_database, "event", somebody_else)

    erase(running, ada)
    forget_everywhere(running, ada, version=3)

    account = messages_about(migrated_database, "user", ada)
    assert [each["payload"].get("name") for each in account] == [DELETED_NAME, None]
    history = messages_about(migrated_database, "event", published)
    assert [each["type"] for each in history] == ["events.created", "events.published", "events.cancelled"]
    assert {each["payload"]["organizer"]["name"] for each in history} == {DELETED_NAME}
    assert {each["payload"]["title"] for each in history} == {"Stays what it was"}
    unseen = messages_about(migrated_database, "event", draft)
    assert {(each["payload"]["title"], each["payload"]["description"]) for each in unseen} == {(DELETED_TITLE, "")}
    assert messages_about(migrated_database, "event", somebody_else) == untouched
    assert running.records.forget(ada) == 0, "there is nothing left to do"


def test_rows_that_come_in_late_lose_the_name_too(
    running: People, others: Services, migrated_database: str, ada: int
) -> None:
    running.records.forget(ada)
    late = others.published_event(ada)

    assert running.records.forget_late_rows() >= 2

    assert {each["payload"]["organizer"]["name"] for each in messages_about(migrated_database, "event", late)} == {
        DELETED_NAME
    }


def test_an_erasure_is_remembered_for_as_long_as_its_message_may_be_on_the_way(
    running: People, migrated_database: str, ada: int
) -> None:
    running.records.forget(ada)
    rows(
        migrated_database,
        "UPDATE messaging.erasures SET erased_at = now() - interval '9 days' WHERE user_id = %s RETURNING user_id",
        ada,
    )

    running.records.forget_late_rows()

    assert rows(migrated_database, "SELECT FROM messaging.erasures WHERE user_id = %s", ada) == []


# Handing over -----------------------------------------------------------------------------------


def test_an_export_has_what_every_service_holds(
    running: People, others: Services, migrated_database: str, ada: int, email: str
) -> None:
    running.profiles.change(AccountPatch.model_validate({"profile": {"bio": "Hello"}}), caller(ada))
    own, other = others.published_event(ada), others.published_event(ORGANISER)
    register(others, other, ada)

    export = running.personal_data.export(caller(ada))

    assert export.next_cursor is None
    (account,) = export.services["identity"]["users"]
    assert (account["email"], account["name"], account["profile"]) == (email, NAME, {"bio": "Hello"})
    assert "password_hash" not in account
    assert [event["id"] for event in export.services["catalog"]["events"]] == [own]
    assert [user["name"] for user in export.services["catalog"]["users"]] == [NAME]
    (registration,) = export.services["registrations"]["event_registrations"]
    assert (registration["event_id"], registration["status"]) == (other, "active")
    changes = export.services["messaging"]["outbox"]
    assert [change["type"] for change in changes] == [
        "users.updated",
        "events.created",
        "events.published",
        "registrations.created",
    ]
    assert [record["action"] for record in export.services["messaging"]["audit_log"]] == ["user.exported"]


def test_an_export_tells_nothing_of_others(running: People, migrated_database: str, ada: int) -> None:
    somebody = add_user(migrated_database, name="Somebody Else")
    admin = add_user(migrated_database, permissions=["users:manage"], name="The Administrator")
    manager = caller(admin, "users:manage")
    running.administration.change(ada, AccessChange(role="moderator"), manager)
    running.administration.change(somebody, AccessChange(status="suspended", reason="Private matters"), manager)

    of_the_subject = running.personal_data.export(caller(ada)).services["messaging"]
    of_the_actor = running.personal_data.export(manager).services["messaging"]

    assert {row["actor_id"] for row in of_the_subject["outbox"]} == {None}
    assert [row["actor_id"] for row in of_the_subject["audit_log"]] == [None, ada]
    assert of_the_subject["audit_log"][0]["details"]["role"]["after"] == "moderator"
    assert "Private matters" not in str(of_the_actor)
    assert [row["subject_id"] for row in of_the_actor["audit_log"]] == [ada, somebody, admin]


def test_long_tables_are_handed_over_page_by_page(running: People, migrated_database: str, ada: int) -> None:
    start = utc_now() + timedelta(days=30)
    with administrator(migrated_database) as connection:
        connection.execute(
            """
            INSERT INTO catalog.events (title, description, starts_at, ends_at, timezone, location_name, capacity,
                                        category, price_amount, price_currency, organizer_id)
            SELECT 'Event ' || n, '', %s, %s, 'UTC', 'Berlin', 10, 'music', 0, 'EUR', %s
              FROM generate_series(1, %s) AS n
            """,
            (start, start + timedelta(hours=1), ada, 2 * PAGE_ROWS + 1),
        )
    titles: list[str] = []
    pages, cursor = 0, None
    while True:
        export = running.personal_data.export(caller(ada), cursor)
        titles += [event["title"] for event in export.services["catalog"]["events"]]
        pages, cursor = pages + 1, export.next_cursor
        if cursor is None:
            break
        assert set(export.services) in ({"identity", "catalog", "registrations", "messaging"}, {"catalog"})

    assert pages == 3
    assert titles == [f"Event {n}" for n in range(1, 2 * PAGE_ROWS + 2)]
    (record,) = rows(migrated_database, "SELECT action FROM messaging.audit_log WHERE subject_id = %s", ada)
    assert record["action"] == "user.exported"


@pytest.mark.parametrize(
    "cursor", ["x", encode_cursor([1]), encode_cursor(["x"]), encode_cursor(["[]"]), encode_cursor(['{"catalog": 1}'])]
)
def test_a_cursor_of_something_else_is_refused(running: People, ada: int, cursor: str) -> None:
    with pytest.raises(InvalidInputError):
        running.personal_data.export(caller(ada), cursor)


def test_a_cursor_opens_nobody_elses_data(running: People, others: Services, ada: int) -> None:
    others.published_event(ada)

    export = running.personal_data.export(caller(ada + 1_000_000), encode_cursor(['{"catalog": {"events": 0}}']))

    assert export.services == {"catalog": {"events": []}}
