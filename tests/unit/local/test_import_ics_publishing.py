"""Sending events to an HTTP server that is busy, forgetful, refusing or gone, and what the command makes of it."""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.commands.import_ics import add_arguments, publish_all, run
from local.import_ics import ApiUnavailableError, Entry, NotPublishedError, Publisher, SignInError, read_calendar
from local.import_ics.publisher import ATTEMPTS, LONGEST_WAIT_SECONDS

CONFERENCE = Path(__file__).parents[2] / "fixtures" / "calendars" / "conference.ics"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOWHERE = "http://127.0.0.1:1"

LOGIN, CREATE, PUBLISH = "/v1/auth/login", "/v1/events", "/v1/events/7/publish"


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: Any


SIGNED_IN = Answer(200, {"access_token": "token-1"})
CREATED = Answer(201, {"id": 7})
PUBLISHED = Answer(200, {"id": 7})


class ScriptedServer:
    """A real HTTP server that answers each path with what was put down for it, the last answer again and again."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._answers: dict[str, list[Answer]] = {}
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                raw = self.rfile.read(length)
                headers = {name.lower(): value for name, value in self.headers.items()}
                script.requests.append(Request(self.path, headers, json.loads(raw) if raw else None))
                answer = script.next_answer(self.path)
                content = json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: Any) -> None:
                """Requests are looked at, not printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answers(self, path: str, *answers: Answer) -> None:
        self._answers[path] = list(answers)

    def next_answer(self, path: str) -> Answer:
        answers = self._answers.get(path, [Answer(404, {"detail": f"There is no {path}."})])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections; stopping twice does nothing more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    server.answers(LOGIN, SIGNED_IN)
    server.answers(CREATE, CREATED)
    server.answers(PUBLISH, PUBLISHED)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def publisher(server: ScriptedServer, waits: list[float]) -> Iterator[Publisher]:
    with httpx.Client(base_url=server.url) as client:
        publisher = Publisher(client, email="ada@example.org", password="secret", sleep=waits.append)
        publisher.sign_in()
        yield publisher


@pytest.fixture
def entry() -> Entry:
    return read_calendar(CONFERENCE.read_bytes(), NOW).entries[0]


def test_an_event_is_created_and_published_as_the_user_under_keys_of_its_own(
    server: ScriptedServer, publisher: Publisher, entry: Entry
) -> None:
    assert publisher.publish(entry) == 7
    login, create, publish = server.requests
    assert (login.path, login.body) == (LOGIN, {"email": "ada@example.org", "password": "secret"})
    assert (create.path, create.body) == (CREATE, entry.event.model_dump(mode="json", exclude_unset=True))
    assert publish.path == PUBLISH
    assert create.headers["authorization"] == publish.headers["authorization"] == "Bearer token-1"
    assert create.headers["idempotency-key"] == entry.idempotency_key("create")
    assert publish.headers["idempotency-key"] == entry.idempotency_key("publish")


def test_a_busy_server_is_asked_again_when_it_says_so(
    server: ScriptedServer, publisher: Publisher, entry: Entry, waits: list[float]
) -> None:
    server.answers(CREATE, Answer(429, headers={"Retry-After": "3"}), Answer(503), CREATED)
    server.answers(PUBLISH, Answer(503, headers={"Retry-After": "86400"}), PUBLISHED)

    assert publisher.publish(entry) == 7

    assert server.paths() == [LOGIN, CREATE, CREATE, CREATE, PUBLISH, PUBLISH]
    assert waits[0] == 3
    assert 0 < waits[1] <= 2
    assert waits[2] == LONGEST_WAIT_SECONDS


def test_patience_ends_with_the_reason_that_the_server_gives(
    server: ScriptedServer, publisher: Publisher, entry: Entry, waits: list[float]
) -> None:
    server.answers(CREATE, Answer(503, {"detail": "The database is not answering."}))
    with pytest.raises(NotPublishedError, match="The database is not answering"):
        publisher.publish(entry)
    assert server.paths().count(CREATE) == ATTEMPTS
    assert waits == sorted(waits)
    assert len(waits) == ATTEMPTS - 1


@pytest.mark.parametrize("status", [400, 403, 409, 422, 500, 502])
def test_other_refusals_are_not_asked_again(
    server: ScriptedServer, publisher: Publisher, entry: Entry, status: int
) -> None:
    server.answers(CREATE, Answer(status, {"detail": "No, because."}))
    with pytest.raises(NotPublishedError, match="No, because"):
        publisher.publish(entry)
    assert server.paths().count(CREATE) == 1


def test_an_answer_that_is_no_problem_document_is_named_by_its_status(
    server: ScriptedServer, publisher: Publisher, entry: Entry
) -> None:
    server.answers(CREATE, Answer(413, ["too", "big"]))
    with pytest.raises(NotPublishedError, match="The API answered 413"):
        publisher.publish(entry)


def test_an_expired_sign_in_is_renewed_once(server: ScriptedServer, publisher: Publisher, entry: Entry) -> None:
    server.answers(LOGIN, Answer(200, {"access_token": "token-2"}))
    server.answers(CREATE, Answer(401, {"detail": "The access token has expired."}), CREATED)

    assert publisher.publish(entry) == 7

    assert server.paths() == [LOGIN, CREATE, LOGIN, CREATE, PUBLISH]
    assert [request.headers.get("authorization") for request in server.requests] == [
        None,
        "Bearer token-1",
        None,
        "Bearer token-2",
        "Bearer token-2",
    ]


def test_an_event_that_is_created_but_not_published_is_said_to_be_a_draft(
    server: ScriptedServer, publisher: Publisher, entry: Entry
) -> None:
    server.answers(PUBLISH, Answer(409, {"detail": "An event that has already started cannot be published."}))
    with pytest.raises(NotPublishedError, match=r"cannot be published\. It stays a draft, event 7\."):
        publisher.publish(entry)


def test_a_server_that_is_gone_is_unavailable_after_all_attempts(waits: list[float]) -> None:
    with httpx.Client(base_url=NOWHERE) as client:
        publisher = Publisher(client, email="ada@example.org", password="secret", sleep=waits.append)
        with pytest.raises(ApiUnavailableError, match=NOWHERE):
            publisher.sign_in()
    assert len(waits) == ATTEMPTS - 1


@pytest.mark.parametrize(
    "answer", [Answer(200, {"hello": "world"}), Answer(200, "hello"), Answer(401, {"detail": "no"})]
)
def test_whoever_does_not_let_the_user_in_is_said_so(server: ScriptedServer, answer: Answer) -> None:
    server.answers(LOGIN, answer)
    with httpx.Client(base_url=server.url) as client, pytest.raises(SignInError):
        Publisher(client, email="ada@example.org", password="secret").sign_in()


# The command


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setenv("EVENTS_PLATFORM_PASSWORD", "secret")

    def start(file: Path, api: str, *more: str) -> int:
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        return run(parser.parse_args([str(file), "--email", "ada@example.org", "--api", api, *more]))

    return start


def test_the_command_publishes_what_it_can_and_names_the_rest(
    command: Callable[..., int], server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers(CREATE, CREATED, Answer(422, {"detail": "/title: too dull"}), CREATED)

    assert command(CONFERENCE, server.url, "--capacity", "30") == 1

    output = capsys.readouterr().out.splitlines()
    assert output[0] == (
        "not taken  line 74  'Open Systems Days 2005'  [first-edition@open-systems-days.example.org]: "
        "it has already started, on 2005-05-12 07:00 UTC"
    )
    assert "published  event 7  'Opening and keynote: Thirty years of open systems'" in output
    assert any("'Workshop: Kernel tracing" in line and line.endswith("/title: too dull") for line in output)
    assert output[-1] == "4 published, 8 not taken."
    assert {request.body["capacity"] for request in server.requests if request.path == CREATE} == {30}


def test_the_command_succeeds_when_everything_is_taken(
    command: Callable[..., int], server: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "one.ics"
    file.write_bytes(
        b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nSUMMARY:A concert\nDTSTART:20350514T180000Z\nEND:VEVENT\nEND:VCALENDAR"
    )
    assert command(file, server.url) == 0
    assert capsys.readouterr().out == (
        "published  event 7  'A concert'  (it has no end; taken to last an hour; it names no place)\n"
        "1 published, 0 not taken.\n"
    )


def test_an_import_ends_early_when_the_api_is_gone_halfway(
    server: ScriptedServer, publisher: Publisher, waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    reading = read_calendar(CONFERENCE.read_bytes(), NOW)
    server.stop()

    assert publish_all(reading, publisher) == 1

    assert len(waits) == ATTEMPTS - 1, "only the first entry is tried"
    assert capsys.readouterr().out.splitlines()[-1] == "0 published, 12 not taken."


@pytest.mark.parametrize(
    ("content", "options", "reason"),
    [
        (None, (), "No such file or directory"),
        (b"", (), "the file is empty"),
        (b"BEGIN:VCALENDAR\nBEGIN:VEVENT\n", (), "line 2: BEGIN:VEVENT is never closed"),
        (CONFERENCE.read_bytes(), ("--timezone", "Mars"), "'Mars' is not an IANA time zone name"),
        (CONFERENCE.read_bytes(), ("--encoding", "klingon"), "'klingon' is not the name of an encoding"),
        (CONFERENCE.read_bytes(), ("--api", "not a url"), ""),
    ],
)
def test_the_command_does_not_start_without_a_calendar_or_an_address(
    command: Callable[..., int],
    server: ScriptedServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    options: tuple[str, ...],
    reason: str,
) -> None:
    file = tmp_path / "file.ics"
    if content is not None:
        file.write_bytes(content)
    assert command(file, server.url, *options) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("Nothing was imported: ")
    assert reason in printed.err
    assert CREATE not in server.paths()


def test_the_command_does_not_start_for_someone_the_api_does_not_know(
    command: Callable[..., int], server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers(LOGIN, Answer(401, {"detail": "The e-mail address or the password is wrong."}))
    assert command(CONFERENCE, server.url) == 2
    assert "ada@example.org could not sign in: The e-mail address or the password is wrong." in capsys.readouterr().err


def test_the_command_asks_for_a_password_before_anything_else(
    command: Callable[..., int],
    server: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("EVENTS_PLATFORM_PASSWORD")
    assert command(CONFERENCE, server.url) == 2
    assert "which password?" in capsys.readouterr().err
    assert server.requests == []
