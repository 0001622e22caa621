"""The keys that sign tickets: they rotate in Secrets Manager, and those who verify know each in time."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest

from eventsplatform.adapters.aws import SecretStore
from eventsplatform.adapters.postgres import Database
from eventsplatform.adapters.secret_versions import SecretsManagerVersions
from eventsplatform.clock import utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.errors import InvalidInputError
from eventsplatform.key_rotation import RotationError
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.registrations.admission.model import DoorQuery
from eventsplatform.registrations.admission.repository import PostgresAdmission
from eventsplatform.registrations.admission.rotation import TicketKeyRotation
from eventsplatform.registrations.admission.tickets import Tickets
from eventsplatform.registrations.admission.tokens import TicketReader, public_keys
from local.engines import Endpoints
from local.triggers.aws import aws_client
from tests.integration.core.test_key_rotation import forget
from tests.support.callers import caller
from tests.support.database import SHARDS, Services, administrator, services
from tests.support.doors import ticket
from tests.support.rotation import STEPS, begin_rotation, current_keys, end_rotation, rotate

ORGANIZER, ADA = 81, 91
FIRST = {"active": "k1", "k1": "what Secrets Manager makes up when the stack is made"}


class Keys:
    """A secret of the keys, its rotation, and environments that sign and verify."""

    def __init__(self, endpoint: str, url: str, running: Services) -> None:
        self.endpoint, self.url, self.running = endpoint, url, running
        self.secret_id = f"ticket-keys-{uuid.uuid4()}"
        self.databases: list[Database] = []
        self.rotation = TicketKeyRotation(SecretsManagerVersions(), self.work())
        aws_client("secretsmanager", endpoint).create_secret(Name=self.secret_id, SecretString=json.dumps(FIRST))
        self.event_id = running.published_event(ORGANIZER)
        self.registration_id = running.registrations.register(self.event_id, caller(ADA)).id

    def work(self) -> UnitOfWork[PostgresAdmission]:
        self.databases.append(Database(DatabaseSettings(self.url, "registrations", False)))
        return UnitOfWork(self.databases[-1], PostgresAdmission, lambda _: None, SHARDS)

    def signer(self) -> Tickets:
        """An execution environment that has not read the secret yet."""
        forget()
        store = SecretStore()
        return Tickets(
            self.work(),
            lambda: store.get_json(self.secret_id),
            lambda: store.get_json_anew(self.secret_id),
            self.running.registrations.facts_of,
            utc_now,
        )

    def token(self, signer: Tickets | None = None) -> str:
        return (signer or self.signer()).of(self.registration_id, caller(ADA)).token

    def rotate(self, times: int = 1) -> None:
        for _ in range(times):
            rotate(self.endpoint, self.secret_id, self.rotation.run)  # type: ignore[arg-type]

    @property
    def current(self) -> dict[str, str]:
        return current_keys(self.endpoint, self.secret_id)

    @property
    def published(self) -> list[str]:
        """The ids of the keys that devices are given."""
        bundle = self.running.check_ins.bundle(self.event_id, DoorQuery(), caller(ORGANIZER))
        return [key.kid for key in bundle.keys]

    def is_good(self, token: str) -> bool:
        """Offline: with the bundle and nothing else."""
        bundle = self.running.check_ins.bundle(self.event_id, DoorQuery(), caller(ORGANIZER))
        try:
            return TicketReader(bundle.keys).read(token).registration_id == self.registration_id
        except Exception:
            return False


@pytest.fixture
def keys(endpoints: Endpoints, migrated_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keys]:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoints.moto,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }.items():
        monkeypatch.setenv(name, value)
    forget()
    with administrator(migrated_database) as connection:
        connection.execute("TRUNCATE registrations.ticket_keys")
    with services(migrated_database) as running:
        made = Keys(endpoints.moto, migrated_database, running)
        yield made
        for database in made.databases:
            database.close()
    with administrator(migrated_database) as connection:
        connection.execute("TRUNCATE registrations.ticket_keys")
    forget()


def test_the_first_to_sign_publishes_the_keys_and_nobody_after_it_does(keys: Keys) -> None:
    assert keys.published == []

    token = keys.token()

    assert keys.published == ["k1"]
    assert keys.is_good(token)


def test_tickets_go_on_being_good_while_their_keys_rotate(keys: Keys) -> None:
    first = keys.token()
    keys.rotate()
    assert (keys.current["active"], keys.published) == ("k1", ["k1", "k2"])

    keys.rotate()
    second = keys.token()

    assert keys.published == ["k1", "k2", "k3"]
    assert first != second
    assert keys.is_good(first)
    assert keys.is_good(second)
    keys.running.check_ins.check_in(keys.event_id, ticket(second), caller(ORGANIZER))


def test_whoever_signs_with_the_next_key_is_known_before(keys: Keys) -> None:
    """A device that took its bundle before a rotation verifies what is signed after it."""
    keys.rotate()
    keys.token()
    bundle = keys.running.check_ins.bundle(keys.event_id, DoorQuery(), caller(ORGANIZER))

    keys.rotate()

    assert TicketReader(bundle.keys).read(keys.token()).registration_id == keys.registration_id


def test_a_key_that_has_leaked_is_dropped_by_rotating_twice(keys: Keys) -> None:
    """And a ticket that is asked for again is good again, though the environment still has the keys from before."""
    keys.rotate()
    signer = keys.signer()
    leaked = keys.token(signer)
    assert keys.is_good(leaked)

    keys.rotate(2)

    assert "k1" not in keys.published
    assert not keys.is_good(leaked)
    with pytest.raises(InvalidInputError):
        keys.running.check_ins.check_in(keys.event_id, ticket(leaked), caller(ORGANIZER))
    assert keys.is_good(keys.token())


def test_an_environment_with_keys_from_before_publishes_none_of_them_again(keys: Keys) -> None:
    keys.rotate()
    late = keys.signer()
    late._keys = lambda: FIRST
    keys.rotate(2)

    token = keys.token(late)

    assert "k1" not in keys.published
    assert keys.is_good(token), "it has read the secret anew"


def test_a_rotation_that_crashed_before_it_took_effect_leaves_both_sets_good(keys: Keys) -> None:
    keys.rotate(2)
    before = keys.token()
    token = begin_rotation(keys.endpoint, keys.secret_id)
    for step in STEPS[:3]:
        keys.rotation.run(step, keys.secret_id, token)  # type: ignore[arg-type]
    keys.rotation.announce(json.loads(pending(keys, token)), token)

    assert keys.is_good(before), "signed with the key that is still active"
    assert keys.is_good(keys.token())

    keys.rotation.run("finishSecret", keys.secret_id, token)
    end_rotation(keys.endpoint, keys.secret_id, token)
    assert keys.is_good(before)
    assert keys.is_good(keys.token())


def test_keys_that_do_not_fit_the_ones_before_never_take_effect(keys: Keys) -> None:
    keys.rotate()
    before = keys.current
    token = begin_rotation(keys.endpoint, keys.secret_id)
    other = {**before, "active": "k2", "k2": "another text than the one that has been published as k2"}
    client = aws_client("secretsmanager", keys.endpoint)
    client.put_secret_value(
        SecretId=keys.secret_id,
        ClientRequestToken=token,
        SecretString=json.dumps(other),
        VersionStages=["AWSPENDING"],
    )

    with pytest.raises(RotationError):
        keys.rotation.run("finishSecret", keys.secret_id, token)

    assert keys.current == before


def test_a_rotation_is_audited_with_key_ids_alone(keys: Keys, migrated_database: str) -> None:
    keys.rotate(2)

    with administrator(migrated_database) as connection:
        row = connection.execute(
            "SELECT * FROM messaging.audit_log WHERE action = 'ticket_keys.rotated' ORDER BY id DESC LIMIT 1"
        ).fetchone()
    assert row is not None
    assert (row["subject_type"], row["subject_id"], row["actor_id"]) == ("ticket_key", 2, None)
    assert row["details"]["keys"] == ["k1", "k2", "k3"]
    assert not any(text in str(row) for text in keys.current.values() if not text.startswith("k"))


def test_public_halves_are_all_that_the_database_has(keys: Keys, migrated_database: str) -> None:
    keys.rotate(2)

    with administrator(migrated_database) as connection:
        rows = connection.execute("SELECT kid, x FROM registrations.ticket_keys ORDER BY kid").fetchall()
    assert [(row["kid"], row["x"]) for row in rows] == [(key.kid, key.x) for key in public_keys(keys.current)]


def pending(keys: Keys, token: str) -> str:
    client = aws_client("secretsmanager", keys.endpoint)
    value: str = client.get_secret_value(SecretId=keys.secret_id, VersionId=token, VersionStage="AWSPENDING")[
        "SecretString"
    ]
    return value
