"""`@connections` as boto3 uses it, and as nobody else may."""

from __future__ import annotations

import json
import socket
import threading
from datetime import datetime
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.integration.gateway.conftest import Served
from tests.integration.gateway.test_websocket import connection_id
from tests.support.polling import eventually

SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=local/20300101/us-east-1/execute-api/aws4_request"}
UNKNOWN = "AAAAAAAAAAAAAAA="


@pytest.fixture(params=["", "/ws"], ids=["at the root", "below the WebSocket path"])
def client(request: pytest.FixtureRequest, plain: Served) -> Any:
    return boto3.client(
        "apigatewaymanagementapi",
        endpoint_url=f"{plain.url}{request.param}",
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}),
    )


def error_of(call: Any, **arguments: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


class TestWithBoto3:
    def test_a_post_arrives_as_text_and_bytes_as_a_binary_frame(self, plain: Served, client: Any) -> None:
        with connect(plain.websocket_url) as websocket:
            id_ = connection_id(websocket)
            client.post_to_connection(ConnectionId=id_, Data="grüße".encode())
            client.post_to_connection(ConnectionId=id_, Data=b"\xff\x00")

            assert websocket.recv(timeout=10) == "grüße"
            assert websocket.recv(timeout=10) == b"\xff\x00"

    def test_get_describes_the_connection(self, plain: Served, client: Any) -> None:
        with connect(plain.websocket_url, user_agent_header="test/1.0") as websocket:
            description = client.get_connection(ConnectionId=connection_id(websocket))

        assert isinstance(description["ConnectedAt"], datetime)
        assert description["LastActiveAt"] >= description["ConnectedAt"]
        assert description["Identity"] == {"SourceIp": "127.0.0.1", "UserAgent": "test/1.0"}

    def test_delete_closes_the_connection_and_then_it_is_gone(self, plain: Served, client: Any) -> None:
        with connect(plain.websocket_url) as websocket:
            id_ = connection_id(websocket)
            assert client.delete_connection(ConnectionId=id_)["ResponseMetadata"]["HTTPStatusCode"] == 204
            with pytest.raises(ConnectionClosed):
                websocket.recv(timeout=10)

        assert error_of(client.post_to_connection, ConnectionId=id_, Data=b"x") == ("GoneException", 410)

    @pytest.mark.parametrize("call", ["post_to_connection", "get_connection", "delete_connection"])
    def test_an_unknown_connection_is_gone(self, client: Any, call: str) -> None:
        data = {"Data": b"x"} if call == "post_to_connection" else {}

        assert error_of(getattr(client, call), ConnectionId=UNKNOWN, **data) == ("GoneException", 410)

    def test_a_client_that_left_is_gone(self, plain: Served, client: Any) -> None:
        with connect(plain.websocket_url) as websocket:
            id_ = connection_id(websocket)

        def gone() -> bool:
            return error_of(client.post_to_connection, ConnectionId=id_, Data=b"x") == ("GoneException", 410)

        assert eventually(gone)

    def test_a_message_over_128_kb_is_too_large(self, plain: Served, client: Any) -> None:
        with connect(plain.websocket_url) as websocket:
            id_ = connection_id(websocket)
            error = error_of(client.post_to_connection, ConnectionId=id_, Data=b"x" * (128 * 1024 + 1))
            client.post_to_connection(ConnectionId=id_, Data=b"y" * (128 * 1024))

            assert error == ("PayloadTooLargeException", 413)
            assert websocket.recv(timeout=10) == "y" * (128 * 1024)


def test_without_a_signature_nobody_can_push(plain: Served) -> None:
    with connect(plain.websocket_url) as websocket:
        path = f"/@connections/{quote(connection_id(websocket))}"
        for headers in ({}, {"Authorization": "Bearer token"}):
            response = plain.http.post(path, content=b"x", headers=headers)

            assert (response.status_code, response.json()) == (403, {"message": "Missing Authentication Token"})
        assert plain.http.post(path, content=b"x", headers=SIGNED).status_code == 200


def test_another_method_is_refused(plain: Served) -> None:
    with connect(plain.websocket_url) as websocket:
        path = f"/@connections/{quote(connection_id(websocket))}"

        assert plain.http.put(path, content=b"x", headers=SIGNED).status_code == 403


def test_posts_arrive_in_the_order_they_were_made(plain: Served) -> None:
    with connect(plain.websocket_url) as websocket:
        path = f"/@connections/{quote(connection_id(websocket))}"
        for number in range(50):
            plain.http.post(path, content=str(number), headers=SIGNED)

        assert [websocket.recv(timeout=10) for _ in range(50)] == [str(number) for number in range(50)]


def test_a_client_that_does_not_read_is_limited_and_delays_no_other(plain: Served) -> None:
    with connect(plain.websocket_url, max_queue=1, close_timeout=0.1) as slow, connect(plain.websocket_url) as quick:
        slow_path = f"/@connections/{quote(connection_id(slow))}"
        quick_path = f"/@connections/{quote(connection_id(quick))}"
        payload = b"x" * (128 * 1024)
        statuses = set()
        for _ in range(200):
            response = plain.http.post(slow_path, content=payload, headers=SIGNED)
            statuses.add(response.status_code)
            if response.status_code == 429:
                break

        assert statuses == {200, 429}
        assert response.headers["x-amzn-errortype"] == "LimitExceededException"
        assert plain.http.post(quick_path, content=b"hello", headers=SIGNED).status_code == 200
        assert quick.recv(timeout=10) == "hello"


def test_many_posts_from_many_sides_lose_nothing(plain: Served) -> None:
    with connect(plain.websocket_url) as websocket:
        path = f"/@connections/{quote(connection_id(websocket))}"

        def post(side: int) -> None:
            for number in range(25):
                plain.http.post(path, content=json.dumps([side, number]), headers=SIGNED).raise_for_status()

        threads = [threading.Thread(target=post, args=(side,)) for side in range(4)]
        for thread in threads:
            thread.start()
        received = [tuple(json.loads(websocket.recv(timeout=10))) for _ in range(100)]
        for thread in threads:
            thread.join()

    assert sorted(received) == [(side, number) for side in range(4) for number in range(25)]


def test_a_connection_that_breaks_is_forgotten(plain: Served) -> None:
    with connect(plain.websocket_url) as websocket:
        id_ = connection_id(websocket)
        assert plain.gateway.connections.get(id_) is not None

        websocket.socket.shutdown(socket.SHUT_RDWR)

        assert eventually(lambda: plain.gateway.connections.get(id_) is None)
