"""What can be mounted beside the APIs: pages computed on request, static files, Swagger UI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from local.gateway.gateway import AsgiApp
from local.gateway.request import Scope
from local.gateway.rest import Receive, Send
from local.mailbox import Mailbox


def page(supply: Callable[[], bytes], content_type: str) -> AsgiApp:
    """An ASGI application that answers every request with what `supply` gives just then."""

    async def respond(_scope: Scope, _receive: Receive, send: Send) -> None:
        body = supply()
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return respond


def static_files(directory: Path) -> AsgiApp:
    """The files of a directory, with `index.html` for a folder; to mount as a tree (`/app/`)."""
    return Starlette(routes=[Mount("/", StaticFiles(directory=directory, html=True))])


def mail_page(mailbox: Mailbox) -> AsgiApp:
    """The mails that functions have sent as JSON, oldest first; `?to=` for those to one address."""

    async def show(scope: Scope, receive: Receive, send: Any) -> None:
        to = Request(scope).query_params.get("to")
        mails = await asyncio.to_thread(mailbox.mails, to)
        response = JSONResponse([asdict(mail) for mail in mails], headers={"Cache-Control": "no-store"})
        await response(scope, receive, send)

    return show


def swagger_ui(openapi_url: str = "/openapi.json", *, title: str = "Events Platform") -> AsgiApp:
    """Swagger UI from the wheel that ships it, so that it works without the internet; to mount as a tree."""

    async def show(_request: Request) -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url=openapi_url,
            title=title,
            swagger_js_url="assets/swagger-ui-bundle.js",
            swagger_css_url="assets/swagger-ui.css",
            swagger_favicon_url="assets/favicon-32x32.png",
        )

    return Starlette(routes=[Route("/", show), Mount("/assets", StaticFiles(directory=_swagger_ui_files()))])


def _swagger_ui_files() -> Path:
    """Where flask-swagger-ui keeps Swagger UI's files; the package itself, and so Flask, is not imported."""
    spec = find_spec("flask_swagger_ui")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("flask-swagger-ui, which ships Swagger UI, is not installed")
    return Path(spec.submodule_search_locations[0]) / "dist"
