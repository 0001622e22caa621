"""Every endpoint and every WebSocket action as every kind of caller, against the table in docs/access.md.

The requests are sound in all but who sends them. Each builder below makes what its request is about anew, so that one
cell of the table does not use up what another one needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.support.application import ROOT, template_application
from tests.support.platform import PASSWORD, Account, RunningPlatform, event_fields, new_address
from tests.support.polling import eventually

TABLE = ROOT / "docs" / "access.md"

EVENT_PERMISSIONS = ["events:read", "events:create", "events:update", "events:delete"]
# In the team of the owner's events.
ROLES = {"manager": "manager", "door staff": "check_in"}
PERMISSIONS = {"moderator": EVENT_PERMISSIONS, "admin": [*EVENT_PERMISSIONS, "users:manage", "admin:access"]}


@cache
def table() -> dict[str, dict[str, str]]:
    """endpoint or action → caller → what it is answered: a status, or `ok` and an error's code over a socket."""
    rows = [line.strip("| ").split("|") for line in TABLE.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row] for row in rows if not row[0].startswith("-")]
    names = cells[0][1:]
    return {row[0]: dict(zip(names, row[1:], strict=True)) for row in cells if row[1:] != names}


@dataclass(frozen=True)
class Request:
    """What goes into an endpoint's path, and what is sent; `headers` in place of the caller's own."""

    path: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, str] | None = None
    body: Any = None
    headers: Mapping[str, str] | None = None


class World:
    """The callers, and what the owner owns."""

    def __init__(self, platform: RunningPlatform) -> None:
        self.platform = platform
        self._accounts: dict[str, Account] = {}
        self._row = ""
        self._caller = ""

    def begin(self, row: str, caller: str) -> None:
        self._row, self._caller = row, caller

    def account(self, caller: str) -> Account | None:
        """None for who is anonymous."""
        if caller == "anonymous":
            return None
        # One owner of everything would write more often than one person may.
        name = f"{caller} {list(table()).index(self._row) // 8}" if caller == "owner" else caller
        if name not in self._accounts:
            self._accounts[name] = self.disposable(caller)
            if caller == "other owner":
                self.event(caller)
        return self._accounts[name]

    def disposable(self, caller: str) -> Account:
        """A new account of this kind, for requests that use up the one they are sent with."""
        if caller == "unverified":
            return self.platform.sign_up_unverified()
        account = self.platform.sign_up(caller.title())
        if caller in PERMISSIONS:
            self._change(account, role=caller, permissions=PERMISSIONS[caller])
            account = self.platform.sign_in(account.email)
        if caller == "suspended":
            self._change(account, status="suspended", reason="Spam")
        return account

    def event(self, owner: str = "owner", *, published: bool = True) -> int:
        account = self.account(owner)
        assert account is not None
        event_id = int(self.platform.create_event(account, published=published)["id"])
        if owner == "owner":
            self.take_into_the_team(event_id, published=published)
        return event_id

    def take_into_the_team(self, event_id: int, *, published: bool) -> None:
        """Whoever is about to call and has a role in it; of what is published registrations has to know as well."""
        owner, helper = self.account("owner"), self.account(self._caller)
        if self._caller not in ROLES or owner is None or helper is None:
            return
        path = f"/v1/events/{event_id}/team/{helper.id}"
        answer = self.platform.http.put(path, headers=owner.headers, json={"role": ROLES[self._caller]})
        assert answer.status_code == 200, answer.text
        door = f"/v1/events/{event_id}/check-ins"
        if published:
            eventually(lambda: self.platform.http.get(door, headers=helper.headers).is_success, what="the role")

    def webhook(self) -> int:
        """One of the owner's: what is asked of it does not use it up, but for deleting it."""
        owner, path = self.account("owner"), "/v1/webhooks"
        assert owner is not None
        for webhook in self.platform.http.get(path, headers=owner.headers).json()["items"]:
            return int(webhook["id"])
        wanted = {"url": "https://hooks.example.org/", "event_types": ["registrations.*"]}
        answer = self.platform.http.post(path, headers=owner.headers, json=wanted)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def attended(self) -> dict[str, Any]:
        """The owner's registration for an event of their own."""
        owner = self.account("owner")
        assert owner is not None
        return self.platform.register(owner, self.event())

    def session_of(self, account: Account) -> str:
        sessions = self.platform.http.get("/v1/auth/sessions", headers=account.headers).json()["items"]
        return str(next(session["id"] for session in sessions if session["current"]))

    @cache  # noqa: B019  there is one world
    def first_admin(self) -> Account:
        account = self.platform.sign_up("First Admin")
        self.platform.sql(
            "UPDATE identity.users SET role = 'admin', permissions = %s WHERE id = %s RETURNING id",
            (PERMISSIONS["admin"], account.id),
        )
        return self.platform.sign_in(account.email)

    @cache  # noqa: B019  there is one world
    def repeated_event(self) -> int:
        """A draft, the first of a series of the owner's."""
        owner = self.account("owner")
        assert owner is not None
        event_id = int(self.platform.create_event(owner, published=False)["id"])
        self.platform.repeat_event(owner, event_id)
        return event_id

    def calendar_token(self) -> str:
        """Of the owner's calendar."""
        owner = self.account("owner")
        assert owner is not None
        return self.platform.calendar_feed(owner)["token"]

    @cache  # noqa: B019  there is one world
    def helper(self) -> Account:
        return self.platform.sign_up("Helga Helper")

    def _change(self, account: Account, **access: Any) -> None:
        path = f"/v1/admin/users/{account.id}"
        answer = self.platform.http.patch(path, headers=self.first_admin().headers, json=access)
        assert answer.status_code == 200, answer.text

    def send(self, endpoint: str, caller: str) -> httpx.Response:
        self.begin(endpoint, caller)
        method, path = endpoint.split()
        account = self.account(caller)
        request = REQUESTS[endpoint](self, caller)
        own = account.headers if account else {}
        headers = own if request.headers is None else request.headers
        return self.platform.http.request(
            method, path.format(**request.path), params=request.query, json=request.body, headers=headers
        )

    def act(self, action: str, caller: str) -> str:
        """`ok`, an error's code, or the status with which the connection was refused."""
        self.begin(action, caller)
        name, _, room = action.removeprefix("WS ").partition(" ")
        frame = {"action": name, **({"room": self._room(room)} if room else {}), **FRAMES.get(name, {})}
        account = self.account(caller)
        try:
            with connect(
                self.platform.endpoints["websocket"],
                additional_headers=account.headers if account else {},
                open_timeout=20,
            ) as socket:
                socket.send(json.dumps(frame))
                while (reply := json.loads(socket.recv(timeout=20)))["type"] == "message":
                    pass
        except InvalidStatus as refused:
            return str(refused.response.status_code)
        return str(reply["code"]) if reply["type"] == "error" else "ok"

    def _room(self, pattern: str) -> str:
        kind, _, of_whom = pattern.partition(":")
        owner = self.account("owner")
        assert owner is not None
        if not of_whom:
            return kind
        if kind == "user":
            return f"user:{owner.id}"
        event_id = self._rooms_event(owner.id)
        self.take_into_the_team(event_id, published=False)
        return f"{kind}:{event_id}"

    @cache  # noqa: B019  there is one world
    def _rooms_event(self, _owner_id: int) -> int:
        return self.event()


@pytest.fixture(scope="module")
def world(platform: RunningPlatform) -> World:
    return World(platform)


Builder = Callable[[World, str], Request]
REQUESTS: dict[str, Builder] = {}
FRAMES: dict[str, dict[str, Any]] = {"publish": {"data": {"text": "Doors open"}}, "history": {"limit": 1}}


def request_for(endpoint: str) -> Callable[[Builder], Builder]:
    def keep(build: Builder) -> Builder:
        REQUESTS[endpoint] = build
        return build

    return keep


# What is the same for everyone.
for endpoint in (
    "GET /health",
    "GET /v1/categories",
    "GET /v1/events",
    "GET /v1/search/events",
    "GET /v1/auth/sessions",
    "GET /v1/users/me",
    "GET /v1/users/me/export",
    "GET /v1/admin/users",
    "GET /v1/webhooks",
    "POST /v1/realtime/tickets",
):
    REQUESTS[endpoint] = lambda _world, _caller: Request()


@request_for("POST /v1/auth/register")
def _(_world: World, _caller: str) -> Request:
    return Request(body={"email": new_address(), "password": PASSWORD, "name": "Ada"})


@request_for("POST /v1/auth/verify")
def _(world: World, _caller: str) -> Request:
    email = new_address()
    world.platform.ask_for_account(email)
    return Request(body={"token": world.platform.mailed_token(email, "verify")})


@request_for("POST /v1/auth/verify/resend")
@request_for("POST /v1/auth/password/forgot")
def _(_world: World, _caller: str) -> Request:
    return Request(body={"email": new_address()})


@request_for("POST /v1/auth/password/reset")
def _(world: World, _caller: str) -> Request:
    account = world.platform.sign_up()
    world.platform.post("/v1/auth/password/forgot", 202, email=account.email)
    token = world.platform.mailed_token(account.email, "reset-password")
    return Request(body={"token": token, "password": "another correct horse"})


@request_for("POST /v1/auth/login")
def _(world: World, _caller: str) -> Request:
    user = world.account("user")
    assert user is not None
    return Request(body={"email": user.email, "password": PASSWORD})


@request_for("POST /v1/auth/refresh")
def _(world: World, _caller: str) -> Request:
    user = world.account("user")
    assert user is not None
    return Request(body={"refresh_token": world.platform.sign_in(user.email).refresh_token})


@request_for("POST /v1/auth/logout")
def _(world: World, caller: str) -> Request:
    return Request(headers=_used_up(world, caller))


@request_for("POST /v1/auth/password/change")
def _(world: World, caller: str) -> Request:
    body = {"current_password": PASSWORD, "new_password": "another correct horse"}
    return Request(body=body, headers=_used_up(world, caller))


@request_for("DELETE /v1/users/me")
def _(world: World, caller: str) -> Request:
    return Request(body={"password": PASSWORD}, headers=_used_up(world, caller))


@request_for("DELETE /v1/auth/sessions/{session_id}")
def _(world: World, _caller: str) -> Request:
    owner = world.account("owner")
    assert owner is not None
    return Request(path={"session_id": world.session_of(world.platform.sign_in(owner.email))})


@request_for("PATCH /v1/users/me")
def _(_world: World, _caller: str) -> Request:
    return Request(body={"name": "Ada King"})


@request_for("GET /v1/users/{user_id}")
def _(world: World, _caller: str) -> Request:
    owner = world.account("owner")
    assert owner is not None
    return Request(path={"user_id": owner.id})


@request_for("PATCH /v1/admin/users/{user_id}")
def _(world: World, _caller: str) -> Request:
    return Request(path={"user_id": world.disposable("user").id}, body={"role": "moderator"})


@request_for("POST /v1/events")
def _(_world: World, _caller: str) -> Request:
    return Request(body=event_fields())


@request_for("GET /v1/events/{event_id}")
@request_for("GET /v1/events/{event_id}/calendar.ics")
@request_for("DELETE /v1/events/{event_id}")
@request_for("POST /v1/events/{event_id}/publish")
@request_for("POST /v1/events/{event_id}/cancel")
@request_for("GET /v1/events/{event_id}/team")
@request_for("GET /v1/events/{event_id}/history")
def _(world: World, _caller: str) -> Request:
    return Request(path={"event_id": world.event(published=False)})


@request_for("POST /v1/events/{event_id}/series")
def _(world: World, _caller: str) -> Request:
    return Request(path={"event_id": world.event(published=False)}, body={"rule": "FREQ=WEEKLY;COUNT=2"})


@request_for("GET /v1/events/{event_id}/series")
def _(world: World, _caller: str) -> Request:
    world.take_into_the_team(world.repeated_event(), published=False)
    return Request(path={"event_id": world.repeated_event()})


@request_for("PATCH /v1/events/{event_id}")
def _(world: World, _caller: str) -> Request:
    return Request(path={"event_id": world.event(published=False)}, body={"title": "A quieter evening"})


@request_for("PUT /v1/events/{event_id}/team/{user_id}")
def _(world: World, _caller: str) -> Request:
    path = {"event_id": world.event(published=False), "user_id": world.helper().id}
    return Request(path=path, body={"role": "manager"})


@request_for("DELETE /v1/events/{event_id}/team/{user_id}")
def _(world: World, _caller: str) -> Request:
    owner, path = world.account("owner"), {"event_id": world.event(published=False), "user_id": world.helper().id}
    assert owner is not None
    member = f"/v1/events/{path['event_id']}/team/{path['user_id']}"
    answer = world.platform.http.put(member, headers=owner.headers, json={"role": "check_in"})
    assert answer.status_code == 200, answer.text
    return Request(path=path)


@request_for("POST /v1/events/{event_id}/registrations")
def _(world: World, _caller: str) -> Request:
    return Request(path={"event_id": world.event()})


@request_for("GET /v1/events/{event_id}/registrations")
def _(world: World, _caller: str) -> Request:
    return Request(path={"event_id": world.event()})


@request_for("DELETE /v1/events/{event_id}/registrations/me")
def _(world: World, _caller: str) -> Request:
    """Of an event that its owner attends."""
    event_id, owner = world.event(), world.account("owner")
    assert owner is not None
    world.platform.register(owner, event_id)
    return Request(path={"event_id": event_id})


@request_for("POST /v1/events/{event_id}/registrations/me/accept")
def _(world: World, _caller: str) -> Request:
    """Of an event whose only place has been freed and is offered to its owner."""
    owner = world.account("owner")
    assert owner is not None
    event_id = world.platform.create_event(owner, capacity=1)["id"]
    for account in (world.helper(), owner):
        world.platform.register(account, event_id)
    path = f"/v1/events/{event_id}/registrations/me"
    assert world.platform.http.delete(path, headers=world.helper().headers).status_code == 204
    return Request(path={"event_id": event_id})


@request_for("POST /v1/webhooks")
def _(_world: World, _caller: str) -> Request:
    return Request(body={"url": "https://hooks.example.org/", "event_types": ["registrations.*"]})


@request_for("GET /v1/webhooks/{webhook_id}")
@request_for("DELETE /v1/webhooks/{webhook_id}")
@request_for("POST /v1/webhooks/{webhook_id}/secret")
@request_for("GET /v1/webhooks/{webhook_id}/deliveries")
def _(world: World, _caller: str) -> Request:
    return Request(path={"webhook_id": world.webhook()})


@request_for("PATCH /v1/webhooks/{webhook_id}")
def _(world: World, _caller: str) -> Request:
    return Request(path={"webhook_id": world.webhook()}, body={"description": "The box office"})


@request_for("POST /v1/webhooks/{webhook_id}/deliveries")
def _(world: World, _caller: str) -> Request:
    return Request(path={"webhook_id": world.webhook()}, body={"kind": "test"})


@request_for("GET /v1/users/me/registrations")
def _(_world: World, _caller: str) -> Request:
    return Request()


@request_for("GET /v1/registrations/{registration_id}/ticket")
@request_for("POST /v1/registrations/{registration_id}/ticket")
def _(world: World, _caller: str) -> Request:
    return Request(path={"registration_id": world.attended()["id"]})


@request_for("GET /v1/events/{event_id}/check-ins")
@request_for("GET /v1/events/{event_id}/check-ins/bundle")
def _(world: World, _caller: str) -> Request:
    return Request(path={"event_id": world.event()})


@request_for("POST /v1/events/{event_id}/check-ins")
def _(world: World, _caller: str) -> Request:
    """With a ticket that is good."""
    owner, registration = world.account("owner"), world.attended()
    assert owner is not None
    ticket = world.platform.http.get(f"/v1/registrations/{registration['id']}/ticket", headers=owner.headers).json()
    return Request(path={"event_id": registration["event_id"]}, body={"token": ticket["token"]})


@request_for("DELETE /v1/events/{event_id}/check-ins/{registration_id}")
def _(world: World, _caller: str) -> Request:
    owner, registration = world.account("owner"), world.attended()
    path = {"event_id": registration["event_id"], "registration_id": registration["id"]}
    check_ins = f"/v1/events/{path['event_id']}/check-ins"
    world.platform.post(check_ins, 200, account=owner, registration_id=path["registration_id"])
    return Request(path=path)


@request_for("POST /v1/users/me/calendar")
def _(world: World, caller: str) -> Request:
    return Request(headers=_used_up(world, caller))


@request_for("GET /v1/users/me/calendar")
@request_for("DELETE /v1/users/me/calendar")
def _(world: World, _caller: str) -> Request:
    world.calendar_token()
    return Request()


@request_for("GET /v1/users/me/calendar.ics")
def _(world: World, _caller: str) -> Request:
    return Request(query={"token": world.calendar_token()})


def _used_up(world: World, caller: str) -> Mapping[str, str]:
    return {} if caller == "anonymous" else world.disposable(caller).headers


# -------------------------------------------------------------------------------------------------


def endpoints() -> set[str]:
    api = template_application().rest_api
    assert api is not None
    return {f"{route.method} {route.path}" for route in api.routes}


def actions() -> set[str]:
    api = template_application().websocket_api
    assert api is not None
    return {f"WS {route}" for route in api.routes if not route.startswith("$")}


def test_every_endpoint_and_every_action_has_its_row_and_no_other_thing_has() -> None:
    rows = set(table())

    assert {row for row in rows if not row.startswith("WS ")} == endpoints()
    assert {" ".join(row.split()[:2]) for row in rows if row.startswith("WS ")} == actions()
    assert set(REQUESTS) == endpoints()


CELLS = [(name, caller, answer) for name, row in table().items() for caller, answer in row.items()]


@pytest.mark.parametrize(("name", "caller", "answer"), CELLS, ids=[f"{name} as {caller}" for name, caller, _ in CELLS])
def test_a_caller_is_answered_what_the_table_says(world: World, name: str, caller: str, answer: str) -> None:
    if name.startswith("WS "):
        assert world.act(name, caller) == answer
    else:
        response = world.send(name, caller)
        assert str(response.status_code) == answer, response.text


def test_a_guard_that_is_missing_is_noticed(world: World) -> None:
    """The control: a draft once published is everyone's, and the table says that it is not."""
    row = "GET /v1/events/{event_id}"
    world.begin(row, "user")
    published, user = world.event(), world.account("user")
    assert user is not None

    answer = world.platform.http.get(f"/v1/events/{published}", headers=user.headers)

    assert str(answer.status_code) != table()[row]["user"]
