"""Swagger UI from the wheel that ships it: the page works without the internet."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles


def swagger_ui(openapi_url: str = "/openapi.json", *, title: str = "Events Platform") -> Starlette:
    """An ASGI application to mount at a prefix: the page at its root, its assets under `assets/`."""

    async def page(_request: Request) -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url=openapi_url,
            title=title,
            swagger_js_url="assets/swagger-ui-bundle.js",
            swagger_css_url="assets/swagger-ui.css",
            swagger_favicon_url="assets/favicon-32x32.png",
        )

    assets = StaticFiles(directory=_distribution())
    return Starlette(routes=[Route("/", page), Mount("/assets", assets)])


def _distribution() -> Path:
    """Where flask-swagger-ui keeps Swagger UI's files; the package itself, and so Flask, is not imported."""
    spec = find_spec("flask_swagger_ui")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("flask-swagger-ui, which ships Swagger UI, is not installed")
    return Path(spec.submodule_search_locations[0]) / "dist"
