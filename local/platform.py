"""The platform on one machine, assembled: engines, control plane, workers, triggers and gateway."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prometheus_client.core import GaugeMetricFamily
from psycopg.conninfo import conninfo_to_dict
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send
from watchfiles import awatch

from eventsplatform.operations.migrate import migrate
from local.application import ACCOUNT_ID, REGION, Application
from local.control_plane import ControlPlane, provision
from local.engines import Endpoints, EngineEvent, Engines
from local.engines.pids import PidRegistry
from local.gateway import AsgiApp, Gateway, check_port, serve, serve_app
from local.gateway.pages import mail_page, swagger_ui
from local.mailbox import Mailbox
from local.metrics import EmfMetrics, LambdaMetrics
from local.refill import Refill
from local.streams import ensure_streams
from local.template import TemplateError, read_application
from local.triggers import InvalidScheduleError, Triggers, ensure_topics
from local.triggers.aws import aws_client
from local.triggers.invoking import backoff
from local.triggers.state_machines import state_machine_arn
from local.workers import Workers
from local.workers.logs import LogSink

HOST = "127.0.0.1"
RELAY_FUNCTION = "RelayOutboxFunction"
# Runs for as long as it is let, and loses nothing when it is not.
BRIDGE_FUNCTION = "BridgeFromNatsFunction"
REBUILD_SEARCH = "RebuildSearch"
REBUILD_LOOK_EVERY_SECONDS = 0.25
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}


@dataclass(frozen=True)
class PlatformSettings:
    """Where the platform's template and state are, where it listens, and how its functions run."""

    root: Path
    state: Path
    port: int = 8080
    host: str = HOST
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    maximum_environments: int = 8
    watch: bool = True


@dataclass(frozen=True)
class Addresses:
    """What `.local/endpoints.json` holds while the platform runs."""

    gateway: str
    websocket: str
    postgres: str
    redis: str
    kafka: str
    nats: str
    opensearch: str
    aws: str


class RebuildError(RuntimeError):
    """The search index could not be rebuilt."""


class Platform:
    """A running platform; `running` makes one."""

    def __init__(
        self,
        settings: PlatformSettings,
        engines: Engines,
        endpoints: Endpoints,
        application: Application,
        workers: Workers,
        triggers: Triggers,
        gateway: Gateway,
        control_plane: ControlPlane,
        addresses: Addresses,
    ) -> None:
        self.settings = settings
        self.engines = engines
        self.endpoints = endpoints
        self.application = application
        self.workers = workers
        self.triggers = triggers
        self.gateway = gateway
        self.control_plane = control_plane
        self.addresses = addresses

    async def reread_template(self) -> None:
        """Take over a changed template. Raises TemplateError or InvalidScheduleError, and nothing has changed."""
        application = await asyncio.to_thread(_read_application, self.settings, self.endpoints)
        await provision(application, self.endpoints.aws, state=self.settings.state)
        await asyncio.to_thread(ensure_topics, self.endpoints.kafka, _topics(application))
        await self.triggers.update(application)
        self.workers.update(application.functions)
        self.control_plane.update(application.functions)
        self.gateway.update(application)
        self.application = application

    def wake_relay(self) -> None:
        """Relay every shard of the outbox now. Must be called on the event loop."""
        self.triggers.asynchronous.submit(RELAY_FUNCTION, b"{}")

    async def rebuild_search(self) -> int:
        """Have the state machine index the catalog anew; the number of events. Raises RebuildError and botocore's."""
        client = await asyncio.to_thread(aws_client, "stepfunctions", self.endpoints.aws)
        started = await asyncio.to_thread(client.start_execution, stateMachineArn=state_machine_arn(REBUILD_SEARCH))
        while True:
            # One that the control plane has lost with its memory is an error here.
            execution = await asyncio.to_thread(client.describe_execution, executionArn=started["executionArn"])
            if execution["status"] == "SUCCEEDED":
                return int(json.loads(execution["output"])["indexed"])
            if execution["status"] != "RUNNING":
                raise RebuildError(f"the state machine {REBUILD_SEARCH} ended as {execution['status']}")
            await asyncio.sleep(REBUILD_LOOK_EVERY_SECONDS)


@asynccontextmanager
async def running(
    settings: PlatformSettings,
    *,
    engine_event: Callable[[EngineEvent], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Platform]:
    """The whole platform while the context is open. Raises EngineError, TemplateError or PortInUseError."""
    check_port(settings.host, settings.port)
    state = settings.state
    state.mkdir(parents=True, exist_ok=True)
    loop = asyncio.get_running_loop()
    returned: asyncio.Queue[str] = asyncio.Queue()

    def on_engine_event(event: EngineEvent) -> None:
        engine_event(event)
        if event.kind == "restarted":
            returned.put_nowait(event.engine)

    refill: Refill | None = None

    async def before_restart(engine: str) -> None:
        if engine == "kafka" and refill is not None:
            await _until_done(partial(_set_back, refill, say), "kafka waits for what it is to be filled with", say)

    async with AsyncExitStack() as stack:
        engines = Engines(
            state, environment=settings.environment, report=on_engine_event, before_restart=before_restart
        )
        metrics = EmfMetrics()
        sink = LogSink(state / "logs" / "functions", observe=metrics.observe)
        stack.callback(sink.close)
        functions_environment: dict[str, str] = {
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            **CREDENTIALS,
        }
        endpoints = await engines.start()
        stack.push_async_callback(engines.stop)
        (state / "endpoints.json").unlink(missing_ok=True)  # of a platform that was killed
        functions_environment["AWS_ENDPOINT_URL"] = endpoints.aws

        workers = Workers(
            {},
            environment=functions_environment,
            log=sink,
            maximum_environments=settings.maximum_environments,
            report=say,
            pids=PidRegistry(state / "pids.json"),
            observer=LambdaMetrics(metrics.registry),
            watch=settings.watch,
        )
        stack.push_async_callback(workers.stop)
        application, _, _ = await asyncio.gather(
            asyncio.to_thread(_read_application, settings, endpoints),
            asyncio.to_thread(migrate, endpoints.postgres),
            workers.start(),
        )
        workers.update(application.functions)

        triggers = Triggers(application, workers, aws_endpoint=endpoints.aws, bootstrap_servers=endpoints.kafka)
        mailbox = Mailbox(state / "mail")
        control_plane = ControlPlane(
            application.functions, workers, triggers.asynchronous, mailbox=mailbox, upstream=endpoints.moto
        )
        stack.push_async_callback(control_plane.close)
        if endpoints.aws != endpoints.moto:
            await stack.enter_async_context(serve_app(control_plane, HOST, urlsplit(endpoints.aws).port or 80))
        await asyncio.gather(
            provision(application, endpoints.aws, state=state),
            asyncio.to_thread(ensure_topics, endpoints.kafka, _topics(application)),
            ensure_streams(endpoints.nats),
        )
        # External ones keep what they have.
        begin_empty = [each for each in ("kafka", "opensearch") if engines.statuses()[each].state != "external"]
        refill = Refill(
            endpoints.postgres,
            endpoints.kafka,
            state,
            positions=triggers.kafka_positions,
            relay=partial(triggers.asynchronous.submit, RELAY_FUNCTION, b"{}"),
            stop=partial(workers.kill, (RELAY_FUNCTION, BRIDGE_FUNCTION)),
            broker=lambda: engines.statuses()["kafka"].pid,
        )
        if "kafka" in begin_empty:
            await _set_back(refill, say)
        await triggers.start()
        stack.push_async_callback(triggers.stop, leaving={BRIDGE_FUNCTION})
        _begin_bridging(application, triggers)
        metrics.registry.register(_TriggerMetrics(triggers))
        if "kafka" in begin_empty:
            stack.push_async_callback(refill.settle)

        gateway = Gateway(application, workers, extras=_extras(settings, metrics, mailbox))
        port = await stack.enter_async_context(serve(gateway, settings.host, settings.port))
        addresses = _addresses(endpoints, settings.host, port)
        (state / "endpoints.json").write_text(json.dumps(asdict(addresses), indent=2) + "\n")
        stack.callback((state / "endpoints.json").unlink, missing_ok=True)

        platform = Platform(
            settings, engines, endpoints, application, workers, triggers, gateway, control_plane, addresses
        )
        for engine in begin_empty:
            returned.put_nowait(engine)
        tasks = [_keep_filled(platform, refill, returned, say)]
        if "kafka" in begin_empty:
            tasks.append(refill.watch())
        if settings.watch:
            tasks.append(_follow_template(platform, say))
        for task in tasks:
            stack.push_async_callback(_cancelled, loop.create_task(task))
        yield platform


def template_overrides(endpoints: Endpoints, host: str, port: int) -> dict[str, object]:
    """What the template's parameters and nested stacks are on this machine."""
    return {
        "NatsUrl": endpoints.nats,
        # Everyone on one machine comes from 127.0.0.1, tests and benchmarks with many clients at once.
        "RateLimitAddressFactor": 20,
        "WebSocketCallbackUrl": f"http://{host}:{port}",
        "WebUrl": f"http://localhost:{port}/app",
        "Data": {
            "Outputs.DatabaseUrl": endpoints.postgres,
            "Outputs.DatabaseIamAuthentication": "false",
            "Outputs.DatabaseAdministrator": str(conninfo_to_dict(endpoints.postgres).get("user", "postgres")),
            "Outputs.RedisUrl": endpoints.redis,
            "Outputs.OpenSearchUrl": endpoints.opensearch,
            "Outputs.OpenSearchSigned": "false",
        },
        "Mail": {
            "Outputs.ConfigurationSet": "local",
            "Outputs.SenderArns": f"arn:aws:ses:{REGION}:{ACCOUNT_ID}:identity/events.example.org",
        },
        "Messaging": {
            "Outputs.KafkaBootstrapServers": endpoints.kafka,
            "Outputs.KafkaIamAuthentication": "false",
            "Outputs.KafkaClusterArn": f"arn:aws:kafka:{REGION}:000000000000:cluster/local/1",
        },
    }


def _begin_bridging(application: Application, triggers: Triggers) -> None:
    """Not only when its schedule is first due, a minute later."""
    for schedule in application.schedules:
        if schedule.function == BRIDGE_FUNCTION and schedule.input:
            triggers.asynchronous.submit(BRIDGE_FUNCTION, schedule.input.encode())


def _read_application(settings: PlatformSettings, endpoints: Endpoints) -> Application:
    overrides = template_overrides(endpoints, settings.host, settings.port)
    return read_application(settings.root / "template.yaml", overrides=overrides, aws_endpoint=endpoints.aws)


def _topics(application: Application) -> list[str]:
    """Those that are declared, dead letters' included, and those that are read."""
    read = {topic for mapping in application.kafka_mappings for topic in mapping.topics}
    return sorted({*application.kafka_topics, *read})


def _addresses(endpoints: Endpoints, host: str, port: int) -> Addresses:
    return Addresses(
        gateway=f"http://{host}:{port}",
        websocket=f"ws://{host}:{port}/ws",
        postgres=endpoints.postgres,
        redis=endpoints.redis,
        kafka=endpoints.kafka,
        nats=endpoints.nats,
        opensearch=endpoints.opensearch,
        aws=endpoints.aws,
    )


def _extras(settings: PlatformSettings, metrics: EmfMetrics, mailbox: Mailbox) -> dict[str, AsgiApp]:
    async def metrics_page(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(metrics.render(), media_type="text/plain; version=0.0.4")(scope, receive, send)

    async def openapi_page(scope: Scope, receive: Receive, send: Send) -> None:
        document = await asyncio.to_thread(_openapi, settings.root)
        await Response(document, media_type="application/json")(scope, receive, send)

    extras: dict[str, Any] = {
        "/metrics": metrics_page,
        "/openapi.json": openapi_page,
        "/docs/": swagger_ui(),
        "/dev/mail": mail_page(mailbox),
    }
    if (web := settings.root / "web").is_dir():
        extras["/app/"] = StaticFiles(directory=web, html=True)
    return extras


def _openapi(root: Path) -> bytes:
    """The document of the API as it is now: made once, and again when what it describes has changed."""
    sources = [
        root / "template.yaml",
        *(path for part in ("functions", "layers") for path in (root / part).rglob("*.py")),
    ]
    return _make_openapi(root, max(path.stat().st_mtime for path in sources))


@lru_cache(maxsize=1)
def _make_openapi(root: Path, _changed_at: float) -> bytes:
    """Made in a process of its own: it loads every function, which this one must not keep."""
    command = [sys.executable, "-m", "local", "openapi"]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=60).stdout


async def _follow_template(platform: Platform, say: Callable[[str], None]) -> None:
    """A development server serves what is saved; what can't be read is reported and the last good state stays."""
    root = platform.settings.root
    watched = [path for name in ("template.yaml", "stacks", "statemachines") if (path := root / name).exists()]
    async for _changes in awatch(*watched):
        try:
            await platform.reread_template()
        except (TemplateError, InvalidScheduleError) as error:
            say(f"the template as it was is still served: {error}")
        else:
            say("the changed template is served")


async def _keep_filled(
    platform: Platform, refill: Refill, returned: asyncio.Queue[str], say: Callable[[str], None]
) -> None:
    """Give each engine that came back what it is without; `returned` names them."""

    async def fill_kafka() -> None:
        await asyncio.to_thread(ensure_topics, platform.endpoints.kafka, _topics(platform.application))
        platform.wake_relay()
        _begin_bridging(platform.application, platform.triggers)

    async def fill_opensearch() -> None:
        if count := await platform.rebuild_search():
            say(f"opensearch has its {count} events again")

    async def fill_aws() -> None:
        await provision(platform.application, platform.endpoints.aws, state=platform.settings.state)
        say("the AWS control plane has its resources again")

    fills = {
        "kafka": fill_kafka,
        "opensearch": fill_opensearch,
        "aws": fill_aws,
        "postgres": refill.resume_relay,
    }
    async with asyncio.TaskGroup() as group:
        while True:
            engine = await returned.get()
            if engine in fills:
                group.create_task(_until_done(fills[engine], f"{engine} is not filled yet", say))


async def _set_back(refill: Refill, say: Callable[[str], None]) -> None:
    if count := await refill.set_back():
        say(f"the new Kafka broker is sent {count} messages that the last one had")


async def _until_done(fill: Callable[[], Awaitable[None]], complaint: str, say: Callable[[str], None]) -> None:
    """What one engine is filled from may be away as well."""
    for delay in backoff(0.2, 5.0):
        try:
            return await fill()
        except Exception as error:
            # Each client library has exceptions of its own, and any of them may pass.
            say(f"{complaint}: {error or type(error).__name__}")
        await asyncio.sleep(delay)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


class _TriggerMetrics:
    """The triggers' statistics, and how far each consumer lags behind."""

    def __init__(self, triggers: Triggers) -> None:
        self._triggers = triggers

    def collect(self) -> Any:
        figures = GaugeMetricFamily("trigger_statistics", "Totals by trigger", labels=["kind", "name", "figure"])
        for kind, each in self._triggers.statistics().items():
            for name, statistics in each.items():
                for figure, value in statistics.items():
                    figures.add_metric([kind, name, figure], value)
        yield figures
