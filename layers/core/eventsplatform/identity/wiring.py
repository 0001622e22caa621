"""Identity, connected to Postgres and Secrets Manager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventsplatform.adapters.aws import SecretStore
from eventsplatform.clock import utc_now
from eventsplatform.config import TokenSettings
from eventsplatform.identity.rotation import KeyRotation
from eventsplatform.identity.service import Identity
from eventsplatform.identity.sessions import Sessions
from eventsplatform.identity.signing_keys import KeySet
from eventsplatform.identity.tokens import AccessTokenIssuer, AccessTokenVerifier
from eventsplatform.messaging.model import AuditRecord
from eventsplatform.observability import emit_metric, logger


def _keys(settings: TokenSettings) -> Callable[[], KeySet]:
    store = SecretStore()
    return lambda: store.get_json(settings.keys_secret)


def _verifier() -> AccessTokenVerifier:
    settings, store = TokenSettings.from_environment(), SecretStore()
    return AccessTokenVerifier(
        lambda: store.get_json(settings.keys_secret),
        issuer=settings.issuer,
        audience=settings.audience,
        keys_anew=lambda: store.get_json_anew(settings.keys_secret),
    )


def _identity() -> Identity:
    from eventsplatform.adapters.postgres import database
    from eventsplatform.identity.passwords import Argon2Passwords
    from eventsplatform.identity.repository import PostgresIdentity
    from eventsplatform.messaging.outbox import unit_of_work

    settings = TokenSettings.from_environment()
    issuer = AccessTokenIssuer(_keys(settings), issuer=settings.issuer, audience=settings.audience, clock=utc_now)
    return Identity(unit_of_work(database(), PostgresIdentity), Argon2Passwords(), issuer, utc_now)


def _rotation() -> KeyRotation:
    from eventsplatform.adapters.postgres import database
    from eventsplatform.adapters.secret_versions import SecretsManagerVersions
    from eventsplatform.identity.repository import PostgresIdentity
    from eventsplatform.messaging.outbox import unit_of_work

    work = unit_of_work(database(), PostgresIdentity)

    def audit(record: AuditRecord) -> None:
        with work() as (_, outbox):
            outbox.record(record)
        logger.info("the signing keys rotate", extra=dict(record.details))
        emit_metric("signing_key_rotations_total", 1)

    return KeyRotation(SecretsManagerVersions(), audit)


def _sessions() -> Sessions:
    from eventsplatform.adapters.postgres import database
    from eventsplatform.adapters.redis import redis_client
    from eventsplatform.gate.revocations import LiveRevocations, Revocations
    from eventsplatform.identity.sessions_repository import PostgresSessions
    from eventsplatform.messaging.outbox import unit_of_work

    work = unit_of_work(database(), PostgresSessions)
    revocations = Revocations(redis_client())

    def ended() -> LiveRevocations:
        with work.statement() as store:
            return store.live_revocations()

    return Sessions(work, lambda: revocations.restore(ended))


FACTORIES: dict[type, Callable[[], Any]] = {
    AccessTokenVerifier: _verifier,
    Identity: _identity,
    KeyRotation: _rotation,
    Sessions: _sessions,
}
