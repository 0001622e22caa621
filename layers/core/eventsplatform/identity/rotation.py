"""Rotating the keys that sign access tokens."""

from __future__ import annotations

from collections.abc import Callable

import jwt

from eventsplatform.identity.tokens import ALGORITHM
from eventsplatform.key_rotation import KeyRotation, SecretVersions, details
from eventsplatform.messaging.model import AuditRecord
from eventsplatform.signing_keys import KeySet, key_number


class AccessKeyRotation(KeyRotation):
    def __init__(self, versions: SecretVersions, audit: Callable[[AuditRecord], None]) -> None:
        super().__init__(versions)
        self._audit = audit

    def accepts(self, verifier: KeySet, signer: KeySet) -> bool:
        kid = signer["active"]
        token = jwt.encode({"sub": "rotation"}, signer[kid], ALGORITHM, headers={"kid": kid})
        try:
            return kid in verifier and bool(jwt.decode(token, verifier[kid], algorithms=[ALGORITHM]))
        except jwt.InvalidTokenError:
            return False

    def announce(self, pending: KeySet, version: str) -> None:
        self._audit(
            AuditRecord(
                action="signing_keys.rotated",
                subject_type="signing_key",
                subject_id=key_number(pending["active"]),
                actor_id=None,
                details=details(pending, version),
            )
        )
