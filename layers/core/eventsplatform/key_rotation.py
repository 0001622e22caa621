"""Rotating a set of signing keys, in the four steps that Secrets Manager asks for.

Secrets Manager invokes each step at least once, repeats a rotation from its first step when one failed, and gives
the version that is made a token, which is its id. So every step looks at what is there and does what is missing.
https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html
"""

from __future__ import annotations

import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from pydantic import BaseModel, Field

from eventsplatform.signing_keys import KeySet, key_number, read_key_set, rotated

Step = Literal["createSecret", "setSecret", "testSecret", "finishSecret"]

CURRENT, PENDING = "AWSCURRENT", "AWSPENDING"


class RotationStep(BaseModel):
    """What Secrets Manager invokes a rotation's function with."""

    step: Step = Field(alias="Step")
    secret_id: str = Field(alias="SecretId")
    token: str = Field(alias="ClientRequestToken")


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


class KeyRotation(ABC):
    """What the keys are for is said by who uses them: how to try them out, and whom to tell of a rotation."""

    def __init__(
        self, versions: SecretVersions, fresh_key: Callable[[], str] = lambda: secrets.token_urlsafe(48)
    ) -> None:
        self._versions = versions
        self._fresh_key = fresh_key

    @abstractmethod
    def accepts(self, verifier: KeySet, signer: KeySet) -> bool:
        """Whether what is signed with the active key of one set is accepted with the keys of another."""

    @abstractmethod
    def announce(self, pending: KeySet, version: str) -> None:
        """Tell of the rotation to this set: before it takes effect, and in a repeat again, so that each is known of."""

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
            if not self.accepts(verifier, signer):
                raise RotationError("The current and the pending keys do not accept each other's tokens.")
        return pending

    def _finish(self, secret_id: str, token: str, current: str | None) -> None:
        # Tested again, for what was signed must stay good when keys are moved by hand meanwhile.
        pending = self._test(secret_id, token)
        self.announce(pending, token)
        self._versions.make_current(secret_id, token, instead_of=current)

    def _keys(self, secret_id: str, stage: str, version: str | None = None) -> dict[str, str]:
        value = self._versions.read(secret_id, stage=stage, version=version)
        if value is None:
            raise RotationError(f"The secret has no {stage} value.")
        return read_key_set(json.loads(value))


def details(pending: KeySet, version: str) -> dict[str, Any]:
    """What may be said of a rotation: key ids, never keys."""
    return {
        "version": version,
        "active": pending["active"],
        "keys": sorted(pending.keys() - {"active"}, key=key_number),
    }
