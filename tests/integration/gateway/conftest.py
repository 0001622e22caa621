"""A gateway on a free port, in front of real workers that run the fixture application."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.from_thread
import httpx
import pytest

from local.application import Application
from local.gateway import Gateway, Limits, serve
from local.template import read_application
from local.workers import Workers

TEMPLATE = Path(__file__).parents[2] / "fixtures" / "application" / "template.yaml"
ENVIRONMENT = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}


async def hello(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """An ASGI application to mount: answers with the path it was given."""
    body = f"{scope.get('root_path', '')} {scope['path']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@dataclass(frozen=True)
class Served:
    """A running gateway as tests see it."""

    port: int
    gateway: Gateway
    http: httpx.Client
    records: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws?ticket=ada"


@contextlib.contextmanager
def serving(application: Application, workers: Workers, portal: Any, records: Path, **options: Any) -> Iterator[Served]:
    """Serve the application on a free port in the portal's event loop."""
    gateway = Gateway(application, workers, extras={"/hello": hello, "/tree/": hello}, **options)
    with (
        portal.wrap_async_context_manager(serve(gateway, port=0)) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http,
    ):
        yield Served(port, gateway, http, records)


@contextlib.asynccontextmanager
async def running(application: Application) -> AsyncIterator[Workers]:
    workers = Workers(application.functions, environment=ENVIRONMENT, maximum_environments=4, watch=False)
    await workers.start()
    try:
        yield workers
    finally:
        await workers.stop()


@pytest.fixture(scope="package")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="package")
def application(records: Path) -> Application:
    return read_application(
        TEMPLATE,
        overrides={"RecordDirectory": str(records), "Data": {"Outputs.DatabaseUrl": "postgresql://127.0.0.1/app"}},
    )


@pytest.fixture(scope="package")
def plain_application(application: Application) -> Application:
    """The application without gateway responses: errors come in API Gateway's own words."""
    assert application.rest_api is not None
    return dataclasses.replace(application, rest_api=dataclasses.replace(application.rest_api, gateway_responses={}))


@pytest.fixture(scope="package")
def portal() -> Iterator[Any]:
    with anyio.from_thread.start_blocking_portal(backend_options={"use_uvloop": True}) as portal:
        yield portal


@pytest.fixture(scope="package")
def workers(application: Application, portal: Any) -> Iterator[Workers]:
    with portal.wrap_async_context_manager(running(application)) as workers:
        yield workers


@pytest.fixture(scope="package")
def served(application: Application, workers: Workers, portal: Any, records: Path) -> Iterator[Served]:
    """The application as its template declares it."""
    with serving(application, workers, portal, records) as served:
        yield served


@pytest.fixture(scope="package")
def plain(plain_application: Application, workers: Workers, portal: Any, records: Path) -> Iterator[Served]:
    """The application without its gateway responses."""
    with serving(plain_application, workers, portal, records) as served:
        yield served


@pytest.fixture(scope="package")
def impatient(plain_application: Application, workers: Workers, portal: Any, records: Path) -> Iterator[Served]:
    """A gateway that gives up on functions before any of them is done."""
    with serving(plain_application, workers, portal, records, limits=Limits(integration_timeout=0.3)) as served:
        yield served


@pytest.fixture(scope="package")
def short_lived(plain_application: Application, workers: Workers, portal: Any, records: Path) -> Iterator[Served]:
    """A gateway that ends connections after a second and a half, used or not."""
    with serving(plain_application, workers, portal, records, limits=Limits(connection_duration=1.5)) as served:
        yield served


@pytest.fixture(scope="package")
def quick_to_idle(plain_application: Application, workers: Workers, portal: Any, records: Path) -> Iterator[Served]:
    """A gateway for which a connection is idle after two seconds."""
    with serving(plain_application, workers, portal, records, limits=Limits(idle_timeout=2)) as served:
        yield served


@pytest.fixture(scope="package")
def one_route(plain_application: Application, workers: Workers, portal: Any, records: Path) -> Iterator[Served]:
    """A gateway whose WebSocket API has no `$default` route."""
    api = plain_application.websocket_api
    assert api is not None
    routes = {key: function for key, function in api.routes.items() if key != "$default"}
    application = dataclasses.replace(plain_application, websocket_api=dataclasses.replace(api, routes=routes))
    with serving(application, workers, portal, records) as served:
        yield served


@pytest.fixture(scope="package")
def no_sources(plain_application: Application, workers: Workers, portal: Any, records: Path) -> Iterator[Served]:
    """A gateway whose WebSocket authorizer has no identity source."""
    api = plain_application.websocket_api
    assert api is not None
    assert api.authorizer is not None
    authorizer = dataclasses.replace(api.authorizer, identity_headers=(), identity_query=())
    application = dataclasses.replace(plain_application, websocket_api=dataclasses.replace(api, authorizer=authorizer))
    with serving(application, workers, portal, records) as served:
        yield served
