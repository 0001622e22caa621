"""Messages of outside systems: in over NATS, through Kafka to the services, and back as an answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest
from nats.aio.client import Client
from nats.js.api import PubAck

from local.triggers.aws import aws_client
from tests.support.jetstream import connected
from tests.support.platform import Account, RunningPlatform, event_fields
from tests.support.polling import eventually


@pytest.fixture(scope="module")
def organizer(platform: RunningPlatform) -> Account:
    return platform.sign_up("Organizer of partners")


@pytest.fixture(scope="module")
def token(platform: RunningPlatform, organizer: Account) -> str:
    """A partner's, who may act for the organizer."""
    grant = {"partner": "acme", "email": organizer.email, "commands": ["events.create"], "days": 1}
    client = aws_client("lambda", platform.endpoints["aws"])
    answer = client.invoke(FunctionName="ManagePartnersFunction", Payload=json.dumps({"grant": grant}).encode())
    result = json.loads(answer["Payload"].read())
    platform.used_secrets.add("partner token", result["token"])
    return str(result["token"])


def command(token: str, title: str) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": uuid4().hex,
        "source": "/partners/acme",
        "type": "partner.order",
        "data": {"token": token, "event": event_fields(title=title)},
    }


async def sent(client: Client, entity: str, content: Mapping[str, Any], reply_to: str) -> PubAck:
    """Stored in the stream."""
    return await client.jetstream().publish(
        f"inbound.events.create.{entity}", json.dumps(content).encode(), headers={"Evp-Reply-To": reply_to}
    )


def titles(platform: RunningPlatform, organizer: Account) -> list[str]:
    rows = platform.sql("SELECT title FROM catalog.events WHERE organizer_id = %s ORDER BY title", (organizer.id,))
    return [row["title"] for row in rows]


def test_a_command_that_comes_in_is_carried_out_and_answered(
    platform: RunningPlatform, organizer: Account, token: str
) -> None:
    async def ask() -> dict[str, Any]:
        async with connected(platform.endpoints["nats"]) as client:
            inbox = client.new_inbox()
            answers = await client.subscribe(inbox)
            await sent(client, "one", command(token, "By a partner"), inbox)
            return dict(json.loads((await answers.next_msg(timeout=30)).data))

    answer = asyncio.run(ask())

    assert answer["type"] == "commands.succeeded"
    assert answer["data"]["result"]["title"] == "By a partner"
    assert titles(platform, organizer) == ["By a partner"]


def test_a_request_is_answered_by_the_stream_and_not_by_the_platform(platform: RunningPlatform) -> None:
    """Why senders name the subject for answers in a header: the one of the request is JetStream's, and not kept."""

    async def ask() -> tuple[dict[str, Any], str]:
        async with connected(platform.endpoints["nats"]) as client:
            answer = await client.request("inbound.tests.request", b"{}", timeout=10)
            acknowledged = json.loads(answer.data)
            jetstream = client.jetstream()
            subscription = await jetstream.subscribe("inbound.tests.request", ordered_consumer=True, stream="INBOUND")
            delivered = await subscription.next_msg(timeout=10)
            return acknowledged, delivered.reply

    acknowledged, reply = asyncio.run(ask())

    assert acknowledged["stream"] == "INBOUND"
    assert reply.startswith("$JS.ACK.")


def test_commands_that_a_broker_took_into_its_grave_are_carried_out_once(
    platform: RunningPlatform, organizer: Account, token: str
) -> None:
    wanted = [f"Order {number:02}" for number in range(20)]
    before = titles(platform, organizer)

    async def order(numbers: range) -> None:
        async with connected(platform.endpoints["nats"]) as client:
            for number in numbers:
                await sent(client, str(number), command(token, wanted[number]), client.new_inbox())

    asyncio.run(order(range(10)))
    with platform.engine_killed("kafka"):
        asyncio.run(order(range(10, 20)))

    eventually(
        lambda: titles(platform, organizer) == sorted([*before, *wanted]), within=60, every=0.2, what="every order once"
    )
