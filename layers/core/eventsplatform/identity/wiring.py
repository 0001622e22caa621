"""Identity, connected to Postgres and Secrets Manager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventsplatform.adapters.aws import SecretStore
from eventsplatform.clock import utc_now
from eventsplatform.config import TokenSettings
from eventsplatform.identity.service import Identity
from eventsplatform.identity.tokens import AccessTokenIssuer, AccessTokenVerifier, KeySet


def _keys(settings: TokenSettings) -> Callable[[], KeySet]:
    store = SecretStore()
    return lambda: store.get_json(settings.keys_secret)


def _verifier() -> AccessTokenVerifier:
    settings = TokenSettings.from_environment()
    return AccessTokenVerifier(_keys(settings), issuer=settings.issuer, audience=settings.audience)


def _identity() -> Identity:
    from eventsplatform.adapters.postgres import database
    from eventsplatform.identity.passwords import Argon2Passwords
    from eventsplatform.identity.repository import PostgresIdentity
    from eventsplatform.messaging.outbox import unit_of_work

    settings = TokenSettings.from_environment()
    issuer = AccessTokenIssuer(_keys(settings), issuer=settings.issuer, audience=settings.audience, clock=utc_now)
    return Identity(unit_of_work(database(), PostgresIdentity), Argon2Passwords(), issuer, utc_now)


FACTORIES: dict[type, Callable[[], Any]] = {Identity: _identity, AccessTokenVerifier: _verifier}
