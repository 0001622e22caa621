"""A set of keys that sign, and how it changes from one rotation to the next.

A set is `{"active": "k2", "k1": "<previous>", "k2": "<active>", "k3": "<next>"}`. Each rotation activates the key
that the one before it added, so every verifier has long known a key when it begins to sign: nothing waits in a
rotation. The key that was active verifies until the next rotation, which drops it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

KeySet = Mapping[str, str]

# A key shorter than its hash is refused for HS256 (RFC 7518 §3.2).
KEY_BYTES_MINIMUM = 32

_KEY_ID = re.compile(r"k([1-9][0-9]{0,8})")


class KeySetError(ValueError):
    """What should be a set of keys is none. The message names key ids, never a key."""


def read_key_set(content: Any) -> dict[str, str]:
    """`content` as a set of keys. Raises KeySetError."""
    if not isinstance(content, dict) or content.get("active") not in content.keys() - {"active"}:
        raise KeySetError("A set of keys is an object whose `active` names one of its keys.")
    for name, key in content.items():
        if name == "active":
            continue
        key_number(name)
        if not isinstance(key, str) or len(key.encode()) < KEY_BYTES_MINIMUM:
            raise KeySetError(f"The key {name} is not a text of at least {KEY_BYTES_MINIMUM} bytes.")
    return content


def rotated(keys: KeySet, fresh_key: str) -> dict[str, str]:
    """The set after the next rotation: the next key active, the active one previous, `fresh_key` next.

    A set without a next key, as it is first made, only gets one: a key must be known before it signs.
    """
    ids = sorted((name for name in keys if name != "active"), key=key_number)
    active = keys["active"]
    following = [name for name in ids if key_number(name) > key_number(active)]
    fresh = f"k{key_number(ids[-1]) + 1}"
    kept = [active, following[0]] if following else ids
    return {
        "active": following[0] if following else active,
        **{name: keys[name] for name in kept},
        fresh: fresh_key,
    }


def key_number(key_id: str) -> int:
    """`k3` → 3: later keys have greater numbers. Raises KeySetError."""
    match = _KEY_ID.fullmatch(key_id)
    if match is None:
        raise KeySetError(f"{key_id[:20]!r} is no key id; allowed: k1, k2, …")
    return int(match[1])
