"""Identity, connected to Postgres and Secrets Manager."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from eventsplatform.adapters.aws import FunctionClient, SecretStore
from eventsplatform.clock import utc_now
from eventsplatform.config import GateSettings, TokenSettings, WebClientSettings, read_setting
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.gate.revocations import LiveRevocations
from eventsplatform.gate.wiring import revocations
from eventsplatform.identity.account_mails import AccountMails, MailRequest
from eventsplatform.identity.administration import UserAdministration
from eventsplatform.identity.directory import PeopleDirectory
from eventsplatform.identity.housekeeping import Housekeeping
from eventsplatform.identity.partner_tokens import PartnerTokenIssuer, PartnerTokenVerifier
from eventsplatform.identity.partners import Partners
from eventsplatform.identity.personal_data import PersonalData
from eventsplatform.identity.profiles import Profiles
from eventsplatform.identity.rotation import AccessKeyRotation
from eventsplatform.identity.service import Identity, UserDirectory
from eventsplatform.identity.sessions import SessionCheck, Sessions, SessionTokens
from eventsplatform.identity.sign_in_limits import AttemptsInMemory, SignInLimits
from eventsplatform.identity.tokens import AccessTokenIssuer, AccessTokenVerifier
from eventsplatform.messaging.model import AuditRecord
from eventsplatform.observability import emit_metric, logger
from eventsplatform.personal_data import HeldQuestion, HeldRows
from eventsplatform.signing_keys import KeySet

if TYPE_CHECKING:
    from eventsplatform.identity.people_repository import PostgresPeople
    from eventsplatform.messaging.outbox import UnitOfWork

# The settings that name each service's function.
EXPORT_FUNCTIONS = {
    "catalog": "EXPORT_ORGANIZER_DATA_FUNCTION",
    "registrations": "EXPORT_ATTENDEE_DATA_FUNCTION",
    "messaging": "EXPORT_RECORDS_FUNCTION",
}


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


def _partner_verifier() -> PartnerTokenVerifier:
    settings, store = TokenSettings.from_environment(), SecretStore()
    return PartnerTokenVerifier(
        lambda: store.get_json(settings.keys_secret),
        issuer=settings.issuer,
        audience=settings.partner_audience,
        keys_anew=lambda: store.get_json_anew(settings.keys_secret),
    )


def _partners() -> Partners:
    from eventsplatform.adapters.postgres import database
    from eventsplatform.identity.sessions_repository import PostgresSessions
    from eventsplatform.messaging.outbox import unit_of_work

    def tokens() -> PartnerTokenIssuer:
        settings = TokenSettings.from_environment()
        return PartnerTokenIssuer(
            _keys(settings), issuer=settings.issuer, audience=settings.partner_audience, clock=utc_now
        )

    return Partners(unit_of_work(database(), PostgresSessions), tokens, utc_now)


class MailFunction:
    """Identity's function `send_account_mail`, invoked asynchronously."""

    def __init__(self, functions: FunctionClient) -> None:
        self._functions = functions

    def request(self, mail: MailRequest) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._functions.invoke_async(read_setting("SEND_ACCOUNT_MAIL_FUNCTION", str), mail.model_dump(mode="json"))
        except (BotoCoreError, ClientError) as error:
            logger.warning("a mail could not be asked for", extra={"purpose": mail.purpose, "error": str(error)})
            raise DependencyUnavailableError("mail service") from error


@cache
def _issuer() -> AccessTokenIssuer:
    settings = TokenSettings.from_environment()
    return AccessTokenIssuer(_keys(settings), issuer=settings.issuer, audience=settings.audience, clock=utc_now)


def _sign_in_limits() -> SignInLimits:
    from eventsplatform.adapters.redis import redis_client
    from eventsplatform.identity.attempts import RedisAttempts

    return SignInLimits(
        RedisAttempts(redis_client()),
        AttemptsInMemory(time.monotonic),
        time.monotonic,
        network_factor=GateSettings.from_environment().address_factor,
    )


def _identity() -> Identity:
    from eventsplatform.adapters.postgres import database
    from eventsplatform.identity.passwords import Argon2Passwords
    from eventsplatform.identity.repository import PostgresIdentity
    from eventsplatform.messaging.outbox import unit_of_work

    return Identity(
        unit_of_work(database(), PostgresIdentity),
        Argon2Passwords(),
        SessionTokens(_issuer, utc_now),
        _sign_in_limits(),
        revocations(),
        MailFunction(FunctionClient()),
        utc_now,
    )


def _directory() -> UserDirectory:
    from eventsplatform.adapters.postgres import database
    from eventsplatform.identity.repository import PostgresIdentity
    from eventsplatform.messaging.outbox import unit_of_work

    return UserDirectory(unit_of_work(database(), PostgresIdentity))


def _account_mails() -> AccountMails:
    from eventsplatform.adapters.mail import mailer
    from eventsplatform.adapters.postgres import database
    from eventsplatform.identity.repository import PostgresIdentity
    from eventsplatform.messaging.outbox import unit_of_work

    web_url = WebClientSettings.from_environment().url
    return AccountMails(unit_of_work(database(), PostgresIdentity), mailer().send, web_url, utc_now)


def _housekeeping() -> Housekeeping:
    from eventsplatform.adapters.postgres import database
    from eventsplatform.identity.housekeeping_repository import PostgresHousekeeping
    from eventsplatform.messaging.outbox import unit_of_work

    return Housekeeping(unit_of_work(database(), PostgresHousekeeping), utc_now)


def _rotation() -> AccessKeyRotation:
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

    return AccessKeyRotation(SecretsManagerVersions(), audit)


def _sessions() -> Sessions:
    from eventsplatform.adapters.postgres import database
    from eventsplatform.identity.passwords import Argon2Passwords
    from eventsplatform.identity.sessions_repository import PostgresSessions
    from eventsplatform.messaging.outbox import unit_of_work

    return Sessions(
        unit_of_work(database(), PostgresSessions),
        Argon2Passwords(),
        SessionTokens(_issuer, utc_now),
        _sign_in_limits(),
        revocations(),
        utc_now,
    )


def _session_check() -> SessionCheck:
    from eventsplatform.adapters.postgres import database
    from eventsplatform.identity.sessions_repository import PostgresSessions
    from eventsplatform.messaging.outbox import unit_of_work

    work, copy = unit_of_work(database(), PostgresSessions), revocations()

    def ended() -> LiveRevocations:
        with work.statement() as store:
            return store.live_revocations()

    return SessionCheck(work, lambda: copy.restore(ended))


class ExportFunction:
    """Another service's function that hands over what it holds about a person, invoked directly."""

    def __init__(self, functions: FunctionClient, setting: str) -> None:
        self._functions = functions
        self._setting = setting

    def held_about(self, user_id: int, after: Mapping[str, int] | None) -> HeldRows:
        question = HeldQuestion(user_id=user_id, after=dict(after) if after is not None else None)
        answer = self._functions.invoke(read_setting(self._setting, str), question.model_dump())
        return HeldRows.model_validate(answer)


def _work_of_people() -> UnitOfWork[PostgresPeople]:
    from eventsplatform.adapters.postgres import database
    from eventsplatform.identity.people_repository import PostgresPeople
    from eventsplatform.messaging.outbox import unit_of_work

    return unit_of_work(database(), PostgresPeople)


def _profiles() -> Profiles:
    from eventsplatform.adapters.outbound import outbound
    from eventsplatform.identity.profile_cache import RedisProfiles

    return Profiles(_work_of_people(), RedisProfiles(), outbound().refuse_private)


def _administration() -> UserAdministration:
    return UserAdministration(_work_of_people(), revocations())


def _people_directory() -> PeopleDirectory:
    return PeopleDirectory(_work_of_people())


def _personal_data() -> PersonalData:
    from eventsplatform.identity.passwords import Argon2Passwords
    from eventsplatform.identity.profile_cache import RedisProfiles

    functions = FunctionClient()
    return PersonalData(
        _work_of_people(),
        Argon2Passwords(),
        _sign_in_limits(),
        {name: ExportFunction(functions, setting) for name, setting in EXPORT_FUNCTIONS.items()},
        RedisProfiles(),
        revocations(),
        utc_now,
    )


FACTORIES: dict[type, Callable[[], Any]] = {
    AccessKeyRotation: _rotation,
    AccessTokenVerifier: _verifier,
    AccountMails: _account_mails,
    Housekeeping: _housekeeping,
    Identity: _identity,
    PartnerTokenVerifier: _partner_verifier,
    Partners: _partners,
    PeopleDirectory: _people_directory,
    PersonalData: _personal_data,
    Profiles: _profiles,
    SessionCheck: _session_check,
    Sessions: _sessions,
    UserAdministration: _administration,
    UserDirectory: _directory,
}
