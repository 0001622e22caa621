"""Accounts on the whole platform: keeping one, administering others', taking what is held away, and being forgotten."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from psycopg import connect, sql
from redis import Redis

from tests.support.platform import PASSWORD, ROOT, Account, RunningPlatform, new_address
from tests.support.polling import eventually

MERGE_PATCH = "application/merge-patch+json"


def unusual_name() -> str:
    """A name that nothing else on the platform has in it."""
    return f"Quetzalcoatlus {time.time_ns()}"


@pytest.fixture
def somebody(platform: RunningPlatform) -> Account:
    return platform.sign_up(unusual_name())


@pytest.fixture(scope="module")
def admin(platform: RunningPlatform) -> Account:
    """Appointed as an operator does it, on one machine."""
    account = platform.sign_up("Grace Hopper")
    command = [sys.executable, "-m", "local", "appoint", account.email, "--state", str(platform.state)]
    appointed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert appointed.returncode == 0, appointed.stderr
    return platform.sign_in(account.email)


def me(platform: RunningPlatform, account: Account) -> httpx.Response:
    return platform.http.get("/v1/users/me", headers=account.headers)


# Keeping an account -----------------------------------------------------------------------------


def test_an_account_is_changed_by_merge_patch_on_the_version_that_was_read(
    platform: RunningPlatform, somebody: Account
) -> None:
    read = me(platform, somebody)
    assert read.json()["email"] == somebody.email
    assert read.json()["email_verified"] is True
    conditional = {**somebody.headers, "If-Match": read.headers["ETag"], "Content-Type": MERGE_PATCH}
    patch = json.dumps({"profile": {"city": "Berlin", "bio": "Plays chess.", "preferences": {"theme": "dark"}}})

    changed = platform.http.patch("/v1/users/me", headers=conditional, content=patch)
    again = platform.http.patch("/v1/users/me", headers=conditional, content=patch)

    assert changed.status_code == 200, changed.text
    assert changed.headers["ETag"] != read.headers["ETag"]
    assert again.status_code == 412
    assert me(platform, somebody).json() == changed.json()
    shown = platform.http.get(f"/v1/users/{somebody.id}").json()
    assert shown["profile"]["city"] == "Berlin"
    assert somebody.email not in json.dumps(shown)
    assert set(shown) == {"id", "name", "avatar_url", "profile"}
    assert "preferences" not in shown["profile"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"role": "admin"}, "/role"),
        ({"permissions": ["users:manage"]}, "/permissions"),
        ({"status": "active"}, "/status"),
        ({"email": "eve@example.org"}, "/email"),
        ({"name": None}, "/name"),
        ({"profile": {"admin": True}}, "/profile/admin"),
        ({"avatar_url": "https://localhost/me.png"}, "/avatar_url"),
    ],
)
def test_what_is_not_ones_own_to_change_is_refused(
    platform: RunningPlatform, admin: Account, body: dict[str, Any], pointer: str
) -> None:
    answer = platform.http.patch("/v1/users/me", headers=admin.headers, json=body)

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_a_new_name_reaches_events_and_search(platform: RunningPlatform, somebody: Account) -> None:
    event = platform.create_event(somebody)
    name = unusual_name()

    answer = platform.http.patch("/v1/users/me", headers=somebody.headers, json={"name": name})
    assert answer.status_code == 200, answer.text

    def found() -> list[str]:
        answer = platform.http.get("/v1/search/events", params={"q": event["title"], "limit": 100})
        return [hit["organizer"]["name"] for hit in answer.json()["items"] if hit["id"] == event["id"]]

    eventually(lambda: found() == [name], within=20, what="the new name in search")
    assert platform.http.get(f"/v1/events/{event['id']}").json()["organizer"]["name"] == name


# Administering accounts -------------------------------------------------------------------------


def test_a_suspension_holds_from_the_next_request_and_tells_only_who_knows_the_password(
    platform: RunningPlatform, admin: Account, somebody: Account
) -> None:
    assert me(platform, somebody).status_code == 200, "the authorizer's answer is kept now"

    suspended = platform.http.patch(
        f"/v1/admin/users/{somebody.id}",
        headers=admin.headers,
        json={"status": "suspended", "reason": "Sold what was not theirs"},
    )

    assert suspended.status_code == 200, suspended.text
    assert me(platform, somebody).status_code == 401
    credentials = {"email": somebody.email, "password": PASSWORD}
    knows = platform.http.post("/v1/auth/login", json=credentials)
    guesses = platform.http.post("/v1/auth/login", json={**credentials, "password": PASSWORD + "!"})
    assert (knows.status_code, guesses.status_code) == (403, 401)
    assert "Sold what was not theirs" in knows.json()["detail"]
    assert "suspended" not in guesses.text
    refreshed = platform.http.post("/v1/auth/refresh", json={"refresh_token": somebody.refresh_token})
    assert refreshed.status_code == 401

    reinstated = platform.http.patch(f"/v1/admin/users/{somebody.id}", headers=admin.headers, json={"status": "active"})

    assert reinstated.status_code == 200
    assert me(platform, somebody).status_code == 401, "what has ended stays ended"
    assert me(platform, platform.sign_in(somebody.email)).status_code == 200


def test_a_role_comes_with_the_next_sign_in_and_goes_at_once(
    platform: RunningPlatform, admin: Account, somebody: Account
) -> None:
    path = f"/v1/admin/users/{somebody.id}"
    assert platform.http.get("/v1/admin/users", headers=somebody.headers).status_code == 403
    platform.http.patch(path, headers=admin.headers, json={"permissions": ["events:read", "users:manage"]})
    second = platform.sign_in(somebody.email)
    assert platform.http.get("/v1/admin/users", headers=second.headers).status_code == 200

    platform.http.patch(path, headers=admin.headers, json={"role": "user", "permissions": ["events:read"]})

    assert platform.http.get("/v1/admin/users", headers=second.headers).status_code == 401
    third = platform.sign_in(somebody.email)
    assert platform.http.get("/v1/admin/users", headers=third.headers).status_code == 403
    records = platform.sql(
        "SELECT actor_id FROM messaging.audit_log WHERE action = 'user.access_changed' AND subject_id = %s",
        [somebody.id],
    )
    assert records == [{"actor_id": admin.id}] * 2


def test_accounts_are_found_page_by_page(platform: RunningPlatform, admin: Account) -> None:
    name = unusual_name()
    ids = [platform.sign_up(name).id for _ in range(3)]

    first = platform.http.get("/v1/admin/users", headers=admin.headers, params={"q": name, "limit": 2}).json()
    second = platform.http.get(
        "/v1/admin/users", headers=admin.headers, params={"q": name, "limit": 2, "cursor": first["next_cursor"]}
    ).json()

    assert [user["id"] for user in first["items"] + second["items"]] == ids
    assert second["next_cursor"] is None


# Taking away and being forgotten ----------------------------------------------------------------


def test_what_is_held_is_handed_over(platform: RunningPlatform, somebody: Account) -> None:
    event = platform.create_event(somebody)
    host = platform.sign_up()
    registration = platform.register(somebody, platform.create_event(host)["id"])

    export = platform.http.get("/v1/users/me/export", headers=somebody.headers)

    assert export.status_code == 200, export.text
    services = export.json()["services"]
    assert set(services) == {"identity", "catalog", "registrations", "messaging"}
    assert services["identity"]["users"][0]["email"] == somebody.email
    assert len(services["identity"]["sessions"]) >= 1
    assert [held["id"] for held in services["catalog"]["events"]] == [event["id"]]
    assert [held["id"] for held in services["registrations"]["event_registrations"]] == [registration["id"]]
    assert {"users.created", "events.published", "registrations.created"} <= {
        change["type"] for change in services["messaging"]["outbox"]
    }
    assert "password_hash" not in export.text
    assert "token_hash" not in export.text
    assert host.email not in export.text


def postgres_text(platform: RunningPlatform) -> Iterator[tuple[str, str]]:
    """Every row of every table."""
    with connect(platform.endpoints["postgres"]) as connection:
        tables = connection.execute(
            """
            SELECT table_schema, table_name FROM information_schema.tables
             WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')
            """
        ).fetchall()
        for schema, table in tables:
            rows = connection.execute(
                sql.SQL("SELECT held::text FROM {} AS held").format(sql.Identifier(schema, table))
            )
            for (text,) in rows:
                yield f"{schema}.{table}", text


def opensearch_text(platform: RunningPlatform) -> Iterator[tuple[str, str]]:
    """Every document of every index, scrolled through."""
    url = platform.endpoints["opensearch"]
    after: list[Any] = []
    while True:
        body = {"size": 500, "sort": [{"id": "asc"}], **({"search_after": after} if after else {})}
        hits = httpx.post(f"{url}/events/_search", json=body, trust_env=False).json()["hits"]["hits"]
        if not hits:
            return
        for hit in hits:
            yield hit["_index"], json.dumps(hit, ensure_ascii=False)
        after = hits[-1]["sort"]


def valkey_text(platform: RunningPlatform) -> Iterator[tuple[str, str]]:
    """Every key and what it holds, of whatever type."""
    client = Redis.from_url(platform.endpoints["redis"], decode_responses=True)
    read: dict[str, Any] = {
        "string": client.get,
        "hash": client.hgetall,
        "set": client.smembers,
        "list": lambda key: client.lrange(key, 0, -1),
        "zset": lambda key: client.zrange(key, 0, -1),
        "stream": client.xrange,
    }
    try:
        for key in client.scan_iter(count=1_000):
            kind = str(client.type(key))
            if kind != "none":  # it has expired meanwhile
                yield key, f"{key} {read[kind](key)!r}"
    finally:
        client.close()


STORES = {"postgres": postgres_text, "opensearch": opensearch_text, "valkey": valkey_text}


def traces(platform: RunningPlatform, *words: str) -> list[tuple[str, str]]:
    """Where any of the words is found, whatever the case: (store, place)."""
    sought = [word.lower() for word in words]
    return [
        (store, place)
        for store, read in STORES.items()
        for place, text in read(platform)
        if any(word in text.lower() for word in sought)
    ]


def test_an_erased_person_is_nowhere_and_who_counted_on_them_knows(platform: RunningPlatform) -> None:
    former, name, plan = unusual_name(), unusual_name(), f"A private plan {time.time_ns()}"
    person, guest, host = platform.sign_up(former), platform.sign_up(), platform.sign_up()
    platform.http.patch(
        "/v1/users/me",
        headers={**person.headers, "Idempotency-Key": f"rename-{time.time_ns()}"},
        json={"name": name, "profile": {"bio": f"I am {name}"}},
    )
    public = platform.create_event(person)
    platform.create_event(person, published=False, title=plan)
    attended = platform.create_event(host, capacity=1)
    platform.register(guest, public["id"])
    platform.register(person, attended["id"])
    platform.register(guest, attended["id"])
    assert platform.http.get(f"/v1/users/{person.id}").json()["name"] == name

    def missing() -> set[str]:
        found = {place for store_and_place in traces(platform, name, person.email) for place in store_and_place}
        return {*STORES, "identity.users", "catalog.users", "messaging.outbox"} - found

    # The control of the search below.
    eventually(lambda: not missing(), within=20, every=0.5, what="traces in every store")

    with platform.socket(guest) as socket:
        assert socket.request("join", room=f"event:{public['id']}")["type"] == "joined"
        refused = platform.http.request(
            "DELETE", "/v1/users/me", headers=person.headers, json={"password": PASSWORD + "!"}
        )
        assert refused.status_code == 422
        erased = platform.http.request("DELETE", "/v1/users/me", headers=person.headers, json={"password": PASSWORD})
        assert erased.status_code == 204, erased.text
        assert me(platform, person).status_code == 401
        assert socket.next_push("events.cancelled")["data"]["status"] == "cancelled"

    eventually(
        lambda: not traces(platform, former, name, person.email, plan),
        within=30,
        every=0.5,
        what="an end of all traces",
    )
    assert platform.http.get(f"/v1/users/{person.id}").status_code == 404
    event = platform.http.get(f"/v1/events/{public['id']}").json()
    assert (event["status"], event["organizer"]) == ("cancelled", {"id": person.id, "name": "Deleted user"})
    told = eventually(
        lambda: platform.sql(
            "SELECT registered, waitlisted FROM catalog.events WHERE id = %s AND waitlisted = 0", [attended["id"]]
        ),
        within=20,
        what="a place that was given back",
    )
    # It is held for who is next in line.
    assert told == [{"registered": 1, "waitlisted": 0}]
    mine = platform.http.get("/v1/users/me/registrations", headers=guest.headers).json()["items"]
    assert {each["event_id"]: each["status"] for each in mine}[attended["id"]] == "offered"
    assert platform.http.post("/v1/auth/login", json={"email": person.email, "password": PASSWORD}).status_code == 401
    refreshed = platform.http.post("/v1/auth/refresh", json={"refresh_token": person.refresh_token})
    assert refreshed.status_code == 401


def test_an_address_is_free_again_after_the_erasure(platform: RunningPlatform) -> None:
    email = new_address()
    platform.ask_for_account(email)
    platform.post("/v1/auth/verify", 200, token=platform.mailed_token(email, "verify"))
    first = platform.sign_in(email)
    used = [platform.mailed_token(email, "verify")]
    erased = platform.http.request("DELETE", "/v1/users/me", headers=first.headers, json={"password": PASSWORD})
    assert erased.status_code == 204, erased.text

    platform.ask_for_account(email)
    platform.post("/v1/auth/verify", 200, token=platform.mailed_token(email, "verify", but=used))

    assert platform.sign_in(email).id != first.id
