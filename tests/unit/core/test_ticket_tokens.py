"""Tokens of tickets: what is signed is read, and nothing else is."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from eventsplatform.clock import utc_now
from eventsplatform.registrations.admission.model import CLOCK_SKEW, TOKEN_MAXIMUM, TicketClaims
from eventsplatform.registrations.admission.tokens import (
    ForgedTicketError,
    TicketReader,
    _private_key,
    public_keys,
    sign,
)

KEYS = {"active": "k2", "k1": "the key before " * 3, "k2": "the key of now " * 3, "k3": "the key after " * 3}
CLAIMS = TicketClaims(42, 1234, 1, datetime(2026, 5, 1, 18, 30, tzinfo=UTC))
CONTENT = {"aud": "event:42", "sub": "1234", "ser": 1, "iat": 1777660200}
HEADER = {"alg": "EdDSA", "kid": "k2"}


@pytest.fixture(scope="module")
def reader() -> TicketReader:
    return TicketReader(public_keys(KEYS))


def test_what_was_signed_is_read(reader: TicketReader) -> None:
    assert reader.read(sign(CLAIMS, KEYS)) == CLAIMS


def test_a_token_is_a_jws_of_a_few_claims_and_fits_a_code() -> None:
    token = sign(CLAIMS, KEYS)

    assert jwt.get_unverified_header(token) == HEADER
    assert jwt.decode(token, options={"verify_signature": False}) == CONTENT
    largest = TicketClaims(2**63 - 1, 2**63 - 1, 999, CLAIMS.issued_at)
    assert len(token) < 210
    assert len(sign(largest, KEYS)) < TOKEN_MAXIMUM


def test_a_ticket_has_one_token() -> None:
    assert sign(CLAIMS, KEYS) == sign(CLAIMS, KEYS)


@pytest.mark.parametrize("active", ["k1", "k2", "k3"])
def test_every_key_of_the_set_verifies_the_one_that_is_to_come_too(reader: TicketReader, active: str) -> None:
    assert reader.read(sign(CLAIMS, {**KEYS, "active": active})) == CLAIMS


def test_a_key_that_was_dropped_verifies_no_more() -> None:
    token = sign(CLAIMS, KEYS)
    later = TicketReader(key for key in public_keys(KEYS) if key.kid != "k2")

    with pytest.raises(ForgedTicketError):
        later.read(token)


def test_public_keys_tell_nothing_of_private_ones() -> None:
    told = json.dumps([key.model_dump() for key in public_keys(KEYS)])

    assert set(json.loads(told)[0]) == {"kty", "crv", "use", "alg", "kid", "x"}
    for name in ("k1", "k2", "k3"):
        assert KEYS[name] not in told
        assert base64.urlsafe_b64encode(_private_key(KEYS[name]).private_bytes_raw()).decode().rstrip("=") not in told


# Forgeries --------------------------------------------------------------------------------------


def encoded(part: Any) -> str:
    content = part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def signed(content: Any = CONTENT, header: Any = HEADER, key: str = KEYS["k2"]) -> str:
    """By hand: what the library would not sign, too."""
    text = f"{encoded(header)}.{encoded(content)}"
    return f"{text}.{encoded(_private_key(key).sign(text.encode()))}"


def swapped(**content: Any) -> str:
    """The genuine signature under other claims."""
    header, _, signature = sign(CLAIMS, KEYS).split(".")
    return f"{header}.{encoded({**CONTENT, **content})}.{signature}"


def with_hmac_of_the_public_key() -> str:
    """The confusion of RFC 8725 §2.1: what everyone has, taken for a shared secret."""
    public = _private_key(KEYS["k2"]).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return jwt.encode(CONTENT, public, "HS256", headers={"kid": "k2"})


def with_a_key_of_its_own() -> str:
    """The token brings the key that verifies it (RFC 8725 §3.10)."""
    own = Ed25519PrivateKey.generate()
    jwk = jwt.algorithms.OKPAlgorithm.to_jwk(own.public_key(), as_dict=True)
    return jwt.encode(CONTENT, own, "EdDSA", headers={"kid": "k2", "jwk": jwk, "jku": "https://evil.example.org"})


FORGERIES: dict[str, Callable[[], str]] = {
    "another event": lambda: swapped(aud="event:43"),
    "another registration": lambda: swapped(sub="1235"),
    "a later serial": lambda: swapped(ser=2),
    "another time": lambda: swapped(iat=1),
    "another key": lambda: signed(key="a key of somebody else, of the same length"),
    "a key by the wrong id": lambda: signed(header={**HEADER, "kid": "k1"}),
    "an unknown key id": lambda: signed(header={**HEADER, "kid": "k9"}),
    "no key id": lambda: signed(header={"alg": "EdDSA"}),
    "a key id that is a number": lambda: signed(header={**HEADER, "kid": 2}),
    "a key id that is a list": lambda: signed(header={**HEADER, "kid": ["k2"]}),
    "a key id that is `active`": lambda: signed(header={**HEADER, "kid": "active"}),
    "no algorithm": lambda: signed(header={**HEADER, "alg": "none"}),
    "no signature": lambda: f"{encoded({**HEADER, 'alg': 'none'})}.{encoded(CONTENT)}.",
    "the public key as a secret": with_hmac_of_the_public_key,
    "a key of its own": with_a_key_of_its_own,
    "an RSA signature": lambda: jwt.encode(CONTENT, generate_private_key(65537, 2048), "RS256", headers={"kid": "k2"}),
    "nothing": lambda: "",
    "words": lambda: "let me in",
    "a registration's number": lambda: "1234",
    "two parts": lambda: sign(CLAIMS, KEYS).rpartition(".")[0],
    "four parts": lambda: sign(CLAIMS, KEYS) + ".e30",
    "white space": lambda: sign(CLAIMS, KEYS) + "\n",
    "padding": lambda: sign(CLAIMS, KEYS) + "==",
    "what is no base64url in between": lambda: sign(CLAIMS, KEYS).replace(".", ".!", 1),
    "no JSON": lambda: signed(content=b"event:42"),
    "a list": lambda: signed(content=["event:42"]),
    "half of it": lambda: sign(CLAIMS, KEYS)[:100],
    "too much of it": lambda: signed(content={**CONTENT, "x": "x" * TOKEN_MAXIMUM}),
    # Signed with our key, and no ticket nevertheless.
    "no event": lambda: signed(content={**CONTENT, "aud": None}),
    "several events": lambda: signed(content={**CONTENT, "aud": ["event:42", "event:43"]}),
    "an audience that is no event": lambda: signed(content={**CONTENT, "aud": "events-platform-api"}),
    "an event by another spelling": lambda: signed(content={**CONTENT, "aud": "event:042"}),
    "an event in other digits": lambda: signed(content={**CONTENT, "aud": "event:٤٢"}),
    "a registration that is a number": lambda: signed(content={**CONTENT, "sub": 1234}),
    "a registration below one": lambda: signed(content={**CONTENT, "sub": "-1"}),
    "a serial that is text": lambda: signed(content={**CONTENT, "ser": "1"}),
    "a serial that is true": lambda: signed(content={**CONTENT, "ser": True}),
    "a serial of zero": lambda: signed(content={**CONTENT, "ser": 0}),
    "a time that is text": lambda: signed(content={**CONTENT, "iat": "1777660200"}),
    "a time that is true": lambda: signed(content={**CONTENT, "iat": True}),
    "a time beyond all time": lambda: signed(content={**CONTENT, "iat": -(10**15)}),
    "a time to come": lambda: signed(
        content={**CONTENT, "iat": int((utc_now() + CLOCK_SKEW + timedelta(minutes=1)).timestamp())}
    ),
    **{
        f"no {name}": lambda name=name: signed(content={key: value for key, value in CONTENT.items() if key != name})  # type: ignore[misc]
        for name in CONTENT
    },
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_is_no_ticket(reader: TicketReader, forgery: str) -> None:
    with pytest.raises(ForgedTicketError):
        reader.read(FORGERIES[forgery]())


def test_a_token_that_is_made_by_hand_in_the_same_way_is_a_ticket(reader: TicketReader) -> None:
    """The control: it is what they say that is refused, and not how they are made."""
    assert reader.read(signed()) == CLAIMS


def test_no_character_can_be_another(reader: TicketReader) -> None:
    """In the last one, too, of which base64url uses two bits of six."""
    token = sign(CLAIMS, KEYS)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for place, character in enumerate(token):
        other = alphabet[(alphabet.find(character) + 1) % len(alphabet)]

        with pytest.raises(ForgedTicketError):
            reader.read(token[:place] + other + token[place + 1 :])


def test_an_access_token_is_no_ticket_and_a_ticket_no_access_token(reader: TicketReader) -> None:
    access = jwt.encode(CONTENT, KEYS["k2"], "HS256", headers={"kid": "k2"})

    with pytest.raises(ForgedTicketError):
        reader.read(access)
    with pytest.raises(jwt.InvalidTokenError):
        jwt.decode(sign(CLAIMS, KEYS), KEYS["k2"], algorithms=["HS256"])
