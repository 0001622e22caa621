"""Whatever leaves the process does so under a row of the table of call policies: by walking all adapters.

What is public in an adapter is in the map, with the row that it is called under or the reason why it calls nobody. Each
call in the map is then made with its breaker open and the network forbidden: it must be refused, and reach nothing.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import pkgutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from botocore.exceptions import BotoCoreError
from circuitbreaker import STATE_OPEN
from confluent_kafka import KafkaError, KafkaException
from opensearchpy.exceptions import TransportError
from redis import ConnectionError as RedisConnectionError

from eventsplatform import adapters
from eventsplatform.adapters import aws, breakers
from eventsplatform.adapters.aws import FunctionClient, SecretStore
from eventsplatform.adapters.guarded_opensearch import connect as connect_opensearch
from eventsplatform.adapters.guarded_redis import connect as connect_redis
from eventsplatform.adapters.jetstream import OrderedPublisher, Publication
from eventsplatform.adapters.kafka import KafkaMessage, KafkaProducer, TopicReader, ping_kafka
from eventsplatform.adapters.mail import Mailer
from eventsplatform.adapters.nats import NatsConnection
from eventsplatform.adapters.partitions import MonthlyTable, PostgresMonths, without_next_month
from eventsplatform.adapters.postgres import Database
from eventsplatform.adapters.secret_versions import SecretsManagerVersions
from eventsplatform.call_policies import CALL_POLICIES
from eventsplatform.config import (
    DatabaseSettings,
    KafkaSettings,
    MailSettings,
    NatsSettings,
    RedisSettings,
    SearchSettings,
)
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.mail import Mail
from tests.support.application import ROOT

CORE = ROOT / "layers" / "core" / "eventsplatform"

# Without a breaker, for the reason that the table gives.
WITHOUT_A_BREAKER = {
    "websocket.WebSocketGateway.post": "apigatewaymanagementapi",
    "websocket.WebSocketGateway.close": "apigatewaymanagementapi",
    "outbound.Outbound.post": "outbound",
    "outbound.Outbound.refuse_private": "outbound",
}
# What runs within a call that is in the map, on the loop of NatsConnection.run, or makes what such a call is made with.
WITHIN_ANOTHER = {
    "jetstream.DurableReader.acknowledge",
    "jetstream.DurableReader.close",
    "jetstream.DurableReader.next",
    "jetstream.DurableReader.open",
    "jetstream.OrderedPublisher.open",
    "nats.NatsConnection.client",
    "nats.NatsConnection.jetstream",
    "opensearch.opensearch_required",
    "redis.make_client",
    "redis.redis_required",
}
CALL_NOBODY = {
    "guarded_opensearch.is_outage",
    "kafka.client_configuration",
    "nats.nats_breaker",
    "outbound.timed_context",
    "partitions.MonthlyTable.partition",
    "partitions.PostgresMonths.report_ahead",
    "postgres.Database.close",
    "postgres.connection_parameters",
}
# Whole modules: the breakers themselves, and cryptography.
NO_ADAPTERS = {"breakers", "sealing"}

NOWHERE = "127.0.0.1:9"


def database() -> Database:
    return Database(DatabaseSettings(f"postgresql://{NOWHERE}/x", "messaging", False))


def months() -> PostgresMonths:
    return PostgresMonths(database(), MonthlyTable("messaging", "outbox"))


def redis() -> Any:
    return connect_redis(RedisSettings(f"redis://{NOWHERE}"))


def opensearch() -> Any:
    return connect_opensearch(SearchSettings(f"http://{NOWHERE}", False))


def nats() -> NatsConnection:
    return NatsConnection(NatsSettings(f"nats://{NOWHERE}", ""))


def kafka() -> KafkaProducer:
    return KafkaProducer(KafkaSettings(NOWHERE, False))


def use(context: Any) -> None:
    with context:
        pass


LETTERS = [KafkaMessage("t", key="1", value=b"x", headers={})]


def taken_or_fail(acknowledged: list[bool]) -> None:
    if acknowledged == [False]:
        raise DependencyUnavailableError("message broker")


def store_or_fail() -> None:
    """Past the connection's own guard, as a batch of which the first message was stored."""
    publisher = OrderedPublisher(Unreachable())  # type: ignore[arg-type]
    error = asyncio.run(publisher.store([Publication("s", b"", {})])).error
    assert error is not None
    raise error


class Unreachable:
    """A client of NATS whose connection breaks."""

    def new_inbox(self) -> str:
        return "_INBOX"

    async def _send_command(self, *_: Any) -> None:
        socket.create_connection(("127.0.0.1", 9))


DAY = date(2026, 1, 1)
VERSIONS = SecretsManagerVersions()
MAIL = MailSettings("no-reply@example.org", "")

CALLS: dict[str, tuple[str, Callable[[], object]]] = {
    "postgres.Database.transaction": ("postgres", lambda: use(database().transaction())),
    "postgres.Database.effect": ("postgres", lambda: use(database().effect())),
    "postgres.Database.autocommit": ("postgres", lambda: use(database().autocommit())),
    "postgres.Database.fetch_one": ("postgres", lambda: database().fetch_one("SELECT 1")),
    "postgres.Database.fetch_all": ("postgres", lambda: database().fetch_all("SELECT 1")),
    "postgres.Database.ping": ("postgres", lambda: database().ping()),
    "partitions.PostgresMonths.has_month": ("postgres", lambda: months().has_month(DAY)),
    "partitions.PostgresMonths.add_month": ("postgres", lambda: months().add_month(DAY, DAY)),
    "partitions.without_next_month": ("postgres", lambda: without_next_month(database())),
    "guarded_redis.connect": ("redis", lambda: redis().hgetall("k")),
    "guarded_redis.GuardedRedis.execute_command": ("redis", lambda: redis().get("k")),
    "guarded_redis.GuardedRedis.pipeline": ("redis", lambda: redis().pipeline().get("k").execute()),
    "guarded_opensearch.connect": ("opensearch", lambda: opensearch().info()),
    "guarded_opensearch.GuardedTransport.perform_request": ("opensearch", lambda: opensearch().search(index="x")),
    "kafka.KafkaProducer.send": ("kafka", lambda: taken_or_fail(kafka().send(LETTERS))),
    "kafka.KafkaProducer.start": ("kafka", lambda: taken_or_fail(kafka().start(LETTERS)())),
    "kafka.TopicReader.read": ("kafka", lambda: TopicReader(KafkaSettings(NOWHERE, False)).read("t", {}, 1)),
    "kafka.ping_kafka": ("kafka", lambda: ping_kafka(1.0)),
    "nats.NatsConnection.run": ("nats", lambda: nats().run(nats().client(), timeout_seconds=1)),
    "nats.NatsConnection.publish": ("nats", lambda: nats().publish("s", b"", {})),
    "nats.NatsConnection.ping": ("nats", lambda: nats().ping()),
    "jetstream.OrderedPublisher.store": ("nats", store_or_fail),
    "aws.FunctionClient.invoke": ("function", lambda: FunctionClient().invoke("Other", {})),
    "aws.FunctionClient.invoke_async": ("event", lambda: FunctionClient().invoke_async("Other", {})),
    "aws.SecretStore.get_json": ("secretsmanager", lambda: SecretStore().get_json("keys")),
    "aws.SecretStore.get_json_anew": ("secretsmanager", lambda: SecretStore().get_json_anew("keys")),
    "secret_versions.SecretsManagerVersions.stages": ("secretsmanager", lambda: VERSIONS.stages("keys")),
    "secret_versions.SecretsManagerVersions.read": (
        "secretsmanager",
        lambda: VERSIONS.read("keys", stage="AWSCURRENT"),
    ),
    "secret_versions.SecretsManagerVersions.put_pending": (
        "secretsmanager",
        lambda: VERSIONS.put_pending("keys", "0" * 32, "x"),
    ),
    "secret_versions.SecretsManagerVersions.make_current": (
        "secretsmanager",
        lambda: VERSIONS.make_current("keys", "0" * 32, instead_of=None),
    ),
    "mail.Mailer.send": ("sesv2", lambda: Mailer(MAIL).send(Mail("ada@example.org", "A", "x"))),
}


# The walk ------------------------------------------------------------------------------------------------------


def public_calls(package: Any) -> Iterator[str]:
    """`module.function` and `module.Class.method` of all that modules offer; what is cached is made, not called."""
    for found in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{found.name}")
        for name, member in vars(module).items():
            if name.startswith("_") or getattr(member, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(member):
                methods = (each for each, value in vars(member).items() if is_method(each, value))
                yield from (f"{found.name}.{name}.{method}" for method in methods)
            elif callable(member) and not hasattr(member, "cache_info"):
                yield f"{found.name}.{name}"


def is_method(name: str, value: object) -> bool:
    return not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, classmethod | staticmethod))


def test_every_call_of_every_adapter_is_in_the_map_and_nothing_else() -> None:
    known = CALLS.keys() | WITHOUT_A_BREAKER.keys() | WITHIN_ANOTHER | CALL_NOBODY
    walked = {name for name in public_calls(adapters) if name.partition(".")[0] not in NO_ADAPTERS}

    assert sorted(walked - known) == []
    assert sorted(known - walked) == []


def test_the_table_has_a_row_for_each_and_no_other() -> None:
    used = {row for row, _ in CALLS.values()} | set(WITHOUT_A_BREAKER.values())

    assert used | {"gate", "postgres connect", "rds"} == set(CALL_POLICIES)
    assert all(CALL_POLICIES[row].opens_after for row, _ in CALLS.values())
    assert not any(CALL_POLICIES[row].opens_after for row in WITHOUT_A_BREAKER.values())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """What was asked of the network, which refuses everything, in a new environment that tries once."""
    made: list[object] = []

    def refusing(error: Exception) -> Callable[..., None]:
        def refuse(*arguments: object, **_: object) -> None:
            made.append(arguments)
            raise error

        return refuse

    refused = refusing(ConnectionRefusedError())
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refused)
    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refused)
    monkeypatch.setattr("psycopg.Connection.connect", refusing(psycopg.OperationalError("refused")))
    nobody = refusing(KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN)))
    monkeypatch.setattr("confluent_kafka.Producer", nobody)
    monkeypatch.setattr("confluent_kafka.Consumer", lambda _: SimpleNamespace(poll=nobody, close=lambda: None))
    monkeypatch.setattr("eventsplatform.adapters.kafka.kafka_admin", lambda: SimpleNamespace(list_topics=nobody))
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    for row, policy in CALL_POLICIES.items():
        monkeypatch.setitem(CALL_POLICIES, row, replace(policy, attempts=1))  # type: ignore[arg-type]
    forget_clients()
    yield made
    forget_clients()


def forget_clients() -> None:
    for cached in (aws.client, aws._session, aws._secrets_provider):
        cached.cache_clear()


@pytest.mark.parametrize("name", CALLS)
def test_a_call_reaches_out_while_its_breaker_is_closed_and_nobody_while_it_is_open(
    name: str, asked: list[object]
) -> None:
    row, call = CALLS[name]

    # Closed: the call is made, and what becomes of it is counted
    with pytest.raises((DependencyUnavailableError, RedisConnectionError, TransportError, BotoCoreError)):
        call()
    assert asked
    counted = {each.policy.called: each.failure_count for each in breakers._breakers.values()}
    assert counted[CALL_POLICIES[row].called]

    # Open: it is refused
    asked.clear()
    for each in breakers._breakers.values():
        each._state, each._opened = STATE_OPEN, time.monotonic()
    with pytest.raises((DependencyUnavailableError, RedisConnectionError)):
        call()
    assert asked == []


# Nobody else -------------------------------------------------------------------------------------------------

CLIENTS = {"boto3", "botocore", "confluent_kafka", "http", "httpx", "nats", "opensearchpy", "psycopg", "redis"}
CLIENTS |= {"requests", "smtplib", "socket", "ssl", "urllib", "urllib3"}
# Errors, and what describes values.
DESCRIBING = {"abc", "api", "errors", "exceptions", "json", "parse", "rows"}
BESIDES = {
    "gate/revocations.py": "is given the adapter's client",
    "gate/store.py": "the gate's own connection, under the row `gate`",
    "operations/migrate.py": "migrations, which nobody but a deployment runs",
}


def clients_used(tree: ast.AST) -> Iterator[str]:
    """What is imported of the packages of clients, and is not only for types."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield from clients_used(node)
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.partition(".")[0] in CLIENTS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in CLIENTS:
            names = [] if (node.module or "").rpartition(".")[2] in DESCRIBING else node.names
            yield from (f"{node.module}.{each.name}" for each in names if not each.name.endswith("Error"))


def test_nobody_but_adapters_has_a_client() -> None:
    harmless = {"http.HTTPStatus", "psycopg.sql"}
    using = {
        str(path.relative_to(CORE)): used
        for path in sorted(CORE.rglob("*.py"))
        if "adapters" not in path.parts and "migrations" not in path.parts
        if (used := set(clients_used(ast.parse(path.read_text()))) - harmless)
    }

    assert using.keys() == BESIDES.keys(), using


@pytest.mark.parametrize("line", ["import socket", "from redis import Redis", "def f():\n    from nats import connect"])
def test_a_client_of_its_own_is_noticed(line: str) -> None:
    """The control."""
    assert list(clients_used(ast.parse(line)))
