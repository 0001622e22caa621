"""Tokens as attackers make them (RFC 8725 §2 and §3), each beside a control: the same token without the attack."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from eventsplatform.clock import utc_now
from eventsplatform.errors import ForbiddenError, UnauthenticatedError
from eventsplatform.identity.model import User
from eventsplatform.identity.partner_tokens import PartnerTokenIssuer, PartnerTokenVerifier
from eventsplatform.identity.tokens import AccessTokenIssuer, AccessTokenVerifier

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_PUBLIC = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
KEY, ATTACKERS_KEY = "k" * 64, "a" * 64
# A set in which an asymmetric key's public half stands by mistake is the worst case of an algorithm confusion.
KEYS = {"active": "k1", "k1": KEY, "k9": RSA_PUBLIC}
ISSUER, AUDIENCE, PARTNER_AUDIENCE = "events-platform", "events-platform-api", "events-platform-inbound"

Claims = dict[str, Any]


ADA = User(
    id=7,
    email="ada@example.org",
    name="Ada",
    role="user",
    permissions=["events:read"],
    status="active",
    email_verified=True,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


@dataclass(frozen=True)
class Kind:
    """A kind of token: how it is issued, and how its holder is told."""

    audience: str
    issued: Callable[[], str]
    verify: Callable[[str], int]

    def claims(self, **changes: Any) -> Claims:
        return {**jwt.decode(self.issued(), options={"verify_signature": False}), **changes}


def access_token() -> str:
    issuer = AccessTokenIssuer(lambda: KEYS, issuer=ISSUER, audience=AUDIENCE, clock=utc_now)
    return issuer.issue(ADA, session_id="s-1", generation=3)


def holder_of_access_token(token: str) -> int:
    return AccessTokenVerifier(lambda: KEYS, issuer=ISSUER, audience=AUDIENCE).verify(token).user_id


def partner_token() -> str:
    issuer = PartnerTokenIssuer(lambda: KEYS, issuer=ISSUER, audience=PARTNER_AUDIENCE, clock=utc_now)
    return issuer.issue(
        ADA,
        partner="acme",
        commands=["events.create"],
        session_id="s-1",
        generation=3,
        until=utc_now() + timedelta(days=30),
    )


def holder_of_partner_token(token: str) -> int:
    """As a command looks at it: genuine first, and then whether it is over."""
    grant = PartnerTokenVerifier(lambda: KEYS, issuer=ISSUER, audience=PARTNER_AUDIENCE).verify(token)
    grant.require("events.create", utc_now())
    return grant.caller.user_id


ACCESS = Kind(AUDIENCE, access_token, holder_of_access_token)
PARTNER = Kind(PARTNER_AUDIENCE, partner_token, holder_of_partner_token)


def part(content: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def assembled(header: Mapping[str, Any], content: Claims, key: str | None = KEY, digest: str = "sha256") -> str:
    """By hand: libraries refuse to make what these tests need."""
    signed = f"{part(header)}.{part(content)}"
    if key is None:
        return f"{signed}."
    signature = hmac.digest(key.encode(), signed.encode(), digest)
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def header(**changes: Any) -> dict[str, Any]:
    return {"typ": "JWT", "alg": "HS256", "kid": "k1", **changes}


def ahead(**span: float) -> int:
    return int((utc_now() + timedelta(**span)).timestamp())


OCT_KEY = {"kty": "oct", "k": base64.urlsafe_b64encode(ATTACKERS_KEY.encode()).decode()}


def attacks_on(kind: Kind) -> dict[str, tuple[Callable[[], str], Callable[[], str]]]:
    """By name: the attack, and the same without it, which must pass."""
    issued, claims = kind.issued, kind.claims
    return {
        **{
            f"alg {name}": (
                lambda name=name: assembled(header(alg=name), claims(), key=None),
                lambda: assembled(header(), claims()),
            )
            for name in ("none", "None", "NONE", "nOnE", "")
        },
        "the signature stripped": (lambda: issued().rpartition(".")[0] + ".", issued),
        "an empty signature under HS256": (lambda: assembled(header(), claims(), key=None), issued),
        "HS256 with an RSA public key as the secret": (
            lambda: assembled(header(kid="k9"), claims(), key=RSA_PUBLIC),
            lambda: assembled(header(kid="k1"), claims(), key=KEY),
        ),
        "RS256 with the attacker's key": (
            lambda: jwt.encode(claims(), RSA_KEY, algorithm="RS256", headers={"kid": "k9"}),
            lambda: jwt.encode(claims(), KEY, algorithm="HS256", headers={"kid": "k1"}),
        ),
        "HS512 with the right key": (
            lambda: assembled(header(alg="HS512"), claims(), digest="sha512"),
            lambda: assembled(header(alg="HS256"), claims(), digest="sha256"),
        ),
        "the algorithm as another type": (
            lambda: assembled(header(alg=["HS256"]), claims()),
            lambda: assembled(header(), claims()),
        ),
        "another key": (
            lambda: assembled(header(), claims(), key=ATTACKERS_KEY),
            lambda: assembled(header(), claims()),
        ),
        "an empty key": (lambda: assembled(header(), claims(), key=""), lambda: assembled(header(), claims())),
        **{
            f"kid {kid!r}": (
                lambda kid=kid: assembled(header(kid=kid), claims(), key=ATTACKERS_KEY),
                lambda: assembled(header(), claims()),
            )
            for kid in ("active", "k2", "", None, 1, ["k1"], {"k": 1}, "../../dev/null", "k1' OR '1'='1", "k1\0")
        },
        "kid active with the name that it holds as the key": (
            lambda: assembled(header(kid="active"), claims(), key="k1"),
            lambda: assembled(header(), claims()),
        ),
        "no kid": (lambda: assembled({"alg": "HS256"}, claims()), lambda: assembled(header(), claims())),
        **{
            f"a key that the token brings itself ({name})": (
                lambda name=name, value=value: assembled(header(**{name: value}), claims(), key=ATTACKERS_KEY),
                # Ignored, not followed: with the right key it is a token like any other.
                lambda name=name, value=value: assembled(header(**{name: value}), claims()),
            )
            for name, value in {
                "jwk": OCT_KEY,
                "jku": "https://attacker.example.org/keys.json",
                "x5u": "https://attacker.example.org/cert.pem",
                "x5c": ["MIIB"],
            }.items()
        },
        "an extension that must be understood": (
            lambda: assembled(header(crit=["exp"], exp=1), claims()),
            lambda: assembled(header(exp=1), claims()),
        ),
        "claims that were changed under their signature": (
            lambda: ".".join((issued().split(".")[0], part(claims(role="admin")), issued().split(".")[2])),
            lambda: assembled(header(), claims(role="admin")),
        ),
        **{
            f"without {name}": (
                lambda name=name: assembled(header(), {k: v for k, v in claims().items() if k != name}),
                lambda: assembled(header(), claims()),
            )
            for name in claims()
        },
        **{
            f"{name} null": (
                lambda name=name: assembled(header(), claims(**{name: None})),
                lambda: assembled(header(), claims()),
            )
            for name in claims()
        },
        "for someone else's issuer": (
            lambda: assembled(header(), claims(iss="https://attacker.example.org")),
            lambda: assembled(header(), claims(iss=ISSUER)),
        ),
        "for another audience": (
            lambda: assembled(header(), claims(aud="another-api")),
            lambda: assembled(header(), claims(aud=kind.audience)),
        ),
        "for many audiences": (
            lambda: assembled(header(), claims(aud=[kind.audience, "another-api"])),
            lambda: assembled(header(), claims(aud=kind.audience)),
        ),
        "expired beyond the leeway": (
            lambda: assembled(header(), claims(exp=ahead(seconds=-32))),
            lambda: assembled(header(), claims(exp=ahead(seconds=-28))),
        ),
        "issued in the future beyond the leeway": (
            lambda: assembled(header(), claims(iat=ahead(seconds=33))),
            lambda: assembled(header(), claims(iat=ahead(seconds=28))),
        ),
        "not valid yet": (
            lambda: assembled(header(), claims(nbf=ahead(seconds=33))),
            lambda: assembled(header(), claims(nbf=ahead(seconds=28))),
        ),
        "a refresh token": (lambda: secrets.token_urlsafe(32), issued),
        "encrypted, not signed": (
            lambda: ".".join([part({"alg": "dir", "enc": "A256GCM", "kid": "k1"}), "", "AAAA", "AAAA", "AAAA"]),
            issued,
        ),
        "as JSON": (lambda: json.dumps({"payload": part(claims()), "signatures": []}), issued),
        "with white space within": (lambda: issued().replace(".", " .", 1), issued),
        "with a part too many": (lambda: f"{issued()}.{hashlib.sha256(b'x').hexdigest()}", issued),
    }


ATTACKS = [
    pytest.param(kind, attack, id=f"{name}: {attack}")
    for name, kind in (("access", ACCESS), ("partner", PARTNER))
    for attack in attacks_on(kind)
]


@pytest.mark.parametrize(("kind", "attack"), ATTACKS)
def test_an_attackers_token_is_refused_and_the_same_without_the_attack_is_not(kind: Kind, attack: str) -> None:
    attackers, control = attacks_on(kind)[attack]

    with pytest.raises(UnauthenticatedError) as refused:
        kind.verify(attackers())

    assert refused.value.headers["WWW-Authenticate"].startswith("Bearer")
    assert kind.verify(control()) == 7


def test_neither_kind_of_token_passes_for_the_other() -> None:
    with pytest.raises(UnauthenticatedError):
        ACCESS.verify(partner_token())
    with pytest.raises(UnauthenticatedError):
        PARTNER.verify(access_token())


@pytest.mark.parametrize(
    ("claimed", "control"), [("events.cancel", "events.create"), ("events", "events.create"), ("", "events.create")]
)
def test_a_partner_token_is_for_the_commands_that_it_names(claimed: str, control: str) -> None:
    verifier = PartnerTokenVerifier(lambda: KEYS, issuer=ISSUER, audience=PARTNER_AUDIENCE)
    grant = verifier.verify(partner_token())

    with pytest.raises(ForbiddenError):
        grant.require(claimed, utc_now())
    grant.require(control, utc_now())


def test_a_partner_token_that_is_over_is_still_known_for_whose_it_was() -> None:
    """A command that it was good for may be delivered again, and is then answered as it was."""
    over = assembled(header(), PARTNER.claims(exp=ahead(days=-3)))

    grant = PartnerTokenVerifier(lambda: KEYS, issuer=ISSUER, audience=PARTNER_AUDIENCE).verify(over)

    assert (grant.partner, grant.caller.user_id) == ("acme", 7)
    with pytest.raises(UnauthenticatedError, match="expired"):
        grant.require("events.create", utc_now())
