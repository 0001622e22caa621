"""The request in hand, when its sender named it: it has its effect once.

Over HTTP it is named by an `Idempotency-Key` (https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/),
as a message by its source and id. An entrypoint says which request is being handled; whatever keeps the record of its
effect (`messaging.outbox.UnitOfWork.run`) asks for it here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from eventsplatform.errors import FieldError, MalformedRequestError

KEY_MAXIMUM = 255

# Where records of requests are kept in a service's schema, and for how long. Clients repeat a request for a day. Kafka
# keeps messages for seven days, and lets go of whole segments: what is older can't come again.
Table = Literal["idempotency_keys", "inbox"]
KEPT_FOR: dict[Table, timedelta] = {"idempotency_keys": timedelta(hours=24), "inbox": timedelta(days=8)}

# OWASP's scrypt parameters: a body may hold a password, of which no fast hash may be kept.
_SCRYPT = {"n": 2**14, "r": 8, "p": 5, "maxmem": 64 * 2**20}


@dataclass
class NamedRequest:
    """A request with a name of its own.

    `id` (32 bytes) stands for caller, method, path and key, or for whose message it is; `fingerprint` (32 bytes) for
    what was sent. `seal` (32 bytes) encrypts an answer that holds secrets: it comes from the request's own secrets and
    is kept nowhere. `replayed` becomes true when the answer is that of an earlier request. Its record is in `table`.
    """

    id: bytes
    fingerprint: bytes
    seal: bytes | None = None
    replayed: bool = False
    settled: bool = False
    table: Table = "idempotency_keys"

    @classmethod
    def of(cls, *, caller: str, method: str, path: str, key: str, content: bytes, secret: bool) -> NamedRequest:
        """Raises MalformedRequestError for a key that is not 1 to 255 printable ASCII characters."""
        if not 1 <= len(key) <= KEY_MAXIMUM or not (key.isascii() and key.isprintable()):
            detail = f"must be 1 to {KEY_MAXIMUM} printable ASCII characters"
            raise MalformedRequestError(
                f"Idempotency-Key {detail}.", errors=[FieldError("/header/idempotency-key", detail).as_dict()]
            )
        # None of the parts can have a NUL, so that no two requests share an id.
        identity = hashlib.sha256("\0".join((caller, method, path, key)).encode()).digest()
        if not secret:
            return cls(identity, hashlib.sha256(content).digest())
        derived = hashlib.scrypt(content, salt=identity, dklen=64, **_SCRYPT)
        return cls(identity, derived[:32], derived[32:])


_current: ContextVar[NamedRequest | None] = ContextVar("named_request", default=None)


def named_request() -> NamedRequest | None:
    """The request in hand, if its sender named it."""
    return _current.get()


@contextmanager
def handling_request(request: NamedRequest | None) -> Iterator[None]:
    token = _current.set(request)
    try:
        yield
    finally:
        _current.reset(token)
