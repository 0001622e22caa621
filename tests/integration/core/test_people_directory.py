"""What other services are told of many people at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from eventsplatform.adapters.postgres import Database
from eventsplatform.config import DatabaseSettings
from eventsplatform.identity.directory import PeopleDirectory
from eventsplatform.identity.people import Recipient
from eventsplatform.identity.people_repository import PostgresPeople
from eventsplatform.messaging.outbox import UnitOfWork
from tests.support.database import SHARDS
from tests.support.people import add_user, new_email

NOBODY = 2**53


@pytest.fixture
def directory(migrated_database: str) -> Iterator[PeopleDirectory]:
    database = Database(DatabaseSettings(migrated_database, "identity", False))
    yield PeopleDirectory(UnitOfWork(database, PostgresPeople, lambda _: None, SHARDS))
    database.close()


def test_names_are_told_of_all_but_those_who_are_erased(directory: PeopleDirectory, migrated_database: str) -> None:
    ada = add_user(migrated_database, name="Ada")
    suspended = add_user(migrated_database, name="Grace", status="suspended")
    erased = add_user(migrated_database, name="Deleted user", status="erased")

    told = directory.summaries_of([ada, suspended, erased, NOBODY])

    assert [(each.id, each.name) for each in told] == [(ada, "Ada"), (suspended, "Grace")]
    assert "email" not in type(told[0]).model_fields


def test_a_recipient_is_told_of_with_what_a_mail_needs_and_no_more(
    directory: PeopleDirectory, migrated_database: str
) -> None:
    email = new_email()
    profile = '{"bio": "Hello", "timezone": "Asia/Tokyo", "event_reminders": false}'
    user_id = add_user(migrated_database, name="Ada", email=email, profile=profile)

    assert directory.recipients_among([user_id]) == [
        Recipient(id=user_id, email=email, name="Ada", timezone="Asia/Tokyo", reminders=False)
    ]


def test_reminders_are_wanted_until_they_are_turned_off(directory: PeopleDirectory, migrated_database: str) -> None:
    (told,) = directory.recipients_among([add_user(migrated_database)])

    assert (told.timezone, told.reminders) == (None, True)


@pytest.mark.parametrize("account", [{"verified_at": None}, {"status": "suspended"}, {"status": "erased"}])
def test_nobody_writes_to_whose_address_is_not_confirmed_or_account_not_active(
    directory: PeopleDirectory, migrated_database: str, account: dict[str, Any]
) -> None:
    assert directory.recipients_among([add_user(migrated_database, **account)]) == []
