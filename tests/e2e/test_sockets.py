"""Who may hold a WebSocket, for how long, and what they may say: on the whole platform, as clients see it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import jwt
import pytest
from redis import Redis
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from eventsplatform.clock import utc_now
from local.triggers.aws import aws_client
from tests.support.platform import PASSWORD, Account, LiveSocket, RunningPlatform
from tests.support.polling import eventually
from tests.support.rotation import current_keys

# Far less than a minute: only what is told at once is that fast.
AT_ONCE_SECONDS = 15


@contextmanager
def opened(platform: RunningPlatform, query: str = "", **headers: str) -> Iterator[LiveSocket]:
    url = platform.endpoints["websocket"] + query
    with connect(url, additional_headers=headers, open_timeout=20, close_timeout=5) as connection:
        yield LiveSocket(connection)


def refusal(platform: RunningPlatform, query: str = "", **headers: str) -> int:
    """The status that a handshake is refused with; 101 if it is not."""
    try:
        with opened(platform, query, **headers):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


def ticket(platform: RunningPlatform, account: Account, **headers: str) -> str:
    answer = platform.http.post("/v1/realtime/tickets", headers={**account.headers, **headers})
    assert answer.status_code == 201, answer.text
    assert answer.json().keys() == {"ticket", "expires_in"}
    assert answer.json()["expires_in"] == 30
    return str(answer.json()["ticket"])


def last_words(socket: LiveSocket, within: float = AT_ONCE_SECONDS) -> dict[str, Any]:
    """The frame after which the server closed the connection. Raises TimeoutError while it stays open."""
    frame: dict[str, Any] = {}
    ends = time.monotonic() + within
    try:
        while True:
            frame = socket.receive(max(ends - time.monotonic(), 0.01))
    except ConnectionClosed:
        return frame


def is_open(socket: LiveSocket) -> bool:
    return bool(socket.request("ping")["type"] == "pong")


@pytest.fixture(scope="module")
def ada(platform: RunningPlatform) -> Account:
    return platform.sign_up()


@pytest.fixture(scope="module")
def event_id(platform: RunningPlatform, ada: Account) -> int:
    return int(platform.create_event(ada)["id"])


# Coming in --------------------------------------------------------------------------------------


def test_a_ticket_opens_one_connection(platform: RunningPlatform, ada: Account) -> None:
    query = f"?ticket={ticket(platform, ada)}"

    with opened(platform, query, Origin=platform.web_origin) as socket:
        assert is_open(socket)
        assert socket.request("join", room=f"user:{ada.id}")["type"] == "joined"
    assert refusal(platform, query, Origin=platform.web_origin) == 401


def test_a_ticket_asked_for_again_with_the_same_key_is_the_same(platform: RunningPlatform, ada: Account) -> None:
    key = {"Idempotency-Key": f"tickets-{time.time_ns()}"}

    first = ticket(platform, ada, **key)
    again = platform.http.post("/v1/realtime/tickets", headers={**ada.headers, **key})

    assert (again.json()["ticket"], again.headers["idempotency-replayed"]) == (first, "true")
    assert ticket(platform, ada) != first


def test_a_ticket_needs_a_caller(platform: RunningPlatform) -> None:
    assert platform.http.post("/v1/realtime/tickets").status_code == 401


def test_an_access_token_opens_a_connection_as_a_header_and_not_in_the_url(
    platform: RunningPlatform, ada: Account
) -> None:
    assert refusal(platform, **ada.headers) == 101
    for parameter in ("token", "access_token", "ticket", "t"):
        assert refusal(platform, f"?{parameter}={ada.access_token}") == 401
        assert refusal(platform, f"?{parameter}={ada.access_token}", **ada.headers) == 401


def test_whoever_brings_nothing_or_rubbish_is_turned_away(platform: RunningPlatform) -> None:
    assert refusal(platform) == 401
    assert refusal(platform, "?ticket=") == 401
    assert refusal(platform, "?ticket=3vY8m1iK0Zb7dN4sQ2tWxE6uRpLhJcFgAoVyTn5Ckzg") == 401
    assert refusal(platform, Authorization="Bearer nonsense") == 401


def test_pages_of_other_origins_may_not_connect(platform: RunningPlatform, ada: Account) -> None:
    evil = {"Origin": "https://evil.example.org"}
    own = {"Origin": platform.endpoints["gateway"]}

    assert refusal(platform, f"?ticket={ticket(platform, ada)}", **evil) == 403
    assert refusal(platform, **ada.headers, **evil) == 403
    assert refusal(platform, f"?ticket={ticket(platform, ada)}", **own) == 101
    assert refusal(platform, f"?ticket={ticket(platform, ada)}", Origin=platform.web_origin) == 101


def test_a_ticket_of_a_session_that_has_ended_opens_nothing(platform: RunningPlatform) -> None:
    account = platform.sign_up()
    query = f"?ticket={ticket(platform, account)}"

    platform.post("/v1/auth/logout", 204, account=account)

    assert refusal(platform, query) == 401


# Going out --------------------------------------------------------------------------------------


def log_out(platform: RunningPlatform, account: Account) -> None:
    platform.post("/v1/auth/logout", 204, account=account)


def end_it_from_another_session(platform: RunningPlatform, account: Account) -> None:
    other = platform.sign_in(account.email)
    session_id = account.claims["sid"]
    assert platform.http.delete(f"/v1/auth/sessions/{session_id}", headers=other.headers).status_code == 204


def change_the_password(platform: RunningPlatform, account: Account) -> None:
    other = platform.sign_in(account.email)
    answer = platform.http.post(
        "/v1/auth/password/change",
        headers=other.headers,
        json={"current_password": PASSWORD, "new_password": "another horse, another battery"},
    )
    assert answer.status_code == 200, answer.text


def use_a_spent_refresh_token(platform: RunningPlatform, account: Account) -> None:
    platform.post("/v1/auth/refresh", 200, refresh_token=account.refresh_token)
    platform.post("/v1/auth/refresh", 401, refresh_token=account.refresh_token)


def be_suspended(platform: RunningPlatform, account: Account) -> None:
    change_access(platform, account, status="suspended", reason="Spam.")


def get_another_role(platform: RunningPlatform, account: Account) -> None:
    change_access(platform, account, role="moderator")


def change_access(platform: RunningPlatform, account: Account, **change: str) -> None:
    """By an administrator."""
    email = platform.sign_up().email
    appointed = aws_client("lambda", platform.endpoints["aws"]).invoke(
        FunctionName="AppointAdministratorFunction", Payload=json.dumps({"email": email}).encode()
    )
    assert "FunctionError" not in appointed, appointed["Payload"].read()
    headers = platform.sign_in(email).headers
    answer = platform.http.patch(f"/v1/admin/users/{account.id}", headers=headers, json=change)
    assert answer.status_code == 200, answer.text


def be_erased(platform: RunningPlatform, account: Account) -> None:
    answer = platform.http.request("DELETE", "/v1/users/me", headers=account.headers, json={"password": PASSWORD})
    assert answer.status_code == 204, answer.text


@pytest.mark.parametrize(
    "end",
    [
        log_out,
        end_it_from_another_session,
        change_the_password,
        use_a_spent_refresh_token,
        be_suspended,
        get_another_role,
        be_erased,
    ],
)
def test_a_session_that_ends_takes_its_sockets_with_it_at_once(
    platform: RunningPlatform, end: Callable[[RunningPlatform, Account], None]
) -> None:
    """Also those that only listen. Another person's stays open: the control."""
    account, bystander = platform.sign_up(), platform.sign_up()
    with platform.socket(account) as socket, platform.socket(bystander) as other:
        assert is_open(socket)

        end(platform, account)

        words = last_words(socket)
        assert (words["type"], words["code"]) == ("error", "unauthenticated")
        assert is_open(other)


def test_what_was_not_told_is_closed_by_the_next_sweep(platform: RunningPlatform) -> None:
    """A session that Postgres alone knows to have ended, and a Redis that lost its copy of it."""
    account = platform.sign_up()
    with platform.socket(account) as socket:
        assert is_open(socket)
        platform.sql(
            "UPDATE identity.sessions SET ended_at = now(), end_reason = 'logout' WHERE id = %s RETURNING id",
            (account.claims["sid"],),
        )
        with Redis.from_url(platform.endpoints["redis"]) as redis:
            redis.delete("session:complete")

        sweep(platform)

        assert last_words(socket)["code"] == "unauthenticated"


def sweep(platform: RunningPlatform) -> None:
    """As the schedule has it each minute, which may come in between."""
    answer = aws_client("lambda", platform.endpoints["aws"]).invoke(
        FunctionName="CloseConnectionsFunction", Payload=b"{}"
    )
    assert "FunctionError" not in answer, answer["Payload"].read()


def passed(moment: float) -> Callable[[], bool]:
    return lambda: time.time() > moment


def expiring(platform: RunningPlatform, account: Account, seconds: float) -> dict[str, str]:
    """The account's access token, signed anew to end so soon."""
    keys = current_keys(platform.endpoints["aws"], "JwtKeys")
    claims = account.claims | {"exp": int((utc_now() + timedelta(seconds=seconds)).timestamp())}
    kid = keys["active"]
    return {"Authorization": "Bearer " + jwt.encode(claims, keys[kid], "HS256", headers={"kid": kid})}


def test_a_token_that_expires_takes_its_socket_with_it(platform: RunningPlatform, ada: Account) -> None:
    with opened(platform, **expiring(platform, ada, 2)) as ends, platform.socket(ada) as stays:
        assert is_open(ends)
        eventually(passed(time.time() + 3), what="the token's end")

        sweep(platform)

        words = last_words(ends)
        assert (words["code"], words["detail"]) == (
            "unauthenticated",
            "The access token has expired; connect again with a new one.",
        )
        assert is_open(stays), "the control"


def test_the_platform_sweeps_by_itself_within_a_minute(platform: RunningPlatform, ada: Account) -> None:
    with opened(platform, **expiring(platform, ada, 1)) as socket:
        connected = time.monotonic()

        assert last_words(socket, within=75)["code"] == "unauthenticated"

        assert time.monotonic() - connected < 1 + 60 + 10


def test_a_message_on_a_token_beyond_its_leeway_closes_the_socket(platform: RunningPlatform, ada: Account) -> None:
    """Without a sweep: this one has no connection to find."""
    with opened(platform, **expiring(platform, ada, -27)) as socket:
        with Redis.from_url(platform.endpoints["redis"]) as redis:
            redis.delete("ws:connections")
        eventually(passed(time.time() + 4), what="the end of its leeway")
        socket.connection.send('{"action":"ping","id":9}')

        words = last_words(socket)

        assert (words["code"], words["id"]) == ("unauthenticated", 9)


def test_whoever_comes_back_with_a_new_token_misses_nothing(
    platform: RunningPlatform, ada: Account, event_id: int
) -> None:
    room = f"event:{event_id}"
    guest = platform.sign_up()
    with platform.socket(guest) as socket:
        here = socket.request("join", room=room)
        platform.post("/v1/auth/logout", 204, account=guest)
        last_words(socket)
    with platform.socket(ada) as organiser:
        assert organiser.request("publish", room=room, data={"text": "Doors open."})["type"] == "published"

    with platform.socket(platform.sign_in(guest.email)) as socket:
        back = socket.request("join", room=room, since={"epoch": here["epoch"], "offset": here["offset"]})

    assert back["recovered"]
    assert [message["data"] for message in back["messages"] if message["event"] == "rooms.published"] == [
        {"text": "Doors open."}
    ]


def test_a_connection_that_leaves_is_forgotten(platform: RunningPlatform) -> None:
    account = platform.sign_up()

    def known() -> int:
        with Redis.from_url(platform.endpoints["redis"]) as redis:
            return int(redis.scard(f"ws:connections:user:{account.id}"))

    with platform.socket(account):
        assert known() == 1
    eventually(lambda: known() == 0, what="the end of the connection in the register")


# Talking ----------------------------------------------------------------------------------------


def test_the_organiser_speaks_to_everyone_in_the_room_and_nobody_else_does(
    platform: RunningPlatform, ada: Account, event_id: int
) -> None:
    room, guest = f"event:{event_id}", platform.sign_up()
    with platform.socket(ada) as organiser, platform.socket(guest) as listener:
        listener.request("join", room=room)

        said = organiser.request("publish", room=room, data={"text": "Welcome."})
        refused = listener.request("publish", room=room, data={"text": "It is cancelled!"})

        push = listener.next_push("rooms.published")
        assert (push["data"], push["from"], push["offset"]) == ({"text": "Welcome."}, ada.id, said["offset"])
        assert (refused["type"], refused["code"]) == ("error", "forbidden")
        history = listener.request("history", room=room, limit=5)
        assert history["messages"][-1]["data"] == {"text": "Welcome."}
        assert organiser.request("presence", room=room)["presence"] >= 1
        assert listener.request("leave", room=room) | {"id": ""} == {"type": "left", "room": room, "id": ""}


@pytest.mark.parametrize("action", ["join", "presence", "history", "publish"])
def test_rooms_of_others_are_closed_to_every_action(
    platform: RunningPlatform, ada: Account, event_id: int, action: str
) -> None:
    data = {"data": {"text": "?"}} if action == "publish" else {}
    stranger = platform.sign_up()
    with platform.socket(stranger) as socket:
        for room in (f"user:{ada.id}", f"organizer:{event_id}", "admin"):
            answer = socket.request(action, room=room, **data)
            assert (answer["type"], answer["code"]) == ("error", "forbidden"), room
        own = socket.request(action, room=f"user:{stranger.id}", **data)
        assert own["type"] != "error", "the control"


def test_whoever_has_not_confirmed_an_address_listens_and_does_not_speak(platform: RunningPlatform) -> None:
    account = platform.sign_up_unverified()
    with platform.socket(account) as socket:
        room = f"user:{account.id}"
        assert socket.request("join", room=room)["type"] == "joined"
        assert socket.request("publish", room=room, data={})["code"] == "forbidden"


def test_what_is_too_long_or_too_deep_is_refused(platform: RunningPlatform, ada: Account) -> None:
    room = f"user:{ada.id}"
    with platform.socket(ada) as socket:
        assert socket.request("publish", room=room, data={"text": "x" * 9_000})["code"] == "invalid_input"
        deep: Any = {}
        for _ in range(30):
            deep = {"a": deep}
        socket.connection.send(json.dumps({"action": "publish", "room": room, "data": deep}))
        assert socket.receive()["code"] == "malformed_request"
        assert is_open(socket)
        socket.connection.send("x" * (32 * 1024 + 1))
        with pytest.raises(ConnectionClosed) as closed:
            socket.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
