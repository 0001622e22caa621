"""The token of a ticket: a JWS (RFC 7515) of a few claims, signed with Ed25519 (RFC 8037) under a key id.

    {"alg": "EdDSA", "kid": "k1"}  {"aud": "event:42", "sub": "1234", "ser": 1, "iat": 1793000000}

It names the event, the registration, the serial of the ticket and when that was issued. It has no end: an event may be
put off, and what ends a ticket is told by the list of revocations. These keys sign nothing else, so no other token can
pass for a ticket (RFC 8725 §3.12).

The libraries are loaded when a token is first made or read: they take a tenth of a second, and all functions of the
service load this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from eventsplatform.registrations.admission.model import CLOCK_SKEW, TOKEN_MAXIMUM, TicketClaims, TicketKey
from eventsplatform.signing_keys import KeySet, key_number

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ALGORITHM = "EdDSA"
SEED_BYTES = 32

# Three parts in the alphabet of base64url. Of the 86 characters of a signature's 512 bits the last has four to spare,
# which are zero: one signature has one spelling.
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{85}[AQgw]")
_EVENT = re.compile(r"event:([1-9][0-9]{0,18})")
_REGISTRATION = re.compile(r"[1-9][0-9]{0,18}")
_EPOCH = datetime.fromtimestamp(0, UTC)


class ForgedTicketError(Exception):
    """The token is none that was issued as a ticket."""


def public_keys(keys: KeySet) -> list[TicketKey]:
    """The public half of each key of a set, the next one too: devices know it long before it signs."""
    from jwt.algorithms import OKPAlgorithm

    ids = sorted(keys.keys() - {"active"}, key=key_number)
    halves = {kid: OKPAlgorithm.to_jwk(_private_key(keys[kid]).public_key(), as_dict=True) for kid in ids}
    return [TicketKey(kid=kid, x=half["x"]) for kid, half in halves.items()]


def sign(claims: TicketClaims, keys: KeySet) -> str:
    """The ticket's token. The same claims and key give the same token, so a ticket has one QR code."""
    import jwt

    kid = keys["active"]
    content = {
        "aud": f"event:{claims.event_id}",
        "sub": str(claims.registration_id),
        "ser": claims.serial,
        "iat": int(claims.issued_at.timestamp()),
    }
    return jwt.encode(content, _private_key(keys[kid]), ALGORITHM, headers={"kid": kid, "typ": None})


class TicketReader:
    """Reads tokens with the public halves of the keys alone, as a device at the door does."""

    def __init__(self, keys: Iterable[TicketKey]) -> None:
        from jwt import PyJWK

        self._keys = {key.kid: PyJWK(key.model_dump()) for key in keys}

    def read(self, token: str) -> TicketClaims:
        """What a genuine ticket says. Raises ForgedTicketError."""
        import jwt

        if len(token) > TOKEN_MAXIMUM or not _FORM.fullmatch(token):
            raise ForgedTicketError
        try:
            content = jwt.decode(
                token,
                self._keys[jwt.get_unverified_header(token)["kid"]],
                algorithms=[ALGORITHM],
                leeway=CLOCK_SKEW,
                options={"require": ["aud", "sub", "ser", "iat"], "verify_aud": False},
            )
            return _claims(content)
        except (jwt.PyJWTError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ForgedTicketError from error


def _private_key(secret: str) -> Ed25519PrivateKey:
    """Secrets Manager makes texts, not keys: the seed is derived from one that has more randomness (HKDF, RFC 5869)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derivation = HKDF(SHA256(), SEED_BYTES, salt=None, info=b"events-platform ticket Ed25519")
    return Ed25519PrivateKey.from_private_bytes(derivation.derive(secret.encode()))


def _claims(content: Mapping[str, Any]) -> TicketClaims:
    """Raises ValueError or TypeError for claims that no ticket has. A bool is an int in Python, and no serial."""
    event, serial, issued_at = _EVENT.fullmatch(content["aud"]), content["ser"], content["iat"]
    if event is None or not _REGISTRATION.fullmatch(content["sub"]) or type(serial) is not int or serial < 1:
        raise ValueError("not the claims of a ticket")
    if type(issued_at) is not int:
        raise TypeError("iat is no number of seconds")
    return TicketClaims(int(event[1]), int(content["sub"]), serial, _EPOCH + timedelta(seconds=issued_at))
