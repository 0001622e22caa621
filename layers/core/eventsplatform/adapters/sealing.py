"""Secrets that the platform has to use again, sealed for the database with a key that Secrets Manager keeps.

A set of keys is `{"active": "k2", "k1": "…", "k2": "…"}`: the active one seals, and a text names the one that opens it,
so a key can be replaced while there are texts that it sealed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

Keys = Callable[[], Mapping[str, str]]


class Sealing:
    """`keys` may be some minutes old; `keys_anew` is asked for a key that they do not have.

    Reading keys may be a call: nothing here may be used in a transaction. Raises DependencyUnavailableError while
    there are none.
    """

    def __init__(self, keys: Keys, keys_anew: Keys | None = None) -> None:
        self._keys = keys
        self._keys_anew = keys_anew or keys

    def seal(self, text: str) -> str:
        keys = self._keys()
        return f"{keys['active']}.{_fernet(keys[keys['active']]).encrypt(text.encode()).decode()}"

    def open(self, sealed: str) -> str:
        """Raises KeyError when the key is gone, cryptography's InvalidToken for a text that was not sealed by it."""
        key_id, _, token = sealed.partition(".")
        keys = self._keys()
        if key_id not in keys:
            keys = self._keys_anew()
        opened: bytes = _fernet(keys[key_id]).decrypt(token)
        return opened.decode()

    def active_prefix(self) -> str:
        """How texts begin that are sealed with the key that is active."""
        return f"{self._keys()['active']}."


def _fernet(key: str) -> Any:
    from cryptography.fernet import Fernet  # loaded by who seals or opens something: it costs their cold start alone

    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()))
