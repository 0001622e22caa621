"""Finding accounts, giving and taking access, and the last administrator, on Postgres."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from eventsplatform.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    PreconditionFailedError,
)
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.people import AccessChange, UserQuery
from eventsplatform.identity.people_repository import PostgresPeople
from tests.support.callers import caller
from tests.support.people import People, add_user, new_email, people, rows


@pytest.fixture
def running(migrated_database: str) -> Iterator[People]:
    with people(migrated_database) as built:
        yield built


@pytest.fixture
def admin(migrated_database: str) -> Iterator[Caller]:
    """An administrator for the time of the test."""
    user_id = add_user(migrated_database, role="admin")
    yield caller(user_id, "users:manage")
    rows(migrated_database, "UPDATE identity.users SET role = 'user' WHERE id = %s RETURNING id", user_id)


@pytest.fixture
def ada(migrated_database: str) -> int:
    return add_user(migrated_database)


def change(**fields: Any) -> AccessChange:
    return AccessChange.model_validate(fields)


def account(url: str, user_id: int) -> dict[str, Any]:
    (row,) = rows(url, "SELECT * FROM identity.users WHERE id = %s", user_id)
    return row


def audit_of(url: str, user_id: int) -> list[dict[str, Any]]:
    return rows(
        url, "SELECT * FROM messaging.audit_log WHERE subject_type = 'user' AND subject_id = %s ORDER BY id", user_id
    )


def told(url: str, user_id: int) -> list[dict[str, Any]]:
    return rows(
        url, "SELECT * FROM messaging.outbox WHERE aggregate_type = 'user' AND aggregate_id = %s ORDER BY id", user_id
    )


def test_a_suspension_ends_all_access_at_once_and_is_recorded(
    running: People, migrated_database: str, admin: Caller, ada: int
) -> None:
    session = rows(
        migrated_database,
        "INSERT INTO identity.sessions (user_id, expires_at) VALUES (%s, now() + interval '1 day') RETURNING id",
        ada,
    )[0]["id"]

    suspended = running.administration.change(ada, change(status="suspended", reason="Spam"), admin)

    assert (suspended.status, suspended.suspension_reason) == ("suspended", "Spam")
    now = account(migrated_database, ada)
    assert (now["status"], now["generation"], now["version"]) == ("suspended", 2, 2)
    assert running.revocations.ended == {ada: 2}
    assert rows(migrated_database, "SELECT end_reason FROM identity.sessions WHERE id = %s", session) == [
        {"end_reason": "suspension"}
    ]
    (record,) = audit_of(migrated_database, ada)
    assert (record["action"], record["actor_id"]) == ("user.suspended", admin.user_id)
    assert record["details"]["status"] == {"before": "active", "after": "suspended"}
    (message,) = told(migrated_database, ada)
    assert (message["type"], message["actor_id"]) == ("users.updated", admin.user_id)
    assert message["payload"]["suspended"] is True


def test_a_suspended_account_can_be_reinstated(
    running: People, migrated_database: str, admin: Caller, ada: int
) -> None:
    running.administration.change(ada, change(status="suspended", reason="Spam"), admin)

    active = running.administration.change(ada, change(status="active"), admin)

    assert (active.status, active.suspension_reason) == ("active", None)
    assert [record["action"] for record in audit_of(migrated_database, ada)] == ["user.suspended", "user.reinstated"]
    assert [message["payload"]["suspended"] for message in told(migrated_database, ada)] == [True, False]


def test_a_role_and_permissions_reach_the_next_token(
    running: People, migrated_database: str, admin: Caller, ada: int
) -> None:
    running.administration.change(ada, change(role="moderator", permissions=["events:read"]), admin)

    now = account(migrated_database, ada)
    assert (now["role"], now["permissions"], now["generation"]) == ("moderator", ["events:read"], 2)
    (record,) = audit_of(migrated_database, ada)
    assert record["details"]["role"] == {"before": "user", "after": "moderator"}
    assert running.revocations.ended == {ada: 2}


def test_a_change_that_changes_nothing_ends_nothing(
    running: People, migrated_database: str, admin: Caller, ada: int
) -> None:
    unchanged = running.administration.change(ada, change(role="user", status="active"), admin)

    assert unchanged.version == 1
    assert running.revocations.ended == {}
    assert audit_of(migrated_database, ada) == []


@pytest.mark.parametrize(
    "wanted", [{"role": "user"}, {"permissions": []}, {"status": "suspended", "reason": "Bye"}, {}]
)
def test_nobody_changes_their_own_access(running: People, admin: Caller, wanted: dict[str, Any]) -> None:
    with pytest.raises(ForbiddenError):
        running.administration.change(admin.user_id, change(**wanted), admin)


def test_a_change_on_an_older_version_is_refused(running: People, admin: Caller, ada: int) -> None:
    running.administration.change(ada, change(role="moderator"), admin, if_match='"1"')

    with pytest.raises(PreconditionFailedError):
        running.administration.change(ada, change(role="user"), admin, if_match='"1"')


@pytest.mark.parametrize("status", ["erased", None])
def test_who_is_not_there_cannot_be_changed(
    running: People, migrated_database: str, admin: Caller, status: str | None
) -> None:
    nobody = add_user(migrated_database, status=status) if status else 2**62

    with pytest.raises(NotFoundError):
        running.administration.change(nobody, change(role="admin"), admin)


# The last administrator -------------------------------------------------------------------------


@pytest.fixture
def only_two(migrated_database: str) -> Iterator[tuple[int, int]]:
    """Two administrators, and no other for the time of the test."""
    aside = rows(migrated_database, "UPDATE identity.users SET role = 'user' WHERE role = 'admin' RETURNING id")
    two = add_user(migrated_database, role="admin"), add_user(migrated_database, role="admin")
    yield two
    rows(migrated_database, "UPDATE identity.users SET role = 'user' WHERE id = ANY(%s) RETURNING id", list(two))
    rows(
        migrated_database,
        "UPDATE identity.users SET role = 'admin' WHERE id = ANY(%s) RETURNING id",
        [row["id"] for row in aside],
    )


LOSING = [
    {"role": "user"},
    {"role": "admin", "permissions": ["admin:access"]},
    {"status": "suspended", "reason": "Bye"},
]


@pytest.mark.parametrize("wanted", LOSING)
def test_the_last_administrator_keeps_access(
    running: People, migrated_database: str, only_two: tuple[int, int], wanted: dict[str, Any]
) -> None:
    first, last = only_two
    manager = caller(add_user(migrated_database, permissions=["users:manage"]), "users:manage")
    running.administration.change(first, change(**wanted), manager)

    with pytest.raises(ConflictError):
        running.administration.change(last, change(**wanted), manager)

    assert account(migrated_database, last)["generation"] == 1


class WithoutLock(PostgresPeople):
    """Reads who administers, and lets others change it meanwhile."""

    def lock_administrators(self) -> set[int]:
        found = self._connection.execute(
            """
            SELECT id FROM identity.users
             WHERE role = 'admin' AND status = 'active' AND 'users:manage' = ANY (permissions)
            """
        ).fetchall()
        meeting.wait()
        return {row["id"] for row in found}


meeting = threading.Barrier(2, timeout=10)


def demote_each_other(url: str, two: tuple[int, int], store: Callable[..., Any]) -> int:
    """How many administrators are left when both take the other's role at once."""
    refused: list[Exception] = []

    def demote(actor: int, other: int) -> None:
        with people(url, store=store) as running:
            try:
                running.administration.change(other, change(role="user"), caller(actor, "users:manage"))
            except ConflictError as error:
                refused.append(error)

    threads = [threading.Thread(target=demote, args=pair) for pair in (two, two[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = rows(url, "SELECT id FROM identity.users WHERE id = ANY(%s) AND role = 'admin'", list(two))
    assert len(refused) == len(left)
    return len(left)


def test_two_administrators_who_demote_each_other_leave_one(migrated_database: str, only_two: tuple[int, int]) -> None:
    assert demote_each_other(migrated_database, only_two, PostgresPeople) == 1


def test_without_the_lock_nobody_is_left(migrated_database: str, only_two: tuple[int, int]) -> None:
    """The control: a race that a store without the lock survived would prove nothing about the lock."""
    assert demote_each_other(migrated_database, only_two, WithoutLock) == 0


def test_the_first_administrator_is_appointed_by_who_operates_the_platform(
    running: People, migrated_database: str
) -> None:
    email = new_email()
    user_id = add_user(migrated_database, email=email, status="suspended", suspension_reason="Spam")

    appointed = running.administration.appoint(email.upper())

    assert (appointed.id, appointed.role, appointed.status) == (user_id, "admin", "active")
    assert {record["actor_id"] for record in audit_of(migrated_database, user_id)} == {None}
    with pytest.raises(NotFoundError):
        running.administration.appoint(f"nobody-{email}")
    rows(migrated_database, "UPDATE identity.users SET role = 'user' WHERE id = %s RETURNING id", user_id)


# Finding accounts -------------------------------------------------------------------------------


def found(running: People, **query: Any) -> list[int]:
    return [user.id for user in running.administration.search(UserQuery.model_validate(query)).items]


def test_accounts_are_found_by_part_of_their_name_or_address(running: People, migrated_database: str) -> None:
    tag = uuid4().hex
    by_name = add_user(migrated_database, name=f"Grace {tag} Hopper")
    by_address = add_user(migrated_database, email=f"x{tag}@example.org")
    add_user(migrated_database)

    assert found(running, q=tag.upper()) == [by_name, by_address]
    assert found(running, q=f"{tag}@example") == [by_address]
    assert found(running, q=f"ce {tag} Ho") == [by_name]


@pytest.mark.parametrize("text", ["100% sure", "a_b", "back\\slash", "it's", '"; DROP TABLE identity.users; --'])
def test_nothing_in_a_text_stands_for_anything_else(running: People, migrated_database: str, text: str) -> None:
    tag = uuid4().hex
    same = add_user(migrated_database, name=f"{tag} {text}")
    add_user(migrated_database, name=f"{tag} {text.replace('%', 'x').replace('_', 'x').replace(chr(92), 'x')}x"[::-1])

    assert found(running, q=f"{tag} {text}") == [same]
    assert found(running, q=f"{tag}%{text}") == []


def test_accounts_are_filtered_by_role_and_status(running: People, migrated_database: str) -> None:
    tag = uuid4().hex
    user = add_user(migrated_database, name=tag)
    moderator = add_user(migrated_database, name=tag, role="moderator")
    suspended = add_user(migrated_database, name=tag, status="suspended", suspension_reason="Spam")
    erased = add_user(migrated_database, name=tag, status="erased")

    assert found(running, q=tag) == [user, moderator, suspended]
    assert found(running, q=tag, role="moderator") == [moderator]
    assert found(running, q=tag, status="suspended") == [suspended]
    assert found(running, q=tag, status="erased") == [erased]
    assert found(running, q=tag, role="moderator", status="suspended") == []


def test_pages_follow_one_another_without_gaps(running: People, migrated_database: str) -> None:
    tag = uuid4().hex
    everyone = [add_user(migrated_database, name=tag) for _ in range(5)]
    seen: list[int] = []
    cursor = None
    while True:
        page = running.administration.search(UserQuery(q=tag, limit=2, cursor=cursor))
        seen += [user.id for user in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert seen == everyone


@pytest.mark.parametrize("cursor", ["x", "WyJhIl0", "WzEsMl0"])
def test_a_cursor_of_another_list_is_refused(running: People, cursor: str) -> None:
    with pytest.raises(InvalidInputError):
        running.administration.search(UserQuery(cursor=cursor))


def test_a_search_uses_the_index(running: People, migrated_database: str) -> None:
    from tests.support.database import administrator

    with administrator(migrated_database) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(
            "EXPLAIN SELECT FROM identity.users WHERE name ILIKE '%lovel%' OR email::text ILIKE '%lovel%'"
        ).fetchall()

    assert "users_found_by_text" in str(plan)
