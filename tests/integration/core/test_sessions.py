"""Sessions: refreshing, ending and listing them, and what is true of one."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from eventsplatform.clock import utc_now
from eventsplatform.errors import InvalidInputError, NotFoundError, PlatformError, UnauthenticatedError
from eventsplatform.idempotency import NamedRequest, handling_request
from eventsplatform.identity.caller import Caller, Client
from eventsplatform.identity.model import Credentials, Session, SignUp
from eventsplatform.identity.sessions_repository import PostgresSessions
from eventsplatform.identity.tokens import AccessTokenVerifier
from tests.support.callers import caller
from tests.support.database import AUDIENCE, ISSUER, KEYS, Services, administrator, services

PASSWORD = "correct horse battery"
HOME, THIEF = Client("203.0.113.7", "Firefox"), Client("2001:db8::1", "curl")
numbers = itertools.count(1)


@pytest.fixture
def running(migrated_database: str) -> Iterator[Services]:
    with services(migrated_database) as built:
        yield built


@pytest.fixture
def email(running: Services) -> str:
    """The address of an account."""
    address = f"grace.{os.getpid()}.{next(numbers)}@example.org"
    running.accounts.open(SignUp.model_validate({"email": address, "password": PASSWORD, "name": "Grace"}))
    return address


def sign_in(running: Services, email: str, client: Client = HOME) -> Session:
    return running.sessions.login(Credentials(email=email, password=SecretStr(PASSWORD)), client)


def caller_of(session: Session) -> Caller:
    return AccessTokenVerifier(lambda: KEYS, issuer=ISSUER, audience=AUDIENCE).verify(session.access_token)


def is_live(running: Services, session: Session) -> bool:
    who = caller_of(session)
    return running.session_check.check(who.user_id, who.session_id, who.token_id, who.generation).live


def named(key: str, content: str) -> NamedRequest:
    return NamedRequest.of(
        caller="203.0.113.7",
        method="POST",
        path="/v1/auth/refresh",
        key=key,
        content=content.encode(),
        secret=True,
    )


def audit_of(url: str, user_id: int) -> list[dict[str, Any]]:
    with administrator(url) as connection:
        return connection.execute(
            "SELECT * FROM messaging.audit_log WHERE subject_type = 'user' AND subject_id = %s ORDER BY id", (user_id,)
        ).fetchall()


def live_tokens(url: str, session: Session) -> int:
    with administrator(url) as connection:
        row = connection.execute(
            """
            SELECT count(*) AS live
              FROM identity.refresh_tokens AS token JOIN identity.sessions AS session ON session.id = token.session_id
             WHERE session.id = %s AND token.spent_at IS NULL AND session.ended_at IS NULL
            """,
            (caller_of(session).session_id,),
        ).fetchone()
    assert row is not None
    live: int = row["live"]
    return live


# ------------------------------------------------------------------------------------------ refreshing


def test_refreshing_goes_on_with_the_session_under_new_tokens(running: Services, email: str) -> None:
    first = sign_in(running, email)

    second = running.sessions.refresh(first.refresh_token, HOME)
    third = running.sessions.refresh(second.refresh_token, HOME)

    assert len({each.refresh_token for each in (first, second, third)}) == 3
    assert len({caller_of(each).session_id for each in (first, second, third)}) == 1
    assert len({caller_of(each).token_id for each in (first, second, third)}) == 3
    assert is_live(running, first)
    assert is_live(running, third)


def test_a_stolen_token_used_after_its_owner_refreshed_ends_the_session_for_both(
    running: Services, migrated_database: str, email: str
) -> None:
    # Given a refresh token that somebody else has, too
    stolen = sign_in(running, email)

    # When the owner refreshes, and then the thief does
    owner = running.sessions.refresh(stolen.refresh_token, HOME)
    with pytest.raises(UnauthenticatedError, match="used before"):
        running.sessions.refresh(stolen.refresh_token, THIEF)

    # Then nothing of the session is of any use to either, and the audit log has it
    session_id = caller_of(stolen).session_id
    assert running.revoked.sessions == [session_id]
    assert not is_live(running, owner)
    assert live_tokens(migrated_database, owner) == 0
    with pytest.raises(UnauthenticatedError, match="ended"):
        running.sessions.refresh(owner.refresh_token, HOME)
    (record,) = audit_of(migrated_database, owner.user.id)
    assert (record["action"], record["details"]) == ("session.token_reused", {"session_id": session_id})


def test_a_thief_who_refreshes_first_is_found_out_by_the_owner(running: Services, email: str) -> None:
    stolen = sign_in(running, email)
    thief = running.sessions.refresh(stolen.refresh_token, THIEF)

    with pytest.raises(UnauthenticatedError):
        running.sessions.refresh(stolen.refresh_token, HOME)

    assert not is_live(running, thief)
    with pytest.raises(UnauthenticatedError):
        running.sessions.refresh(thief.refresh_token, THIEF)


def test_a_spent_token_would_go_on_if_nobody_looked(
    running: Services, email: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: without the look at `spent` the stolen token is worth a session."""
    present = PostgresSessions.present_token

    def unspent(store: PostgresSessions, token_hash: bytes) -> Any:
        presented = present(store, token_hash)
        assert presented is not None
        return type(presented)(**{**vars(presented), "spent": False})

    stolen = sign_in(running, email)
    running.sessions.refresh(stolen.refresh_token, HOME)
    monkeypatch.setattr(PostgresSessions, "present_token", unspent)

    assert running.sessions.refresh(stolen.refresh_token, THIEF)


def in_parallel(url: str, times: int, run: Any) -> list[Any]:
    """What `run(services)` gives in as many threads at once, each with services of its own; a PlatformError counts."""
    barrier, outcomes = threading.Barrier(times), []

    def work() -> None:
        with services(url) as own:
            own.sessions.page(caller(0), None, 1)  # connected before all begin
            barrier.wait()
            try:
                outcomes.append(run(own))
            except PlatformError as error:
                outcomes.append(error)

    threads = [threading.Thread(target=work) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_parallel_refreshes_never_leave_two_live_families(
    running: Services, migrated_database: str, email: str
) -> None:
    session = sign_in(running, email)

    outcomes = in_parallel(migrated_database, 4, lambda own: own.sessions.refresh(session.refresh_token, HOME))

    assert sum(isinstance(outcome, Session) for outcome in outcomes) == 1
    assert all(isinstance(outcome, Session | UnauthenticatedError) for outcome in outcomes)
    assert live_tokens(migrated_database, session) == 0
    assert not is_live(running, session)
    assert len(audit_of(migrated_database, session.user.id)) == 1


def test_parallel_tries_of_one_request_are_given_one_answer(
    running: Services, migrated_database: str, email: str
) -> None:
    """A client that has lost the answer asks again under the same Idempotency-Key: no thief would know it."""
    session, key = sign_in(running, email), str(uuid4())

    def refresh(own: Services) -> Session:
        with handling_request(named(key, session.refresh_token)):
            return own.sessions.refresh(session.refresh_token, HOME)

    outcomes = in_parallel(migrated_database, 4, refresh)

    assert {type(outcome) for outcome in outcomes} == {Session}
    assert len({outcome.refresh_token for outcome in outcomes}) == 1
    assert live_tokens(migrated_database, session) == 1
    assert is_live(running, outcomes[0])
    assert audit_of(migrated_database, session.user.id) == []


def test_what_is_kept_for_a_repeat_holds_no_token(running: Services, migrated_database: str, email: str) -> None:
    session, request = sign_in(running, email), named(str(uuid4()), "x")

    with handling_request(request):
        refreshed = running.sessions.refresh(session.refresh_token, HOME)

    with administrator(migrated_database) as connection:
        kept = connection.execute("SELECT * FROM identity.idempotency_keys WHERE id = %s", (request.id,)).fetchone()
    assert kept is not None
    assert refreshed.refresh_token not in json.dumps(kept["outcome"])


@pytest.mark.parametrize("token", ["", "x", "é" * 50, "a" * 43])
def test_a_token_that_was_never_issued_is_refused(running: Services, token: str) -> None:
    with pytest.raises(UnauthenticatedError):
        running.sessions.refresh(token, HOME)


def test_an_access_token_is_no_refresh_token_and_the_other_way_round(running: Services, email: str) -> None:
    session = sign_in(running, email)

    with pytest.raises(UnauthenticatedError):
        running.sessions.refresh(session.access_token, HOME)
    with pytest.raises(UnauthenticatedError):
        AccessTokenVerifier(lambda: KEYS, issuer=ISSUER, audience=AUDIENCE).verify(session.refresh_token)


def test_a_session_ends_after_90_days_however_often_it_is_refreshed_and_after_30_without(
    migrated_database: str, running: Services, email: str
) -> None:
    now = [utc_now()]
    with services(migrated_database, clock=lambda: now[0]) as later:
        lasting, idle = sign_in(later, email), sign_in(later, email)
        for _ in range(3):
            now[0] += timedelta(days=29)
            lasting = later.sessions.refresh(lasting.refresh_token, HOME)
        with pytest.raises(UnauthenticatedError, match="expired"):
            later.sessions.refresh(idle.refresh_token, HOME)

        now[0] += timedelta(days=4)
        with pytest.raises(UnauthenticatedError, match="ended"):
            later.sessions.refresh(lasting.refresh_token, HOME)


def test_a_suspended_user_gets_no_new_tokens(running: Services, migrated_database: str, email: str) -> None:
    session = sign_in(running, email)
    with administrator(migrated_database) as connection:
        connection.execute("UPDATE identity.users SET status = 'suspended' WHERE id = %s", (session.user.id,))

    assert not is_live(running, session)
    with pytest.raises(UnauthenticatedError):
        running.sessions.refresh(session.refresh_token, HOME)


# ------------------------------------------------------------------------------------------ ending


def test_logging_out_ends_the_session_and_the_token(running: Services, migrated_database: str, email: str) -> None:
    session, other = sign_in(running, email), sign_in(running, email)
    who = caller_of(session)

    running.sessions.logout(who)

    assert (running.revoked.sessions, running.revoked.tokens) == ([who.session_id], [who.token_id])
    assert [is_live(running, each) for each in (session, other)] == [False, True]
    with pytest.raises(UnauthenticatedError):
        running.sessions.refresh(session.refresh_token, HOME)
    with administrator(migrated_database) as connection:
        row = connection.execute("SELECT * FROM identity.token_blacklist WHERE jti = %s", (who.token_id,)).fetchone()
    assert row is not None
    assert row["expires_at"] > who.expires_at


def test_a_login_that_a_suspension_overtakes_opens_nothing(
    running: Services, migrated_database: str, email: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_session = PostgresSessions.open_session

    def suspended_first(store: PostgresSessions, *arguments: Any) -> bool:
        with administrator(migrated_database) as connection:
            connection.execute("UPDATE identity.users SET status = 'suspended' WHERE email = %s", (email,))
        return open_session(store, *arguments)

    monkeypatch.setattr(PostgresSessions, "open_session", suspended_first)

    with pytest.raises(UnauthenticatedError, match="meantime"):
        sign_in(running, email)


def test_sessions_are_listed_with_the_latest_first_page_by_page(running: Services, email: str) -> None:
    sessions = [sign_in(running, email, Client("203.0.113.7", f"Browser {number}")) for number in range(5)]
    here = caller_of(sessions[1])
    running.sessions.logout(caller_of(sessions[3]))

    first = running.sessions.page(here, None, 3)
    second = running.sessions.page(here, first.next_cursor, 3)

    assert [each.user_agent for each in (*first.items, *second.items)] == [f"Browser {n}" for n in (4, 2, 1, 0)]
    assert [each.current for each in (*first.items, *second.items)] == [False, False, True, False]
    assert first.items[0].address == "203.0.113.7"
    assert second.next_cursor is None


@pytest.mark.parametrize("cursor", ["x", "WzEsMl0", "WyIyMDI2LTAxLTAxIiwiYSJd"])
def test_a_cursor_of_another_list_is_refused(running: Services, cursor: str) -> None:
    with pytest.raises(InvalidInputError):
        running.sessions.page(caller(1), cursor, 3)


def test_one_of_ones_sessions_is_ended_from_another(running: Services, email: str) -> None:
    here, elsewhere = sign_in(running, email), sign_in(running, email, THIEF)

    running.sessions.end(UUID(caller_of(elsewhere).session_id), caller_of(here))

    assert [is_live(running, each) for each in (here, elsewhere)] == [True, False]
    assert running.revoked.sessions == [caller_of(elsewhere).session_id]
    with pytest.raises(NotFoundError):
        running.sessions.end(UUID(caller_of(elsewhere).session_id), caller_of(here))


def test_anothers_session_does_not_exist(running: Services, email: str) -> None:
    session = sign_in(running, email)

    with pytest.raises(NotFoundError):
        running.sessions.end(UUID(caller_of(session).session_id), caller(session.user.id + 1))

    assert is_live(running, session)


# ------------------------------------------------------------------------------------------ what the gate asks


def test_a_session_is_live_for_its_own_user_alone(running: Services, email: str) -> None:
    who = caller_of(sign_in(running, email))
    check = running.session_check.check

    assert check(who.user_id, who.session_id, who.token_id, who.generation).live
    assert not check(who.user_id + 1, who.session_id, who.token_id, who.generation).live
    assert not check(who.user_id, str(uuid4()), who.token_id, who.generation).live
    assert not check(who.user_id, "no session", who.token_id, who.generation).live
    assert not check(who.user_id, who.session_id, who.token_id, who.generation - 1).live


def test_the_gates_copy_is_restored_with_all_that_ended_lately(
    running: Services, migrated_database: str, email: str
) -> None:
    ended, live = caller_of(sign_in(running, email)), caller_of(sign_in(running, email))
    running.sessions.logout(ended)
    with administrator(migrated_database) as connection:
        connection.execute(
            "UPDATE identity.users SET generation = 7, generation_changed_at = now() WHERE id = %s", (ended.user_id,)
        )
        found = PostgresSessions(connection).live_revocations()
        connection.execute(
            "UPDATE identity.users SET generation_changed_at = now() - interval '16 minutes' WHERE id = %s",
            (ended.user_id,),
        )
        connection.execute(
            "UPDATE identity.sessions SET ended_at = now() - interval '16 minutes' WHERE id = %s", (ended.session_id,)
        )
        later = PostgresSessions(connection).live_revocations()

    assert ended.session_id in found.session_ids
    assert live.session_id not in found.session_ids
    assert ended.token_id in found.token_ids
    assert found.generations[ended.user_id] == 7
    assert ended.session_id not in later.session_ids
    assert ended.user_id not in later.generations
