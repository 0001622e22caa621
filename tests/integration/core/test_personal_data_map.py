"""Where personal data are, column by column: nothing is missing from the export or survives the erasure.

The map says of each table which columns tell something of a person, how they leave on request and how they go. A table
or column that is not in the map fails; so does a marker that the export does not have or that the erasure leaves.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from psycopg import sql
from pydantic import SecretStr

from eventsplatform.catalog.occurrences import SeriesIn
from eventsplatform.identity.people import AccountPatch, Erasure
from eventsplatform.operations.migrate import SERVICES
from eventsplatform.registrations.model import EventFacts
from tests.support.callers import caller
from tests.support.database import Services, administrator, event_in, services
from tests.support.doors import by_list
from tests.support.people import CLIENT, PASSWORD, People, add_user, new_email, people, rows

EXPORTED = "exported"


@dataclass(frozen=True)
class Held:
    """`personal` columns tell something of a person, `besides` are the others. `export` is EXPORTED or why not.

    `erasure` is what becomes of a row; `secret` columns would let the reader of an export sign in.
    """

    besides: frozenset[str] = frozenset()
    personal: frozenset[str] = frozenset()
    export: str = "nothing of a person in it"
    erasure: str = "nothing of a person in it"
    secret: frozenset[str] = frozenset()


def columns(names: str) -> frozenset[str]:
    return frozenset(names.split())


MAP = {
    "identity.users": Held(
        personal=columns(
            "email password_hash name role permissions profile status suspension_reason verified_at avatar_url"
        ),
        besides=columns("id version created_at updated_at generation generation_changed_at"),
        export=EXPORTED,
        erasure="anonymised",
        secret=columns("password_hash"),
    ),
    "identity.sessions": Held(
        personal=columns("user_id address user_agent partner created_at last_used_at"),
        besides=columns("id expires_at ended_at end_reason"),
        export=EXPORTED,
        erasure="deleted",
    ),
    "identity.refresh_tokens": Held(
        personal=columns("user_id token_hash issued_at spent_at"),
        besides=columns("id session_id expires_at"),
        export=EXPORTED,
        erasure="deleted",
        secret=columns("token_hash"),
    ),
    "identity.token_blacklist": Held(
        personal=columns("user_id reason revoked_at"),
        besides=columns("jti expires_at"),
        export=EXPORTED,
        erasure="deleted: the account's generation refuses all its tokens",
    ),
    "identity.sign_ups": Held(
        personal=columns("email name password_hash"),
        besides=columns("id created_at"),
        export=EXPORTED,
        erasure="deleted",
        secret=columns("password_hash"),
    ),
    "identity.one_time_tokens": Held(
        personal=columns("user_id sign_up_id token_hash purpose"),
        besides=columns("created_at expires_at spent_at"),
        export=EXPORTED,
        erasure="deleted",
        secret=columns("token_hash"),
    ),
    "identity.account_mails": Held(
        personal=columns("email purpose sent_at"),
        besides=columns("request_id created_at"),
        export=EXPORTED,
        erasure="deleted",
    ),
    "identity.known_networks": Held(
        personal=columns("user_id network"), besides=columns("last_used_at"), export=EXPORTED, erasure="deleted"
    ),
    "identity.idempotency_keys": Held(
        personal=columns("outcome"),
        besides=columns("id fingerprint created_at"),
        export="copies of answers that were given already, for a day",
        erasure="deleted",
    ),
    "catalog.categories": Held(besides=columns("slug")),
    "catalog.users": Held(
        personal=columns("id name"), besides=columns("version erased"), export=EXPORTED, erasure="anonymised"
    ),
    "catalog.events": Held(
        personal=columns("organizer_id title description location_name latitude longitude tags cancellation_reason"),
        besides=columns(
            "id starts_at ends_at timezone capacity category price_amount price_currency status registered waitlisted "
            "counts_version version created_at updated_at series_id series_date"
        ),
        export=EXPORTED,
        erasure="drafts deleted, the others left without a name",
    ),
    "catalog.series": Held(
        personal=columns("organizer_id rule starts_on excluded_dates extra_dates"),
        besides=columns("id created_at"),
        export=EXPORTED,
        erasure="goes with the last of its events; dates alone",
    ),
    "catalog.team_members": Held(
        personal=columns("user_id role added_at"), besides=columns("event_id"), export=EXPORTED, erasure="deleted"
    ),
    "catalog.event_counts": Held(besides=columns("event_id part registered waitlisted version")),
    "catalog.inbox": Held(
        personal=columns("outcome"),
        besides=columns("id fingerprint created_at"),
        export="copies of answers that were given already, for eight days",
        erasure="deleted",
    ),
    "catalog.idempotency_keys": Held(
        personal=columns("outcome"),
        besides=columns("id fingerprint created_at"),
        export="copies of answers that were given already, for a day",
        erasure="deleted",
    ),
    "registrations.events": Held(
        personal=columns("organizer_id team facts"),
        besides=columns("event_id status starts_at ends_at timezone capacity version"),
        export="a copy of what the catalog exports",
        erasure="follows the catalog's messages",
    ),
    "registrations.event_registrations": Held(
        personal=columns("user_id"),
        besides=columns("id event_id status part ticket version registered_at offer_expires_at"),
        export=EXPORTED,
        erasure="released; the number leads to nobody",
    ),
    "registrations.holders": Held(
        personal=columns("user_id"),
        besides=columns("event_id registration_id registered_at"),
        export="which registration is someone's, of those that are exported",
        erasure="goes with what is released; the number leads to nobody",
    ),
    "registrations.places": Held(besides=columns("event_id part capacity taken waiting last_ticket version")),
    "registrations.waitlist": Held(besides=columns("event_id ticket registration_id registered_at")),
    "registrations.line_blocks": Held(besides=columns("event_id block people")),
    "registrations.offers": Held(besides=columns("registration_id registered_at event_id expires_at")),
    "registrations.inbox": Held(
        personal=columns("outcome"),
        besides=columns("id fingerprint created_at"),
        export="copies of answers that were given already, for eight days",
        erasure="numbers alone, which lead to nobody",
    ),
    "registrations.check_ins": Held(
        personal=columns("user_id checked_in_by undone_by"),
        besides=columns("id registration_id event_id scan_id checked_in_at recorded_at undone_at number"),
        export=EXPORTED,
        erasure="attendance stays; the numbers lead to nobody",
    ),
    "registrations.revoked_tickets": Held(besides=columns("registration_id event_id serial number revoked_at")),
    "registrations.doors": Held(besides=columns("event_id checked_in number")),
    "registrations.ticket_keys": Held(besides=columns("kid x added_at")),
    "registrations.idempotency_keys": Held(
        personal=columns("outcome"),
        besides=columns("id fingerprint created_at"),
        export="copies of answers that were given already, for a day",
        erasure="numbers alone, which lead to nobody",
    ),
    "registrations.attendee_mails": Held(
        personal=columns("user_id kind happened_at closed_at outcome"),
        besides=columns("id cause event_id registration_id registered_at schedule attempts due_at"),
        export=EXPORTED,
        erasure="numbers alone, for a month; who is erased has no address to send to",
    ),
    "registrations.calendar_feeds": Held(
        personal=columns("user_id token_hash created_at"),
        besides=frozenset(),
        export=EXPORTED,
        erasure="deleted",
        secret=columns("token_hash"),
    ),
    "registrations.announcements": Held(
        personal=columns("schedule"),
        besides=columns("event_id changed_at announce_at reminded_for"),
        export="when and where an event is, of what the catalog exports",
        erasure="no name in it, and of no draft",
    ),
    "registrations.mailing": Held(besides=columns("only_row since")),
    "registrations.erased_users": Held(
        besides=columns("user_id erased_at"), erasure="only who is erased is in it", export="nobody is left to ask"
    ),
    "registrations.webhooks": Held(
        personal=columns("user_id url description"),
        besides=columns(
            "id event_types event_ids enabled disabled_reason switched_at failing_since paused_until created_at "
            "updated_at owner_untold"
        ),
        export=EXPORTED,
        erasure="deleted",
    ),
    "registrations.webhook_secrets": Held(
        personal=columns("sealed"),
        besides=columns("webhook_id id expires_at"),
        export="told to its owner when it was made, and sealed since",
        erasure="deleted",
    ),
    "registrations.webhook_deliveries": Held(
        personal=columns("body response_excerpt error"),
        besides=columns(
            "webhook_id id message_id type event_id event_version status attempts next_attempt_at leased_until "
            "last_attempt_at response_status duration_ms created_at"
        ),
        export="what was sent to the owner's own server, and what that said, for thirty days",
        erasure="deleted",
    ),
    "registrations.suspended_users": Held(
        personal=columns("user_id suspended"),
        besides=columns("version"),
        export="identity exports the account's status",
        erasure="deleted",
    ),
    "messaging.outbox": Held(
        personal=columns("actor_id payload"),
        besides=columns(
            "id shard aggregate_type aggregate_id version type partition_key traceparent occurred_at published_at"
        ),
        export=EXPORTED,
        erasure="names and unseen drafts are taken out of payloads",
    ),
    "messaging.relay_leases": Held(besides=columns("shard holder fence expires_at")),
    "messaging.bridge_leases": Held(besides=columns("shard holder fence expires_at stream_created_at sequence")),
    "messaging.audit_log": Held(
        personal=columns("subject_id actor_id details"),
        besides=columns("id action subject_type traceparent occurred_at"),
        export=EXPORTED,
        erasure="kept, as numbers and acts (GDPR art. 17(3)(b) and (e))",
    ),
    "messaging.erasures": Held(
        besides=columns("user_id erased_at"), erasure="only who is erased is in it", export="nobody is left to ask"
    ),
}
ALEMBICS_OWN = "schema_version"
# A partition is its parent's, which is in the map.
MONTH = re.compile(r"(?:registrations\.event_registrations|messaging\.outbox)_\d{4}_\d{2}")

# Rows without text of the person's own; their numbers are asked for instead.
WITHOUT_TEXT = {
    "identity.refresh_tokens",
    "identity.one_time_tokens",
    "catalog.team_members",
    "registrations.webhook_secrets",
    "registrations.suspended_users",
    "registrations.calendar_feeds",
}


@dataclass(frozen=True)
class Somebody:
    """A person, and the text and the address that only theirs have."""

    id: int
    marker: str
    address: str


numbers = itertools.count(1)
SOMEBODY_ELSE = 6_000_101


def all_columns(url: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in rows(
        url,
        "SELECT table_schema, table_name, column_name FROM information_schema.columns WHERE table_schema = ANY(%s)",
        list(SERVICES),
    ):
        if row["table_name"] != ALEMBICS_OWN:
            found.setdefault(f"{row['table_schema']}.{row['table_name']}", set()).add(row["column_name"])
    return found


def unmapped(found: dict[str, set[str]]) -> list[str]:
    """What is in the database and not in the map, or the other way round."""
    months = {table for table in found if MONTH.fullmatch(table)}
    problems = [f"{table}: not in the map" for table in found.keys() - MAP.keys() - months]
    problems += [f"{table}: in the map alone" for table in MAP.keys() - found.keys()]
    for table, held in MAP.items():
        for column in found.get(table, set()) ^ (held.personal | held.besides):
            problems.append(f"{table}.{column}: in the database or in the map alone")
    return sorted(problems)


def test_every_column_of_the_database_is_in_the_map(migrated_database: str) -> None:
    assert unmapped(all_columns(migrated_database)) == []
    assert all(not held.personal & held.besides for held in MAP.values())


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("CREATE TABLE identity.phone_numbers (user_id bigint)", "identity.phone_numbers: not in the map"),
        ("ALTER TABLE catalog.users ADD COLUMN email text", "catalog.users.email: in the database"),
    ],
)
def test_a_new_place_for_personal_data_is_noticed(migrated_database: str, statement: str, problem: str) -> None:
    """The control."""
    with administrator(migrated_database) as connection, connection.transaction(force_rollback=True):
        connection.execute(statement)
        found = connection.execute(
            """
            SELECT table_schema || '.' || table_name AS name, array_agg(column_name::text) AS columns
              FROM information_schema.columns
             WHERE table_schema = ANY(%s) AND table_name <> %s
             GROUP BY name
            """,
            (list(SERVICES), ALEMBICS_OWN),
        ).fetchall()

        assert any(each.startswith(problem) for each in unmapped({row["name"]: set(row["columns"]) for row in found}))


# Somebody who has left something in every table ------------------------------------------------------


@pytest.fixture
def running(migrated_database: str) -> Iterator[People]:
    with people(migrated_database) as built:
        yield built


@pytest.fixture
def others(migrated_database: str) -> Iterator[Services]:
    with services(migrated_database) as built:
        yield built


@pytest.fixture
def somebody(running: People, others: Services, migrated_database: str) -> Somebody:
    """With the marker wherever text can be."""
    number = next(numbers)
    marker, address = f"zyxmarker{number}z", f"198.18.7.{number}"
    email = new_email(f"{marker}-mail")
    user_id = add_user(
        migrated_database,
        email=email,
        name=f"{marker} name",
        avatar_url=f"https://{marker}-avatar.example.org",
        suspension_reason=f"{marker} reason",
    )
    known = {"user_id": user_id, "email": email, "address": address}
    with administrator(migrated_database) as connection:
        session = connection.execute(
            f"""
            INSERT INTO identity.sessions (user_id, expires_at, address, user_agent, partner)
            VALUES (%(user_id)s, now() + interval '1 day', %(address)s, '{marker} agent', 'acme') RETURNING id
            """,
            known,
        ).fetchone()
        sign_up = connection.execute(
            f"""
            INSERT INTO identity.sign_ups (email, name, password_hash)
            VALUES (%(email)s, '{marker} sign-up', 'x') RETURNING id
            """,
            known,
        ).fetchone()
        assert session is not None
        assert sign_up is not None
        known |= {"session_id": session["id"], "sign_up_id": sign_up["id"]}
        for statement in (
            """
            INSERT INTO identity.refresh_tokens (session_id, user_id, token_hash, expires_at)
            VALUES (%(session_id)s, %(user_id)s, sha256(convert_to(%(email)s, 'UTF8')), now() + interval '1 day')
            """,
            """
            INSERT INTO identity.token_blacklist (jti, user_id, reason, expires_at)
            VALUES (%(email)s, %(user_id)s, 'logout', now() + interval '1 hour')
            """,
            """
            INSERT INTO identity.one_time_tokens (token_hash, purpose, sign_up_id, expires_at)
            VALUES (sha256(convert_to(%(email)s, 'UTF8')), 'verify_email', %(sign_up_id)s,
                    now() + interval '30 minutes')
            """,
            """
            INSERT INTO identity.account_mails (request_id, email, purpose)
            VALUES (gen_random_uuid(), %(email)s, 'resend')
            """,
            "INSERT INTO identity.known_networks (user_id, network) VALUES (%(user_id)s, %(address)s)",
            """
            INSERT INTO identity.idempotency_keys (id, fingerprint, outcome)
            VALUES (sha256(convert_to(%(email)s, 'UTF8')), '', jsonb_build_object('result', jsonb_build_object(
                   'email', %(email)s::text, 'id', %(user_id)s::bigint)))
            """,
        ):
            connection.execute(statement, known)
    running.organizers.learn([(user_id, f"{marker} name", 1)])
    running.profiles.change(AccountPatch.model_validate({"profile": {"bio": f"{marker} bio"}}), caller(user_id))
    published = others.published_event(user_id)
    draft = others.catalog.create(
        event_in(
            title=f"{marker} title",
            description=f"{marker} description",
            location={"name": f"{marker} place"},
            tags=[f"{marker}tag"],
        ),
        caller(user_id),
    )
    others.series.plan(draft.id, SeriesIn(rule="FREQ=DAILY;COUNT=2"), caller(user_id))
    others.registrations.learn_events(
        [EventFacts.of_event(event.model_dump(mode="json")) for event in (others.catalog.describe(published), draft)]
    )
    registration = others.registrations.register(published, caller(user_id))
    others.check_ins.check_in(published, by_list(registration.id), caller(user_id))
    helped = others.published_event(SOMEBODY_ELSE)
    with administrator(migrated_database) as connection:
        for table in ("idempotency_keys", "inbox"):
            connection.execute(
                f"""
                INSERT INTO catalog.{table} (id, fingerprint, outcome)
                VALUES (sha256(convert_to(%s, 'UTF8')), '', jsonb_build_object('result', jsonb_build_object(
                       'organizer', jsonb_build_object('id', %s::bigint, 'name', '{marker} name'))))
                """,
                (email, user_id),
            )
        connection.execute(
            "INSERT INTO registrations.calendar_feeds (user_id, token_hash) VALUES (%s, sha256(%s::bytea))",
            (user_id, email.encode()),
        )
        connection.execute(
            "INSERT INTO catalog.team_members (event_id, user_id, role) VALUES (%s, %s, 'check_in')", (helped, user_id)
        )
        connection.execute(
            """
            INSERT INTO registrations.attendee_mails
                   (cause, kind, user_id, event_id, registration_id, registered_at, happened_at, closed_at, outcome)
            SELECT 'registration-' || id || '-1', 'confirmation', user_id, event_id, id, registered_at, now(), now(),
                   'sent'
              FROM registrations.event_registrations
             WHERE user_id = %s
            """,
            (user_id,),
        )
        connection.execute("INSERT INTO registrations.suspended_users (user_id) VALUES (%s)", (user_id,))
        connection.execute(
            f"""
            WITH webhook AS (
                INSERT INTO registrations.webhooks
                       (user_id, url, description, event_types, switched_at, created_at, updated_at)
                VALUES (%s, 'https://{marker}.example.org/', '{marker} text', '{{events.*}}', now(), now(), now())
                RETURNING id
            ), secret AS (
                INSERT INTO registrations.webhook_secrets (webhook_id, sealed) SELECT id, 'k1.x' FROM webhook
            )
            INSERT INTO registrations.webhook_deliveries
                   (webhook_id, message_id, type, body, status, response_excerpt, created_at)
            SELECT id, 'event-1-1', 'events.created', '{{}}', 'delivered', '{marker} answer', now() FROM webhook
            """,
            (user_id,),
        )
    return Somebody(user_id, marker, address)


def traces(url: str, somebody: Somebody) -> dict[str, list[str]]:
    """The rows of every table that have the marker or the address, as text."""
    found: dict[str, list[str]] = {}
    with administrator(url) as connection:
        for table in MAP:
            matching = connection.execute(
                sql.SQL("SELECT row::text AS text FROM {} AS row WHERE row::text ILIKE ANY(%s)").format(
                    sql.Identifier(*table.split("."))
                ),
                ([f"%{somebody.marker}%", f"%{somebody.address}%"],),
            ).fetchall()
            if matching:
                found[table] = [row["text"] for row in matching]
    return found


def rows_about(url: str, somebody: Somebody) -> list[str]:
    """The tables whose rows are deleted in an erasure and that still have the person's number."""
    with administrator(url) as connection:
        return [
            table
            for table, held in MAP.items()
            if held.erasure.startswith("deleted") and "user_id" in held.personal
            if connection.execute(
                sql.SQL("SELECT FROM {} WHERE user_id = %s").format(sql.Identifier(*table.split("."))), (somebody.id,)
            ).fetchall()
        ]


def test_the_export_has_every_column_of_every_table(running: People, somebody: Somebody) -> None:
    export = running.personal_data.export(caller(somebody.id))

    for table, held in MAP.items():
        schema, name = table.split(".")
        exported = export.services[schema].get(name) if schema in export.services else None
        if held.export != EXPORTED:
            assert exported is None, table
            continue
        assert exported, f"{table}: nothing exported, though there is something"
        assert all(held.personal - held.secret <= row.keys() for row in exported), table
        assert not any(held.secret & row.keys() for row in exported), table


def test_nothing_survives_an_erasure(
    running: People, others: Services, migrated_database: str, somebody: Somebody
) -> None:
    before = traces(migrated_database, somebody)
    assert {"catalog.team_members", "registrations.calendar_feeds"} <= set(rows_about(migrated_database, somebody))
    erased = {table for table, held in MAP.items() if held.erasure.startswith(("anonymised", "deleted"))}
    assert erased - WITHOUT_TEXT <= before.keys(), "the control: the marker was everywhere"
    assert {"messaging.outbox", "registrations.events", "catalog.events"} <= before.keys()

    running.personal_data.erase(Erasure(password=SecretStr(PASSWORD)), caller(somebody.id), CLIENT)
    running.organizers.forget(somebody.id, 3)
    running.attendees.forget(somebody.id)
    running.webhook_owners.forget(somebody.id)
    running.records.forget(somebody.id)
    told = rows(
        migrated_database,
        """
        SELECT DISTINCT ON (aggregate_id) payload FROM messaging.outbox
         WHERE aggregate_type = 'event' AND actor_id = %s ORDER BY aggregate_id, version DESC
        """,
        somebody.id,
    )
    others.registrations.learn_events([EventFacts.of_event(row["payload"]) for row in told])

    assert traces(migrated_database, somebody) == {}
    assert rows_about(migrated_database, somebody) == []


def test_what_an_erasure_forgets_to_do_is_found(running: People, migrated_database: str, somebody: Somebody) -> None:
    """The control: without the other services' part, their traces stay."""
    running.personal_data.erase(Erasure(password=SecretStr(PASSWORD)), caller(somebody.id), CLIENT)

    left = traces(migrated_database, somebody)
    running.organizers.forget(somebody.id, 3)
    running.records.forget(somebody.id)

    assert {"catalog.users", "catalog.events", "messaging.outbox"} <= left.keys()
    assert {"catalog.idempotency_keys", "catalog.inbox"} <= left.keys()
    assert not any(table.startswith("identity.") for table in left)
