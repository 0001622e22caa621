"""Partner systems: the commands that they send, the functions that carry them out, and the answers that they get."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import nats
import pytest
from pydantic import SecretStr

from eventsplatform.catalog import wiring as catalog_wiring
from eventsplatform.catalog.service import Catalog
from eventsplatform.gate import wiring as gate_wiring
from eventsplatform.gate.model import Session, SessionState
from eventsplatform.identity import wiring as identity_wiring
from eventsplatform.identity.model import SignUp
from eventsplatform.identity.partner_tokens import PartnerTokenVerifier
from eventsplatform.identity.partners import PARTNER_COMMANDS, Grant, Granted, PartnerCommand
from eventsplatform.messaging.envelope import Message
from eventsplatform.registrations import wiring as registrations_wiring
from eventsplatform.registrations.service import Registrations
from local.engines import Endpoints
from local.openapi import load_function
from tests.support.application import template_application
from tests.support.core_environment import core_environment
from tests.support.database import ISSUER, KEYS, PARTNER_AUDIENCE, Services
from tests.support.lambda_events import Context, kafka_event
from tests.support.polling import eventually

TOPIC = "evp.inbound.v1"
PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Partner:
    """A partner system with a grant of its own, on behalf of someone with a new account."""

    granted: Granted
    email: str
    inbox: str = field(default_factory=lambda: f"_INBOX.{uuid4().hex}")

    @property
    def user_id(self) -> int:
        return self.granted.user_id

    def command(self, name: str, /, **data: Any) -> Message:
        """A command with this partner's token, whose answer is waited for."""
        return self.message(name, {"token": self.granted.token, **data})

    def message(self, name: str, data: dict[str, Any], **changes: Any) -> Message:
        command_id = str(uuid4())
        values: dict[str, Any] = {
            "id": command_id,
            "source": f"/partners/{self.granted.partner}",
            "type": f"inbound.{name}",
            "subject": "",
            "time": "2026-05-01T10:00:00Z",
            "partitionkey": command_id,
            "data": data,
            "via": "nats",
            "hops": 1,
            "extensions": {"replyto": self.inbox, "natsseq": 7},
        }
        return Message(**{**values, **changes})


def partner(
    running: Services, *, commands: Sequence[PartnerCommand] = PARTNER_COMMANDS, days: int = 30, name: str = "acme"
) -> Partner:
    email = f"partner-{uuid4().hex[:12]}@example.org"
    running.accounts.open(SignUp(email=email, password=SecretStr(PASSWORD), name="Ada"))
    return Partner(running.partners.grant(Grant(partner=name, email=email, commands=list(commands), days=days)), email)


def waiting_for(command: Message, subject: str | None) -> Message:
    """The same command with another place for its answer."""
    extensions = {name: value for name, value in command.extensions.items() if name != "replyto"}
    return dataclasses.replace(command, extensions={**extensions, **({"replyto": subject} if subject else {})})


class SessionsOf:
    """Identity as the gate's client asks it; `down` makes it unreachable."""

    def __init__(self, running: Services) -> None:
        self._running = running
        self.down: Exception | None = None

    def check(self, session: Session) -> SessionState:
        if self.down is not None:
            raise self.down
        state = self._running.session_check.check(
            session.user_id, session.session_id, session.token_id, session.generation
        )
        return SessionState(live=state.live, verified=state.verified)


class Bus:
    """All that is published in a while outside of JetStream, as a client of NATS sees it."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._client = self._runner.run(nats.connect(url, connect_timeout=5))
        self._subscription = self._runner.run(self._client.subscribe(">"))
        self._runner.run(self._client.flush())

    def seen(self) -> list[tuple[str, dict[str, str], bytes]]:
        """What has come since the last look, less what JetStream and its clients say among each other.

        A pull request of another test goes on for some seconds after it, with heartbeats and a status at its end.
        """
        self._runner.run(self._client.flush())
        found = []
        while self._subscription.pending_msgs:
            got = self._runner.run(self._subscription.next_msg())
            if not got.subject.startswith(("$JS", "_R_")) and "Status" not in (got.headers or {}):
                found.append((got.subject, dict(got.headers or {}), got.data))
        return found

    def answers(self, subject: str, number: int = 1) -> list[Message]:
        """Those that have come on the subject, once there are so many."""
        found: list[Message] = []

        def arrived() -> bool:
            found.extend(Message.from_json(data) for where, _, data in self.seen() if where == subject)
            return len(found) >= number

        eventually(arrived, what=f"{number} answers")
        return found

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


class CommandFunctions:
    """The two functions with real records, and what they report of them."""

    def __init__(self, endpoints: Endpoints, running: Services, monkeypatch: pytest.MonkeyPatch) -> None:
        self._endpoints = endpoints
        self.sessions = SessionsOf(running)
        functions = template_application().functions
        self._modules = {
            "events": load_function(functions["HandleEventCommandsFunction"]),
            "registrations": load_function(functions["HandleRegistrationCommandsFunction"]),
        }
        self._roles = {"events": "catalog", "registrations": "registrations"}

        def verifier() -> PartnerTokenVerifier:
            return PartnerTokenVerifier(lambda: KEYS, issuer=ISSUER, audience=PARTNER_AUDIENCE)

        for factories, service, factory in (
            (identity_wiring.FACTORIES, PartnerTokenVerifier, verifier),
            (gate_wiring.FACTORIES, gate_wiring.IdentityFunction, lambda: self.sessions),
            (catalog_wiring.FACTORIES, Catalog, lambda: running.catalog),
            (registrations_wiring.FACTORIES, Registrations, lambda: running.registrations),
        ):
            monkeypatch.setitem(factories, service, factory)
        self._monkeypatch = monkeypatch

    def deliver(self, *messages: Message | bytes, to: str = "events", nats_url: str | None = None) -> int:
        """How many of the messages, which are of one partition, are done."""
        endpoints = dataclasses.replace(self._endpoints, nats=nats_url or self._endpoints.nats)
        self._monkeypatch.setenv("CONSUMER_GROUP", f"evp-handle-{to.removesuffix('s')}-commands")
        with core_environment(endpoints, role=self._roles[to]):
            answer = self._modules[to].handler(kafka_event({f"{TOPIC}-0": messages}), Context())
        return len(messages) - len(answer["batchItemFailures"])


@contextmanager
def listening(url: str) -> Iterator[Bus]:
    bus = Bus(url)
    try:
        yield bus
    finally:
        bus.close()
