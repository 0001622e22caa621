"""Rotating the signing keys in Secrets Manager, step by step as it asks for them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from eventsplatform.adapters import aws
from eventsplatform.adapters.aws import SECRETS_READ_AGAIN_SECONDS, SecretStore
from eventsplatform.adapters.secret_versions import SecretsManagerVersions
from eventsplatform.clock import utc_now
from eventsplatform.errors import UnauthenticatedError
from eventsplatform.identity.rotation import AccessKeyRotation
from eventsplatform.identity.tokens import LEEWAY, LIFETIME, AccessTokenIssuer, AccessTokenVerifier
from eventsplatform.key_rotation import RotationError
from eventsplatform.messaging.model import AuditRecord
from eventsplatform.signing_keys import KeySetError
from local.engines import Endpoints
from local.triggers.aws import aws_client
from tests.support.database import AUDIENCE, ISSUER
from tests.support.rotation import STEPS, begin_rotation, current_keys, end_rotation, rotate
from tests.unit.core.test_tokens import ADA

FIRST = {"active": "k1", "k1": "the key that the stack was made with, long enough"}


class Crash(Exception):
    """The function ends here, whatever it was about to do."""


class Keys:
    """One secret of signing keys, its rotation, and an issuer and a verifier that read it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.secret_id = f"keys-{uuid.uuid4()}"
        self.audited: list[AuditRecord] = []
        self.rotation = AccessKeyRotation(SecretsManagerVersions(), self.audited.append)
        aws_client("secretsmanager", endpoint).create_secret(Name=self.secret_id, SecretString=json.dumps(FIRST))

    @property
    def current(self) -> dict[str, str]:
        return current_keys(self.endpoint, self.secret_id)

    def rotate(self, times: int = 1) -> None:
        for _ in range(times):
            rotate(self.endpoint, self.secret_id, self.rotation.run)  # type: ignore[arg-type]

    def begin(self) -> str:
        return begin_rotation(self.endpoint, self.secret_id)

    def run(self, token: str, *steps: Any) -> None:
        for step in steps:
            self.rotation.run(step, self.secret_id, token)

    def token(self) -> str:
        """An access token signed with the key that is active now."""
        issuer = AccessTokenIssuer(lambda: self.current, issuer=ISSUER, audience=AUDIENCE, clock=utc_now)
        return issuer.issue(ADA, session_id="s-1", generation=0)

    def verifier(self) -> AccessTokenVerifier:
        """The verifier of an execution environment, which reads the secret for itself."""
        store = SecretStore()
        return AccessTokenVerifier(
            lambda: store.get_json(self.secret_id),
            issuer=ISSUER,
            audience=AUDIENCE,
            keys_anew=lambda: store.get_json_anew(self.secret_id),
        )


@pytest.fixture
def keys(endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keys]:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoints.moto,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }.items():
        monkeypatch.setenv(name, value)
    forget()
    yield Keys(endpoints.moto)
    forget()


def forget() -> None:
    for cached in (aws.client, aws._session, aws._secrets_provider):
        cached.cache_clear()


def is_accepted(verifier: AccessTokenVerifier, token: str) -> bool:
    try:
        return verifier.verify(token).user_id == ADA.id
    except UnauthenticatedError:
        return False


# What a rotation does ---------------------------------------------------------------------------


def test_the_first_rotation_of_a_secret_with_one_key_adds_the_next(keys: Keys) -> None:
    keys.rotate()

    assert keys.current["active"] == "k1"
    assert keys.current["k1"] == FIRST["k1"]
    assert set(keys.current) == {"active", "k1", "k2"}


def test_rotations_go_on_with_the_key_that_is_known_already(keys: Keys) -> None:
    keys.rotate()
    next_key = keys.current["k2"]

    keys.rotate()

    assert keys.current == {"active": "k2", "k1": FIRST["k1"], "k2": next_key, "k3": keys.current["k3"]}


def test_a_token_signed_before_a_rotation_verifies_after_it_and_no_more_after_the_overlap(keys: Keys) -> None:
    keys.rotate()
    token = keys.token()

    keys.rotate()
    assert keys.current["active"] == "k2"
    assert is_accepted(keys.verifier(), token)

    keys.rotate()
    forget()
    assert not is_accepted(keys.verifier(), token)


def test_an_environment_that_read_the_keys_before_a_rotation_knows_those_who_sign_after_it(keys: Keys) -> None:
    keys.rotate()
    warm = keys.verifier()
    assert is_accepted(warm, keys.token())
    asked_again = []
    warm._keys_anew = lambda: asked_again.append(1) or {}  # type: ignore[func-returns-value]

    keys.rotate()

    assert is_accepted(warm, keys.token())
    assert asked_again == []


def test_the_overlap_is_longer_than_a_token_lives() -> None:
    """The template rotates every 30 days; what is dropped then was last active 30 days before."""
    assert timedelta(days=30) > LIFETIME + LEEWAY


def test_an_unknown_key_is_looked_up_once_in_ten_seconds(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.rotate()
    warm = keys.verifier()
    assert is_accepted(warm, keys.token())
    keys.rotate(times=2)  # at once, as after a leak: the cached set has not the active key
    calls = count_reads(monkeypatch)

    fresh = keys.token()
    assert is_accepted(warm, fresh)
    assert len(calls) == 1

    stranger = forged_with_an_unknown_key()
    assert not any(is_accepted(warm, stranger) for _ in range(50))
    assert is_accepted(warm, fresh)
    assert len(calls) == 1

    later = time.monotonic() + SECRETS_READ_AGAIN_SECONDS + 1
    monkeypatch.setattr(aws.time, "monotonic", lambda: later)
    assert not any(is_accepted(warm, stranger) for _ in range(50))
    assert len(calls) == 2


def forged_with_an_unknown_key() -> str:
    strange = {"active": "k99", "k99": "a key that nobody has but who forges this"}
    return AccessTokenIssuer(lambda: strange, issuer=ISSUER, audience=AUDIENCE, clock=utc_now).issue(
        ADA, session_id="s-1", generation=0
    )


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collects the requests for the secret's value from now on."""
    client, calls = aws.client("secretsmanager"), []
    client.meta.events.register("before-call.secrets-manager.GetSecretValue", lambda **_: calls.append(1))
    return calls


# When it goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
def test_every_step_may_be_repeated(keys: Keys, step: str) -> None:
    token = keys.begin()
    for each in STEPS:
        keys.run(token, each)
        if each == step:
            pending = pending_value(keys, token)
            keys.run(token, *STEPS[: STEPS.index(step) + 1])
            assert pending_value(keys, token) == pending

    assert set(keys.current) == {"active", "k1", "k2"}


def pending_value(keys: Keys, token: str) -> Any:
    client = aws_client("secretsmanager", keys.endpoint)
    return client.get_secret_value(SecretId=keys.secret_id, VersionId=token)["SecretString"]


@pytest.mark.parametrize("call", ["describe_secret", "get_secret_value", "put_secret_value", "update"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_rotation_that_crashes_anywhere_is_finished_by_its_repeat(keys: Keys, call: str, after: bool) -> None:
    """Secrets Manager starts again at the first step, with the same token."""
    keys.rotate()
    signed_before, token = keys.token(), keys.begin()
    client = aws.client("secretsmanager")
    operation = {"update": "UpdateSecretVersionStage"}.get(call, "".join(w.capitalize() for w in call.split("_")))
    event = f"{'after' if after else 'before'}-call.secrets-manager.{operation}"

    def crash(**_: Any) -> None:
        raise Crash

    client.meta.events.register_first(event, crash)
    with pytest.raises(Crash):
        keys.run(token, *STEPS)
    client.meta.events.unregister(event, crash)
    assert is_accepted(keys.verifier(), signed_before)

    keys.run(token, *STEPS)
    end_rotation(keys.endpoint, keys.secret_id, token)

    assert keys.current["active"] == "k2"
    assert is_accepted(keys.verifier(), signed_before)
    assert is_accepted(keys.verifier(), keys.token())


def test_a_rotation_that_was_given_up_leaves_the_keys_as_they_were(keys: Keys) -> None:
    abandoned = keys.begin()
    keys.run(abandoned, "createSecret", "setSecret")
    end_rotation(keys.endpoint, keys.secret_id, abandoned)
    assert keys.current == FIRST

    keys.rotate()

    assert set(keys.current) == {"active", "k1", "k2"}


def test_a_secret_that_does_not_rotate_is_left_alone(keys: Keys) -> None:
    with pytest.raises(RotationError, match="not set to rotate"):
        keys.run(str(uuid.uuid4()), "createSecret")


def test_a_version_that_is_not_there_or_not_pending_is_refused(keys: Keys) -> None:
    keys.rotate()
    (previous,) = versions_with(keys, "AWSPREVIOUS")
    before = keys.current

    with pytest.raises(RotationError, match="has no version"):
        keys.run(str(uuid.uuid4()), "createSecret")
    with pytest.raises(RotationError, match="is not pending"):
        keys.run(previous, "finishSecret")

    assert keys.current == before


def versions_with(keys: Keys, stage: str) -> list[str]:
    described = aws_client("secretsmanager", keys.endpoint).describe_secret(SecretId=keys.secret_id)
    return [version for version, stages in described["VersionIdsToStages"].items() if stage in stages]


@pytest.mark.parametrize("step", ["testSecret", "finishSecret"])
@pytest.mark.parametrize(
    "pending",
    [
        {"active": "k9", "k9": "a key that no verifier knows, and none of those in use"},
        {"active": "k1", "k1": "another key under the name of the one that is in use now"},
        {"active": "k2", "k2": "the next key, without the one that tokens are signed with"},
    ],
    ids=["an unknown active key", "another key of the same name", "without the active key"],
)
def test_keys_that_would_log_everyone_out_are_not_taken(keys: Keys, pending: dict[str, str], step: str) -> None:
    token = keys.begin()
    aws_client("secretsmanager", keys.endpoint).put_secret_value(
        SecretId=keys.secret_id,
        ClientRequestToken=token,
        SecretString=json.dumps(pending),
        VersionStages=["AWSPENDING"],
    )

    with pytest.raises(RotationError, match="do not accept each other's"):
        keys.run(token, step)

    assert keys.current == FIRST


def test_a_secret_that_holds_no_keys_is_not_rotated(keys: Keys) -> None:
    aws_client("secretsmanager", keys.endpoint).put_secret_value(SecretId=keys.secret_id, SecretString="{}")

    with pytest.raises(KeySetError):
        keys.run(keys.begin(), "createSecret")


# What is left of it -----------------------------------------------------------------------------


def test_a_rotation_is_audited_with_key_ids_alone(keys: Keys) -> None:
    keys.rotate(times=2)

    last = keys.audited[-1]
    assert (last.action, last.subject_type, last.subject_id, last.actor_id) == (
        "signing_keys.rotated",
        "signing_key",
        2,
        None,
    )
    (version,) = versions_with(keys, "AWSCURRENT")
    assert last.details == {"version": version, "active": "k2", "keys": ["k1", "k2", "k3"]}
    assert not any(key in str(keys.audited) for name, key in keys.current.items() if name != "active")


def test_a_rotation_that_cannot_be_audited_takes_no_effect(keys: Keys) -> None:
    def refuse(_: AuditRecord) -> None:
        raise Crash

    keys.rotation = AccessKeyRotation(SecretsManagerVersions(), refuse)
    token = keys.begin()

    with pytest.raises(Crash):
        keys.run(token, *STEPS)

    assert keys.current == FIRST
