"""The whole platform as `make dev` runs it: a process of its own, spoken to from outside as its users do."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import jwt
import nats
import psutil
import psycopg
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from nats.js.errors import NotFoundError
from psycopg.rows import dict_row
from websockets.sync.client import ClientConnection, connect

from eventsplatform.clock import rfc3339, utc_now
from local.engines.engines import ENGINES
from local.verification import Difference, verify
from tests.support.killing import frozen
from tests.support.leaks import UsedSecrets, leaks
from tests.support.polling import eventually

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
NATS_STREAM = "PLATFORM"
PASSWORD = "correct horse battery staple"

READY_WITHIN_SECONDS = 60.0
STOPS_WITHIN_SECONDS = 30.0

# Above what services usually listen on, below the ports of the engines and those of outgoing connections.
GATEWAY_PORTS = range(10_000, 20_000)

_READY = re.compile(r"Events Platform is ready after ([0-9.]+) s")
_numbers = count(1)


@dataclass(frozen=True)
class Account:
    """Someone who has signed up and logged in."""

    id: int
    email: str
    access_token: str
    refresh_token: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access_token}"}

    @property
    def claims(self) -> dict[str, Any]:
        """What the access token says; whether it is genuine is not looked at."""
        claims: dict[str, Any] = jwt.decode(self.access_token, options={"verify_signature": False})
        return claims


@dataclass(frozen=True)
class NatsMessage:
    subject: str
    headers: Mapping[str, str]
    data: dict[str, Any]


@dataclass(frozen=True)
class KafkaRecord:
    topic: str
    key: str
    headers: Mapping[str, str]
    value: dict[str, Any]


@dataclass
class LiveSocket:
    """A WebSocket connection that tells replies from pushes."""

    connection: ClientConnection
    pushes: list[dict[str, Any]] = field(default_factory=list)

    def request(self, action: str, **fields: Any) -> dict[str, Any]:
        """Send a frame and return its reply; pushes that come before it are kept."""
        frame_id = f"frame-{next(_numbers)}"
        self.connection.send(json.dumps({"action": action, "id": frame_id, **fields}))
        while (frame := self.receive()).get("id") != frame_id:
            self.pushes.append(frame)
        return frame

    def receive(self, within: float = 20.0) -> dict[str, Any]:
        """The next frame, whichever kind. Raises TimeoutError."""
        frame: dict[str, Any] = json.loads(self.connection.recv(timeout=within))
        return frame

    def next_push(self, event: str) -> dict[str, Any]:
        """The next push of this kind; those before it are dropped. Raises TimeoutError."""
        while True:
            frame = self.pushes.pop(0) if self.pushes else self.receive()
            if frame.get("event") == event:
                return frame


class RunningPlatform:
    """`python -m local dev`, from its readiness on."""

    def __init__(self, process: subprocess.Popen[bytes], state: Path, output: Path) -> None:
        self.process = process
        self.state = state
        self.used_secrets = UsedSecrets()
        self._output = output

    @cached_property
    def endpoints(self) -> dict[str, str]:
        addresses: dict[str, str] = json.loads((self.state / "endpoints.json").read_text())
        return addresses

    @cached_property
    def http(self) -> httpx.Client:
        """A client of the REST API that waits longer than the gateway lets any request take."""
        return self.used_secrets.watch(httpx.Client(base_url=self.endpoints["gateway"], timeout=32, trust_env=False))

    @property
    def web_origin(self) -> str:
        """The one origin whose pages may call the API, as the template has it by default."""
        return "http://localhost:8080"

    @property
    def output(self) -> str:
        """What the platform has printed so far."""
        return self._output.read_text(errors="replace")

    @property
    def seconds_to_ready(self) -> float:
        """As the platform itself says; raises AssertionError before it is ready."""
        said = _READY.search(self.output)
        assert said, "the platform has not said that it is ready"
        return float(said[1])

    # As users do.

    def sign_up(self, name: str = "Ada Lovelace") -> Account:
        """Open an account under an address of its own, confirm the address, and log in."""
        email = new_address()
        self.ask_for_account(email, name)
        self.post("/v1/auth/verify", 200, token=self.mailed_token(email, "verify"))
        return self.sign_in(email)

    def sign_up_unverified(self, name: str = "Ada Lovelace") -> Account:
        """Open an account under an address of its own, and log in without having confirmed it."""
        email = new_address()
        self.ask_for_account(email, name)
        return self.sign_in(email)

    def ask_for_account(self, email: str, name: str = "Ada Lovelace", password: str = PASSWORD) -> None:
        self.post("/v1/auth/register", 201, email=email, password=password, name=name)

    def log_in(self, user_id: int, email: str) -> Account:
        account = self.sign_in(email)
        assert account.id == user_id
        return account

    def sign_in(self, email: str, password: str = PASSWORD) -> Account:
        session = self.post("/v1/auth/login", 200, email=email, password=password)
        return Account(session["user"]["id"], email, session["access_token"], session["refresh_token"])

    def mails(self, to: str) -> list[dict[str, Any]]:
        mails: list[dict[str, Any]] = self.http.get("/dev/mail", params={"to": to}).json()
        return mails

    def mailed_token(self, to: str, page: str, *, but: Collection[str] = ()) -> str:
        """The latest token that leads to this page of the web client, once a mail has brought one that is not `but`."""

        def arrived() -> list[str]:
            links = [link for mail in self.mails(to) for link in mail["links"]]
            found = [link.partition("#token=")[2] for link in links if link.partition("#")[0].endswith(f"/{page}")]
            return [token for token in found if token and token not in but]

        return eventually(arrived, what=f"mail to {to} that leads to {page}")[-1]

    def post(self, path: str, status: int, *, account: Account | None = None, **body: Any) -> Any:
        """The answer's content, if it has one. Asserts the status."""
        answer = self.http.post(path, headers=account.headers if account else {}, json=body or None)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def create_event(self, organiser: Account, *, published: bool = True, **changes: Any) -> dict[str, Any]:
        """An event with `changes` to the fields of `event_fields`, published unless asked otherwise."""
        answer = self.http.post("/v1/events", headers=organiser.headers, json=event_fields(**changes))
        assert answer.status_code == 201, answer.text
        if published:
            answer = self.http.post(f"/v1/events/{answer.json()['id']}/publish", headers=organiser.headers)
            assert answer.status_code == 200, answer.text
        event: dict[str, Any] = answer.json()
        return event

    def repeat_event(self, organiser: Account, event_id: int, rule: str = "FREQ=WEEKLY;COUNT=3") -> dict[str, Any]:
        """The series that the event becomes the first of; the others are drafts."""
        path = f"/v1/events/{event_id}/series"
        answer = self.http.post(path, headers=organiser.headers, json={"rule": rule})
        assert answer.status_code == 201, answer.text
        series: dict[str, Any] = answer.json()
        return series

    def calendar_feed(self, account: Account) -> dict[str, str]:
        """The `url` at which the account's calendar can be subscribed to from now on, and the `token` in it."""
        answer = self.http.post("/v1/users/me/calendar", headers=account.headers)
        assert answer.status_code == 201, answer.text
        url = answer.json()["url"]
        return {"url": url, "token": url.rpartition("token=")[2]}

    def register(self, account: Account, event_id: int) -> dict[str, Any]:
        answer = self.http.post(f"/v1/events/{event_id}/registrations", headers=account.headers)
        assert answer.status_code == 201, answer.text
        registration: dict[str, Any] = answer.json()
        return registration

    @contextmanager
    def socket(self, account: Account) -> Iterator[LiveSocket]:
        with connect(
            self.endpoints["websocket"], additional_headers=account.headers, open_timeout=20, close_timeout=5
        ) as connection:
            yield LiveSocket(connection)

    # As the engines' own clients see them.

    def sql(self, query: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        with psycopg.connect(self.endpoints["postgres"], connect_timeout=5, row_factory=dict_row) as connection:
            return connection.execute(query, parameters).fetchall()

    def nats_messages(self, subject: str = ">") -> list[NatsMessage]:
        """Everything that the stream has stored on the subject, in order; none when there is no stream yet."""
        return asyncio.run(_stored_messages(self.endpoints["nats"], subject))

    def kafka_records(self, topic: str) -> list[KafkaRecord]:
        """Everything that the topic holds, partition by partition."""
        return _records(self.endpoints["kafka"], topic)

    def differences(self, *, event: int | None = None, within: float = 75.0) -> list[str]:
        """Where projections are not what the event store says, of one event or of all.

        What nobody wakes a relay for is swept after a minute.
        """
        found: list[Difference] = []
        verify(self.endpoints["postgres"], self.endpoints["opensearch"], event=event, within=within, tell=found.append)
        return [str(each) for each in found]

    # As an operator, or a bad day, has it.

    def processes(self) -> dict[str, psutil.Process]:
        """The processes that the platform has recorded to be ended with it, by what they are."""
        entries = json.loads((self.state / "pids.json").read_text())
        found: dict[str, psutil.Process] = {}
        for entry in entries:
            with suppress(psutil.NoSuchProcess):
                found[entry["what"]] = psutil.Process(entry["process"]["pid"])
        return found

    @contextmanager
    def engine_killed(self, name: str) -> Iterator[None]:
        """SIGKILL on entry, and on exit the platform has brought the engine back."""
        process, returns_before = self.processes()[name], self._returns(name)
        process.kill()
        eventually(lambda: has_ended(process), what=f"end of {name}")
        yield
        eventually(lambda: self._returns(name) > returns_before, within=40, what=f"return of {name}")

    def _returns(self, name: str) -> int:
        """How often the platform has said that the engine is back."""
        return len(re.findall(rf"✓ {name} +is back", self.output))

    @contextmanager
    def engine_frozen(self, name: str) -> Iterator[None]:
        """An engine that keeps its connections and answers nothing, until the end."""
        with frozen(self.processes()[name]):
            yield

    def family(self) -> list[psutil.Process]:
        """The platform's process and every process below it."""
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def memory_mb(self) -> float:
        """What all its processes take: the sum of their PSS, in which a page that several share counts once."""
        total = 0
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total / 1e6

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def stop(self) -> None:
        """Ctrl-C. Asserts that it ends well and leaves nothing behind."""
        family = self.family()
        self.interrupt()
        try:
            exit_code = self.process.wait(STOPS_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"still running {STOPS_WITHIN_SECONDS} s after SIGINT:\n{self.output}") from None
        assert exit_code == 0, f"exit status {exit_code}:\n{self.output}"
        assert "Traceback" not in self.output, self.output
        left_behind = [process for process in family if not has_ended(process)]
        assert not left_behind, f"{left_behind} outlived the platform"
        assert not (self.state / "endpoints.json").exists()

    def close(self) -> None:
        """Give back what this object holds; ends the platform, however, if it still runs."""
        if "http" in self.__dict__:
            self.http.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def new_address() -> str:
    return f"user-{os.getpid()}-{time.time_ns()}-{next(_numbers)}@example.org"


def event_fields(**changes: Any) -> dict[str, Any]:
    """The body of `POST /v1/events`: a jazz evening in Berlin in ten days, with `changes`."""
    starts_at = utc_now() + timedelta(days=10)
    fields = {
        "title": f"Jazz by the canal {next(_numbers)}",
        "starts_at": rfc3339(starts_at),
        "ends_at": rfc3339(starts_at + timedelta(hours=2)),
        "timezone": "Europe/Berlin",
        "location": {"name": "Berlin", "lat": 52.52, "lon": 13.405},
        "capacity": 100,
        "category": "music",
        "tags": ["jazz"],
    }
    return fields | changes


def has_ended(process: psutil.Process) -> bool:
    """Whether it runs no more, though perhaps nobody has asked for its exit status yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def free_port() -> int:
    """A port that nothing listens on, outside of the ranges that the platform itself draws from."""
    for port in GATEWAY_PORTS[os.getpid() % len(GATEWAY_PORTS) :]:
        with socket.socket() as candidate, suppress(OSError):
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind((HOST, port))
            return port
    raise OSError("no free port")


def platform_environment(
    state: Path, port: int, environment: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """The variables of `make dev`: its own engines but for `environment`, whatever this process's environment names."""
    foreign = {engine.variable for engine in ENGINES}
    inherited = {name: value for name, value in os.environ.items() if name not in foreign}
    return {
        **inherited,
        **environment,
        "EVENTS_PLATFORM_STATE": str(state),
        "PORT": str(port),
        "DEMO": "0",
        "COLUMNS": "200",
    }


def launch(
    state: Path,
    *,
    port: int | None = None,
    root: Path = ROOT,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> RunningPlatform:
    """Begin to start the platform of the sources at `root`. `RunningPlatform.close` it, whatever happens."""
    state.mkdir(parents=True, exist_ok=True)
    output = state / f"output-{next(_numbers)}.txt"
    with output.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "local", "dev"],
            cwd=root,
            env=platform_environment(state, port or free_port(), environment),
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return RunningPlatform(process, state, output)


def copied_sources(target: Path) -> Path:
    """What a platform runs from, to be changed before it does: `launch(…, root=…)`. Gives the target."""
    for part in ("local", "layers", "functions", "stacks", "statemachines"):
        shutil.copytree(ROOT / part, target / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "template.yaml", target)
    return target


@contextmanager
def platform_running(
    state: Path, *, root: Path = ROOT, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[RunningPlatform]:
    """A platform on this state, healthy on entry and, unless the test ended it, stopped with Ctrl-C on exit."""
    running = launch(state, root=root, environment=environment)
    try:
        _wait_until_healthy(running)
        yield running
        if running.process.poll() is None:
            running.stop()
    finally:
        running.close()


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """One platform without demo data for all end-to-end tests: use accounts and events of your own.

    Whatever they have done to it, in the end every projection is what the event store says.
    """
    with platform_running(tmp_path_factory.mktemp("platform")) as running:
        yield running
        assert running.differences() == []
    running.used_secrets.add_kept(running.state)
    assert leaks(running.state, running.used_secrets.known) == []
    assert running.used_secrets.echoed == []


def _wait_until_healthy(running: RunningPlatform) -> None:
    def healthy_or_ended() -> bool:
        if running.process.poll() is not None:
            return True
        return bool(_READY.search(running.output)) and running.http.get("/health").json()["status"] == "healthy"

    try:
        eventually(healthy_or_ended, within=READY_WITHIN_SECONDS, every=0.1, what="a healthy platform")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{running.output}") from error
    assert running.process.poll() is None, f"exit status {running.process.poll()}:\n{running.output}"


async def _stored_messages(url: str, subject: str) -> list[NatsMessage]:
    client = await nats.connect(url, connect_timeout=5, allow_reconnect=False)
    try:
        stream = client.jetstream()
        try:
            await stream.get_last_msg(NATS_STREAM, subject)
        except NotFoundError:
            return []
        subscription = await stream.subscribe(subject, stream=NATS_STREAM, ordered_consumer=True)
        messages: list[NatsMessage] = []
        while True:
            message = await subscription.next_msg(timeout=5)
            messages.append(NatsMessage(message.subject, message.headers or {}, json.loads(message.data)))
            if message.metadata.num_pending == 0:
                return messages
    finally:
        await client.close()


def _records(bootstrap_servers: str, topic: str) -> list[KafkaRecord]:
    # Up to the end that comes with a fetch: asked for the end alone, the embedded broker tells too low a one.
    settings = {
        "bootstrap.servers": bootstrap_servers,
        "group.id": "end-to-end-tests",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    }
    consumer = Consumer(settings)
    try:
        unread = set(consumer.list_topics(topic, timeout=5).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in unread])
        records: list[KafkaRecord] = []
        while unread:
            message = consumer.poll(10)
            assert message is not None, f"{topic}: no answer to a fetch"
            if (error := message.error()) is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                unread.discard(message.partition())
                continue
            headers = {name: value.decode() for name, value in message.headers() or []}
            records.append(KafkaRecord(topic, message.key().decode(), headers, json.loads(message.value())))
        return records
    finally:
        consumer.close()
