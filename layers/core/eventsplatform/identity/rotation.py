"""Rotating the keys that sign access tokens, in the four steps that Secrets Manager asks for.

Secrets Manager invokes each step at least once, repeats a rotation from its first step when one failed, and gives
the version that is made a token, which is its id. So every step looks at what is there and does what is missing.
https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import jwt

from eventsplatform.identity.signing_keys import KeySet, key_number, read_key_set, rotated
from eventsplatform.identity.tokens import ALGORITHM
from eventsplatform.messaging.model import AuditRecord

Step = Literal["createSecret", "setSecret", "testSecret", "finishSecret"]

CURRENT, PENDING = "AWSCURRENT", "AWSPENDING"


class RotationError(Exception):
    """A step cannot be done; Secrets Manager counts the rotation as failed, and the current keys stay."""


class SecretVersions(Protocol):
    """A secret's versions, as Secrets Manager keeps them."""

    def stages(self, secret_id: str) -> tuple[bool, Mapping[str, frozenset[str]]]:
        """Whether the secret rotates at all, and the staging labels of each of its versions."""

    def read(self, secret_id: str, *, stage: str, version: str | None = None) -> str | None:
        """The value, None when the version has none yet or not this label."""

    def put_pending(self, secret_id: str, version: str, value: str) -> None:
        """Give the version its value; one that already has a value keeps it."""

    def make_current(self, secret_id: str, version: str, *, instead_of: str | None) -> None: ...


class KeyRotation:
    """`audit` is told of a rotation before it takes effect, so that none goes unrecorded; a repeat tells it again."""

    def __init__(
        self,
        versions: SecretVersions,
        audit: Callable[[AuditRecord], None],
        fresh_key: Callable[[], str] = lambda: secrets.token_urlsafe(48),
    ) -> None:
        self._versions = versions
        self._audit = audit
        self._fresh_key = fresh_key

    def run(self, step: Step, secret_id: str, token: str) -> None:
        """Do one step. Raises RotationError, KeySetError and what the store raises."""
        rotates, stages = self._versions.stages(secret_id)
        if not rotates:
            raise RotationError("The secret is not set to rotate.")
        if token not in stages:
            raise RotationError(f"The secret has no version {token}.")
        if CURRENT in stages[token]:
            return  # finished before
        if PENDING not in stages[token]:
            raise RotationError(f"The version {token} is not pending.")
        match step:
            case "createSecret":
                self._create(secret_id, token)
            case "setSecret":
                pass  # no other system keeps these keys
            case "testSecret":
                self._test(secret_id, token)
            case "finishSecret":
                self._finish(secret_id, token, next((id_ for id_, names in stages.items() if CURRENT in names), None))

    def _create(self, secret_id: str, token: str) -> None:
        if self._versions.read(secret_id, stage=PENDING, version=token) is None:
            pending = rotated(self._keys(secret_id, CURRENT), self._fresh_key())
            self._versions.put_pending(secret_id, token, json.dumps(pending))

    def _test(self, secret_id: str, token: str) -> dict[str, str]:
        """Both sets must accept each other's tokens: environments read them minutes apart."""
        current = self._keys(secret_id, CURRENT)
        pending = self._keys(secret_id, PENDING, token)
        for signer, verifier in ((pending, pending), (pending, current), (current, pending)):
            if not _accepts(verifier, _signed(signer)):
                raise RotationError("The current and the pending keys do not accept each other's tokens.")
        return pending

    def _finish(self, secret_id: str, token: str, current: str | None) -> None:
        # Tested again, for keys that are moved by hand meanwhile must not log everyone out.
        pending = self._test(secret_id, token)
        self._audit(
            AuditRecord(
                action="signing_keys.rotated",
                subject_type="signing_key",
                subject_id=key_number(pending["active"]),
                actor_id=None,
                # Key ids, never keys.
                details={
                    "version": token,
                    "active": pending["active"],
                    "keys": sorted(pending.keys() - {"active"}, key=key_number),
                },
            )
        )
        self._versions.make_current(secret_id, token, instead_of=current)

    def _keys(self, secret_id: str, stage: str, version: str | None = None) -> dict[str, str]:
        value = self._versions.read(secret_id, stage=stage, version=version)
        if value is None:
            raise RotationError(f"The secret has no {stage} value.")
        return read_key_set(json.loads(value))


def _signed(keys: KeySet) -> str:
    return jwt.encode({"sub": "rotation"}, keys[keys["active"]], ALGORITHM, headers={"kid": keys["active"]})


def _accepts(keys: KeySet, token: str) -> bool:
    key = keys.get(jwt.get_unverified_header(token)["kid"])
    try:
        return key is not None and bool(jwt.decode(token, key, algorithms=[ALGORITHM]))
    except jwt.InvalidTokenError:
        return False
