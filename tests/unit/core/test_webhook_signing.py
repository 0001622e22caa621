from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from standardwebhooks import Webhook as Verifier

from eventsplatform.adapters.sealing import Sealing
from eventsplatform.catalog import messages as catalog_messages
from eventsplatform.registrations import messages as registration_messages
from eventsplatform.registrations.admission import messages as admission_messages
from eventsplatform.registrations.webhooks.model import EventType
from eventsplatform.registrations.webhooks.signing import (
    RETRY_AFTER,
    asked_wait,
    new_secret,
    next_wait,
    signed_headers,
)

NOW = datetime(2030, 5, 1, 18, 0, tzinfo=UTC)


def test_a_secret_is_as_the_specification_wants_it_and_another_one_each_time() -> None:
    secret = new_secret()

    assert secret.startswith("whsec_")
    assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"))) <= 64
    assert secret != new_secret()


def test_each_secret_makes_the_signature_that_the_reference_library_makes() -> None:
    secrets = [new_secret(), new_secret()]
    body = '{"grüße": "aus Köln"}'

    headers = signed_headers("registration-5-2", body.encode(), secrets, NOW)

    assert headers["webhook-id"] == "registration-5-2"
    assert headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    expected = [Verifier(secret).sign("registration-5-2", NOW, body) for secret in secrets]
    assert headers["webhook-signature"] == " ".join(expected)


def test_ten_attempts_span_three_days() -> None:
    waits = [next_wait(attempt, asked=None, jitter=0) for attempt in range(1, 11)]

    assert waits == [*RETRY_AFTER, None]
    assert sum(RETRY_AFTER, timedelta()) == timedelta(hours=75, minutes=35, seconds=5)


def test_a_wait_may_be_a_fifth_longer_and_not_shorter() -> None:
    assert next_wait(3, asked=None, jitter=1) == timedelta(minutes=36)


@pytest.mark.parametrize(
    ("asked", "waited"),
    [
        (timedelta(seconds=1), timedelta(minutes=5)),
        (timedelta(hours=1), timedelta(hours=1)),
        (timedelta(days=30), timedelta(hours=24)),
    ],
)
def test_a_receiver_may_ask_for_a_longer_wait_of_up_to_a_day(asked: timedelta, waited: timedelta) -> None:
    assert next_wait(2, asked=asked, jitter=0) == waited


def test_nobody_is_asked_for_more_attempts_than_there_are() -> None:
    assert next_wait(10, asked=timedelta(seconds=1), jitter=0) is None


@pytest.mark.parametrize(
    ("header", "asked"),
    [
        (None, None),
        ("", None),
        ("120", timedelta(seconds=120)),
        ("999999999999999999999999", timedelta(hours=24)),
        ("Wed, 01 May 2030 18:02:00 GMT", timedelta(minutes=2)),
        ("Wed, 01 May 2030 17:00:00 GMT", timedelta(0)),
        ("Wed, 01 May 2030 18:02:00 -0000", timedelta(minutes=2)),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("Mon, 32 Jan 99999 00:00:00 +9999", None),
    ],
)
def test_what_a_receiver_asks_for_is_read_or_left_alone(header: str | None, asked: timedelta | None) -> None:
    assert asked_wait(header, NOW) == asked


def test_every_type_of_message_about_an_event_can_be_chosen() -> None:
    events = {f"events.{what}" for what in get_args(catalog_messages.Happening)}
    at_the_door = get_args(admission_messages.Happening)
    registrations = {f"registrations.{what}" for what in (*get_args(registration_messages.Happening), *at_the_door)}

    assert set(get_args(EventType)) == events | registrations | {"events.*", "registrations.*"}


# Sealing -----------------------------------------------------------------------------------------

KEYS = {"active": "k1", "k1": "the first key of this test", "k2": "the second key of this test"}


def test_what_is_sealed_is_opened_and_looks_like_nothing() -> None:
    sealing = Sealing(lambda: KEYS)

    sealed = sealing.seal("whsec_abc")

    assert sealing.open(sealed) == "whsec_abc"
    assert sealed.startswith("k1.")
    assert "abc" not in sealed
    assert sealed != sealing.seal("whsec_abc")


def test_another_key_can_take_over_while_what_the_first_one_sealed_is_still_there() -> None:
    sealed = Sealing(lambda: KEYS).seal("whsec_abc")
    later = Sealing(lambda: {**KEYS, "active": "k2"})

    assert later.open(sealed) == "whsec_abc"
    assert later.seal("whsec_abc").startswith(later.active_prefix())
    assert later.active_prefix() == "k2."


def test_a_key_that_is_new_is_looked_for() -> None:
    sealed = Sealing(lambda: {**KEYS, "active": "k2"}).seal("whsec_abc")
    before = {"active": "k1", "k1": KEYS["k1"]}

    assert Sealing(lambda: before, lambda: KEYS).open(sealed) == "whsec_abc"
    with pytest.raises(KeyError):
        Sealing(lambda: before).open(sealed)


def test_what_was_sealed_with_another_key_of_the_same_name_is_not_opened() -> None:
    from cryptography.fernet import InvalidToken

    sealed = Sealing(lambda: KEYS).seal("whsec_abc")

    with pytest.raises(InvalidToken):
        Sealing(lambda: {"active": "k1", "k1": "a key of somebody else"}).open(sealed)
