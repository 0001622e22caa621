"""Password hashing with argon2id (OWASP Password Storage Cheat Sheet: 19 MiB, 2 passes, 1 lane)."""

from __future__ import annotations

import unicodedata
from functools import cached_property

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError


class Argon2Passwords:
    def __init__(self, *, memory_kib: int = 19_456, passes: int = 2) -> None:
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=1)

    def hash(self, password: str) -> str:
        return self._hasher.hash(_normalised(password))

    def matches(self, encoded: str | None, password: str) -> bool:
        """An absent hash costs the same time as a present one, so timing does not tell who has an account."""
        try:
            self._hasher.verify(encoded or self._decoy, _normalised(password))
        except (VerificationError, InvalidHashError):
            return False
        return encoded is not None

    def is_outdated(self, encoded: str) -> bool:
        """Whether the hash was made with other parameters than new ones are."""
        return self._hasher.check_needs_rehash(encoded)

    @cached_property
    def _decoy(self) -> str:
        return self._hasher.hash("no account has this password")


def _normalised(password: str) -> str:
    """The same characters, typed on another keyboard, are the same password."""
    return unicodedata.normalize("NFC", password)
