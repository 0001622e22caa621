"""Starting and stopping the server, and what is mounted beside the APIs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from local.application import Application
from local.gateway import Gateway, PortInUseError, serve
from local.gateway.pages import mail_page, page, static_files, swagger_ui
from local.mailbox import Mailbox, text_message
from local.workers import Workers
from tests.integration.gateway.conftest import Served, serving
from tests.integration.gateway.test_websocket import recorded
from tests.support.polling import eventually_async


@pytest.fixture
def one_off(plain_application: Application, workers: Workers, portal: Any, records: Path) -> Any:
    return lambda **options: serving(plain_application, workers, portal, records, **options)


def test_a_busy_port_is_named_with_the_way_out(plain_application: Application, workers: Workers, portal: Any) -> None:
    async def start(port: int) -> None:
        async with serve(Gateway(plain_application, workers), port=port):
            pass

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(PortInUseError) as error:
            portal.call(start, port)

    assert str(error.value) == f"port {port} is in use; set PORT=… to another one"


def test_the_port_is_free_again_after_stopping(one_off: Any, portal: Any) -> None:
    with one_off() as served:
        assert served.http.get("/public").status_code == 200
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", served.port))


def test_stopping_closes_websockets_with_1001_and_runs_disconnect(
    plain_application: Application, workers: Workers, portal: Any, records: Path
) -> None:
    async def scenario() -> tuple[int, str]:
        gateway = Gateway(plain_application, workers)
        async with serve(gateway, port=0) as port:
            client = await connect(f"ws://127.0.0.1:{port}/ws?ticket=ada")
            await client.send("who am I")
            id_ = json.loads(await client.recv())["requestContext"]["connectionId"]

            reading = asyncio.create_task(client.wait_closed())
        await reading
        assert client.close_code is not None
        return client.close_code, id_

    code, id_ = portal.call(scenario)

    assert code == 1001
    event = recorded(records, "DISCONNECT", id_)
    assert event is not None
    assert event["requestContext"]["disconnectStatusCode"] == 1001


def test_a_request_in_progress_is_finished_when_stopping(
    plain_application: Application, workers: Workers, portal: Any
) -> None:
    async def scenario() -> tuple[int, bool]:
        entered, release = asyncio.Event(), asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            entered.set()
            await release.wait()
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        gateway = Gateway(plain_application, workers, extras={"/slow": slow})
        async with httpx.AsyncClient(timeout=30) as http, contextlib.AsyncExitStack() as stack:
            port = await stack.enter_async_context(serve(gateway, port=0))
            request = asyncio.create_task(http.get(f"http://127.0.0.1:{port}/slow"))
            await entered.wait()
            stopping = asyncio.create_task(stack.aclose())
            await eventually_async(lambda: refuses(port), what="the port refuses connections")
            was_unanswered = not request.done()
            release.set()
            await stopping
            return (await request).status_code, was_unanswered

    assert portal.call(scenario) == (204, True)


async def refuses(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


def test_without_apis_everything_is_unknown(
    plain_application: Application, workers: Workers, portal: Any, records: Path
) -> None:
    bare = dataclasses.replace(plain_application, rest_api=None, websocket_api=None)
    with serving(bare, workers, portal, records) as served:
        assert served.http.get("/public").status_code == 403
        assert served.http.get("/hello").status_code == 200


def test_swagger_ui_is_served_without_the_internet(
    plain_application: Application, workers: Workers, portal: Any
) -> None:
    gateway = Gateway(plain_application, workers, extras={"/docs/": swagger_ui(title="A title")})
    with (
        portal.wrap_async_context_manager(serve(gateway, port=0)) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", follow_redirects=True) as http,
    ):
        page = http.get("/docs")

        assert page.status_code == 200
        assert "A title" in page.text
        assert "/openapi.json" in page.text
        assert "https://" not in page.text
        for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"):
            assert f"assets/{asset}" in page.text
            assert http.get(f"/docs/assets/{asset}").status_code == 200


def test_pages_and_files_are_mounted(
    plain_application: Application, workers: Workers, portal: Any, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text("<h1>Client</h1>")
    (tmp_path / "app.js").write_text("let a;")
    metrics = iter([b"requests 1\n", b"requests 2\n"])
    extras = {"/metrics": page(lambda: next(metrics), "text/plain; version=0.0.4"), "/app/": static_files(tmp_path)}
    with (
        portal.wrap_async_context_manager(serve(Gateway(plain_application, workers, extras=extras), port=0)) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", follow_redirects=True) as http,
    ):
        assert [http.get("/metrics").text, http.get("/metrics").text] == ["requests 1\n", "requests 2\n"]
        assert http.get("/app").text == "<h1>Client</h1>"
        assert http.get("/app/app.js").text == "let a;"
        assert http.get("/app/%2e%2e/%2e%2e/etc/passwd").status_code == 404


def test_an_update_takes_effect_and_keeps_open_connections(
    application: Application, workers: Workers, portal: Any, records: Path
) -> None:
    assert application.rest_api is not None
    fewer = dataclasses.replace(
        application, rest_api=dataclasses.replace(application.rest_api, routes=(), gateway_responses={})
    )

    async def scenario(served: Served) -> str:
        async with connect(served.websocket_url) as client:
            served.gateway.update(fewer)
            await client.send('{"action": "join", "room": "kept"}')
            return json.loads(await client.recv())["room"]

    with serving(application, workers, portal, records) as served:
        assert served.http.get("/public").status_code == 200
        assert portal.call(scenario, served) == "kept"
        assert served.http.get("/public").status_code == 403


def test_mails_are_shown_oldest_first_and_by_address(
    plain_application: Application, workers: Workers, portal: Any, tmp_path: Path
) -> None:
    mailbox = Mailbox(tmp_path / "mail")
    for number, to in enumerate(["ada@example.org", "bob@example.org", "ada@example.org"]):
        text = f"Open http://localhost:8080/app/verify#token={number}, or (https://example.org/a?b=c)."
        mailbox.put(text_message(sender="no-reply@example.org", to=[to], subject=f"Mail {number}", text=text))
    gateway = Gateway(plain_application, workers, extras={"/dev/mail": mail_page(mailbox)})
    with (
        portal.wrap_async_context_manager(serve(gateway, port=0)) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        everything = http.get("/dev/mail").json()
        of_ada = http.get("/dev/mail", params={"to": "ada@example.org"}).json()
        of_nobody = http.get("/dev/mail", params={"to": "example.org"}).json()

    assert [mail["to"] for mail in everything] == ["ada@example.org", "bob@example.org", "ada@example.org"]
    assert everything[1] == {
        "to": "bob@example.org",
        "subject": "Mail 1",
        "text": "Open http://localhost:8080/app/verify#token=1, or (https://example.org/a?b=c).\n",
        "links": ["http://localhost:8080/app/verify#token=1", "https://example.org/a?b=c"],
    }
    assert [mail["subject"] for mail in of_ada] == ["Mail 0", "Mail 2"]
    assert of_nobody == []
