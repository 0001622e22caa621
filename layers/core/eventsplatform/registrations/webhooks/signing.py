"""How a webhook is signed, and when it is tried again (Standard Webhooks 1.0.0).

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

SECRET_PREFIX = "whsec_"  # noqa: S105  how secrets begin
SECRET_BYTES = 32

# How long after each try the next one is due. After the last there is none: three days have passed.
RETRY_AFTER = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
# A receiver may ask for more time, and not for ever.
ASKED_MAXIMUM = timedelta(hours=24)
# By how much a wait may be longer, so that what failed together does not come back together.
JITTER = 0.2


def new_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(message_id: str, body: bytes, signing_secrets: Sequence[str], now: datetime) -> dict[str, str]:
    """The three headers. Each secret makes a signature: a receiver needs to know one of them."""
    timestamp = str(int(now.timestamp()))
    content = b".".join((message_id.encode(), timestamp.encode(), body))
    signatures = (_signature(secret, content) for secret in signing_secrets)
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": " ".join(signatures)}


def next_wait(attempt: int, *, asked: timedelta | None, jitter: float) -> timedelta | None:
    """How long to wait after a failed attempt, counted from 1; None when it was the last.

    `asked` is what the receiver asks for, `jitter` a number from 0 to 1.
    """
    if attempt > len(RETRY_AFTER):
        return None
    planned = RETRY_AFTER[attempt - 1] * (1 + JITTER * jitter)
    return max(planned, min(asked, ASKED_MAXIMUM)) if asked else planned


def asked_wait(retry_after: str | None, now: datetime) -> timedelta | None:
    """What a Retry-After header asks for: seconds or a moment (RFC 9110 §10.2.3); None for anything else."""
    if not retry_after:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return timedelta(seconds=min(int(retry_after[:9]), ASKED_MAXIMUM.total_seconds()))
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(timedelta(0), moment.replace(tzinfo=moment.tzinfo or UTC) - now)


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
