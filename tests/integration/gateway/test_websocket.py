"""WebSocket: handshakes and frames become events, and functions reach clients through `@connections`."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.integration.gateway.conftest import Served
from tests.support.polling import eventually

FRAME_BYTES = 32 * 1024

HANDSHAKE_CONTEXT_KEYS = {
    "routeKey",
    "eventType",
    "extendedRequestId",
    "requestTime",
    "messageDirection",
    "stage",
    "connectedAt",
    "requestTimeEpoch",
    "identity",
    "requestId",
    "domainName",
    "connectionId",
    "apiId",
}


def ask(client: ClientConnection, message: str | bytes) -> dict[str, Any]:
    client.send(message)
    return json.loads(client.recv(timeout=10))


def in_frames(message: str) -> list[str]:
    """A message as several frames, none longer than API Gateway takes."""
    return [message[start : start + FRAME_BYTES] for start in range(0, len(message), FRAME_BYTES)]


def closed_by(client: ClientConnection, message: str | list[str]) -> int:
    """The code that the connection is closed with for this message."""
    with suppress(ConnectionClosed):  # before all of it is sent
        client.send(message)
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=10)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def connection_id(client: ClientConnection) -> str:
    return ask(client, "who am I")["requestContext"]["connectionId"]


def recorded(records: Path, event_type: str, connection: str) -> dict[str, Any] | None:
    """The event of this type that SocketsFunction was called with for a connection."""
    path = records / f"{event_type}.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return next((event for event in events if event["requestContext"]["connectionId"] == connection), None)


def refused(url: str) -> tuple[int, bytes]:
    with pytest.raises(InvalidStatus) as refusal, connect(url):
        pass
    response = refusal.value.response
    return response.status_code, bytes(response.body or b"")


class TestConnect:
    def test_the_connect_event_is_api_gateways(self, plain: Served) -> None:
        with connect(f"{plain.websocket_url}&a=1&a=2", additional_headers={"X-Colour": "red"}) as client:
            event = recorded(plain.records, "CONNECT", connection_id(client))

        assert event is not None
        context = event["requestContext"]
        assert set(context) == HANDSHAKE_CONTEXT_KEYS | {"authorizer"}
        assert (context["routeKey"], context["eventType"], context["messageDirection"]) == ("$connect", "CONNECT", "IN")
        assert (context["stage"], context["apiId"]) == ("test", "websocketapi")
        assert context["connectedAt"] <= context["requestTimeEpoch"]
        assert context["domainName"] == f"127.0.0.1:{plain.port}"
        assert context["authorizer"]["principalId"] == "ada"
        assert event["queryStringParameters"] == {"ticket": "ada", "a": "2"}
        assert event["multiValueQueryStringParameters"]["a"] == ["1", "2"]
        assert event["headers"]["X-Colour"] == "red"
        assert event["isBase64Encoded"] is False
        assert "body" not in event

    def test_the_authorizer_gets_a_request_event_for_connect(self, plain: Served) -> None:
        with connect(plain.websocket_url) as client:
            asked = json.loads(ask(client, "hello")["requestContext"]["authorizer"]["event"])

        assert asked["type"] == "REQUEST"
        assert asked["methodArn"] == "arn:aws:execute-api:us-east-1:000000000000:websocketapi/test/$connect"
        assert set(asked["requestContext"]) == HANDSHAKE_CONTEXT_KEYS

    @pytest.mark.parametrize(
        ("query", "status", "message"),
        [
            ("", 401, b"Unauthorized"),
            ("?ticket=unauthorized", 401, b"Unauthorized"),
            ("?ticket=deny", 403, b"explicit deny"),
            ("?ticket=nonsense", 500, b"null"),
            ("?ticket=ada&connect=raise", 502, b"Internal server error"),
            ("?ticket=ada&connect=refuse", 418, b""),
        ],
    )
    def test_a_handshake_is_refused_with_the_status(
        self, plain: Served, query: str, status: int, message: bytes
    ) -> None:
        refusal = refused(f"ws://127.0.0.1:{plain.port}/ws{query}")

        assert refusal[0] == status
        assert message in refusal[1]

    def test_an_authorizer_without_identity_sources_is_asked_each_time(self, no_sources: Served) -> None:
        def call(url: str) -> str:
            with connect(url) as client:
                return str(ask(client, "hello")["requestContext"]["authorizer"]["call"])

        assert refused(f"ws://127.0.0.1:{no_sources.port}/ws?ticket=unauthorized")[0] == 401
        assert call(f"ws://127.0.0.1:{no_sources.port}/ws") != call(f"ws://127.0.0.1:{no_sources.port}/ws")

    def test_another_path_is_refused(self, plain: Served) -> None:
        assert refused(f"ws://127.0.0.1:{plain.port}/elsewhere")[0] == 403

    def test_plain_http_is_told_to_upgrade(self, plain: Served) -> None:
        assert plain.http.get("/ws").status_code == 426

    def test_connect_chooses_the_subprotocol(self, plain: Served) -> None:
        with connect(f"{plain.websocket_url}&protocol=v2", subprotocols=["v1", "v2"]) as client:  # type: ignore[list-item]
            assert client.subprotocol == "v2"


class TestMessages:
    def test_a_message_event_is_api_gateways(self, plain: Served) -> None:
        with connect(plain.websocket_url) as client:
            event = ask(client, '{"action": "unknown"}')

        context = event["requestContext"]
        assert set(context) == HANDSHAKE_CONTEXT_KEYS | {"authorizer", "messageId"}
        assert (context["routeKey"], context["eventType"]) == ("$default", "MESSAGE")
        assert set(event) == {"requestContext", "body", "isBase64Encoded"}
        assert (event["body"], event["isBase64Encoded"]) == ('{"action": "unknown"}', False)

    @pytest.mark.parametrize("message", ["no JSON", "[]", '{"action": {}}', '{"action": "$connect"}', "{}", "null"])
    def test_what_selects_no_route_goes_to_default(self, plain: Served, message: str) -> None:
        with connect(plain.websocket_url) as client:
            assert ask(client, message)["requestContext"]["routeKey"] == "$default"

    def test_a_binary_message_goes_to_default_as_base64(self, plain: Served) -> None:
        with connect(plain.websocket_url) as client:
            event = ask(client, b"\x00\xff")

        assert (event["body"], event["isBase64Encoded"]) == ("AP8=", True)

    def test_a_two_way_route_answers_with_the_functions_body(self, plain: Served) -> None:
        with connect(plain.websocket_url) as client:
            answer = ask(client, '{"action": "join", "room": "event:1"}')

        assert (answer["type"], answer["room"]) == ("joined", "event:1")

    def test_a_one_way_route_answers_nothing_of_its_own(self, plain: Served) -> None:
        with connect(plain.websocket_url) as client:
            pushed = ask(client, "hello")
            answer = ask(client, '{"action": "join", "room": "after"}')

        assert pushed["body"] == "hello"
        assert answer["room"] == "after"

    def test_a_failing_function_gives_an_error_frame_and_keeps_the_connection(self, plain: Served) -> None:
        with connect(plain.websocket_url) as client:
            error = ask(client, "raise")
            again = ask(client, '{"action": "join", "room": "still here"}')

        assert error["message"] == "Internal server error"
        assert set(error) == {"message", "connectionId", "requestId"}
        assert again["room"] == "still here"

    def test_a_message_without_any_route_is_forbidden(self, one_route: Served) -> None:
        with connect(one_route.websocket_url) as client:
            answer = ask(client, "hello")

        assert answer["message"] == "Forbidden"
        assert set(answer) == {"message", "connectionId", "requestId"}

    def test_messages_of_one_connection_run_at_the_same_time(self, plain: Served) -> None:
        def join_two(client: ClientConnection) -> list[str]:
            client.send('{"action": "join", "room": "slow", "seconds": 1}')
            client.send('{"action": "join", "room": "quick"}')
            return [json.loads(client.recv(timeout=10))["room"] for _ in range(2)]

        with connect(plain.websocket_url) as client:
            join_two(client)  # a second execution environment may have to start first
            assert join_two(client) == ["quick", "slow"]

    def test_a_message_over_128_kb_closes_with_1009(self, plain: Served) -> None:
        with connect(plain.websocket_url) as client:
            assert closed_by(client, in_frames("x" * (128 * 1024 + 1))) == 1009

    def test_a_message_of_exactly_128_kb_is_taken(self, plain: Served) -> None:
        with connect(plain.websocket_url) as client:
            padding = "x" * (128 * 1024 - len('{"action":"join","room":""}'))
            client.send(in_frames(f'{{"action":"join","room":"{padding}"}}'))
            assert json.loads(client.recv(timeout=10))["room"] == padding

    def test_a_frame_over_32_kb_closes_with_1009(self, plain: Served) -> None:
        with connect(plain.websocket_url) as client:
            assert closed_by(client, "x" * (FRAME_BYTES + 1)) == 1009

    def test_a_frame_of_exactly_32_kb_is_taken(self, plain: Served) -> None:
        with connect(plain.websocket_url) as client:
            padding = "x" * (FRAME_BYTES - len('{"action":"join","room":""}'))
            assert ask(client, f'{{"action":"join","room":"{padding}"}}')["room"] == padding

    def test_a_frame_that_breaks_the_protocol_closes_that_connection_alone(self, plain: Served) -> None:
        with connect(plain.websocket_url) as broken, connect(plain.websocket_url) as sound:
            broken.socket.sendall(b"\xff\xff\xff\xff")
            with pytest.raises(ConnectionClosed) as closed:
                broken.recv(timeout=10)

            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1002
            assert ask(sound, '{"action": "join", "room": "1"}')["room"] == "1"


class TestDisconnect:
    @pytest.mark.parametrize(
        ("close", "code", "reason"),
        [
            (lambda client: client.close(1000, "bye"), 1000, "bye"),
            (lambda client: client.close(4001, ""), 4001, ""),
            (lambda client: client.socket.shutdown(socket.SHUT_RDWR), 1006, "Connection Closed Abnormally"),
        ],
        ids=["with a reason", "with an own code", "broken"],
    )
    def test_disconnect_says_how_the_connection_ended(self, plain: Served, close: Any, code: int, reason: str) -> None:
        with connect(plain.websocket_url) as client:
            id_ = connection_id(client)
            close(client)

        event = eventually(lambda: recorded(plain.records, "DISCONNECT", id_))
        assert event is not None
        context = event["requestContext"]
        assert (context["disconnectStatusCode"], context["disconnectReason"]) == (code, reason)
        assert (context["routeKey"], context["eventType"]) == ("$disconnect", "DISCONNECT")
        assert context["authorizer"]["principalId"] == "ada"

    def test_a_message_sent_just_before_leaving_is_processed(self, plain: Served) -> None:
        with connect(plain.websocket_url) as client:
            id_ = connection_id(client)
            client.send('{"action": "join", "room": "last words"}')

        def processed() -> bool:
            lines = (plain.records / "MESSAGE.jsonl").read_text().splitlines()
            events = (json.loads(line) for line in lines)
            return any("last words" in e["body"] and e["requestContext"]["connectionId"] == id_ for e in events)

        assert eventually(processed)

    def test_an_idle_connection_is_closed(self, quick_to_idle: Served) -> None:
        with connect(quick_to_idle.websocket_url) as client, pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=10)

        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "Going away")

    def test_a_connection_in_use_is_not_idle(self, quick_to_idle: Served) -> None:
        with connect(quick_to_idle.websocket_url) as client:
            for _ in range(6):  # half a second each, three seconds in all
                assert ask(client, '{"action": "join", "room": "1", "seconds": 0.5}')["room"] == "1"

    def test_a_connection_ends_at_its_maximum_duration_even_in_use(self, short_lived: Served) -> None:
        def chat_without_end(client: ClientConnection) -> None:
            while True:
                ask(client, '{"action": "join", "room": "1"}')

        with connect(short_lived.websocket_url) as client, pytest.raises(ConnectionClosed) as closed:
            chat_without_end(client)

        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "Going away")
