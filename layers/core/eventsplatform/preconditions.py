"""Conditional requests: `If-Match` and `If-None-Match` against an entity tag (RFC 9110 §13.1)."""

from __future__ import annotations

import re

from eventsplatform.errors import PreconditionFailedError

_TAG = re.compile(r'(W/)?("[^"]*")')


def require_match(if_match: str | None, etag: str) -> None:
    """Raises PreconditionFailedError unless the header is absent, `*` or lists this tag.

    The comparison is strong: a weak tag says that two representations are alike, not that they are the same.
    """
    if if_match is None or if_match.strip() == "*":
        return
    strong = {tag for weak, tag in _TAG.findall(if_match) if not weak}
    if etag not in strong:
        raise PreconditionFailedError(
            f"If-Match is {if_match[:100]!r} and the resource is now at {etag}; read it again."
        )


def is_unchanged(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this representation already: `If-None-Match` is `*` or lists its tag.

    The comparison is weak (RFC 9110 §13.1.2): caches may have made a strong tag weak.
    """
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag.removeprefix("W/") in {tag for _, tag in _TAG.findall(if_none_match)}
