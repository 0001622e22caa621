"""Which form of an answer a client is given: proactive negotiation by `Accept` (RFC 9110 §12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from eventsplatform.errors import NotAcceptableError

_QUALITY = re.compile(r"[Qq]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def negotiate(accept: str, offered: Sequence[str], *, binary: Sequence[str] = ()) -> str:
    """The media type, of those offered, that the client prefers; the first of those it likes as much.

    Parameters other than `q` are not looked at, and a range that is none counts for nothing. Without any range
    everything is acceptable. Those that are `binary` are offered only to whom API Gateway gives bytes.

    Raises NotAcceptableError when nothing offered is acceptable.
    """
    offered = [each for each in offered if each not in binary or is_preferred_binary(accept, each)]
    ranges = [each for each in map(_read, accept.split(",")) if each is not None]
    if not ranges:
        return offered[0]
    best = max(offered, key=lambda media_type: _quality(media_type, ranges))
    if _quality(best, ranges) == 0:
        raise NotAcceptableError(f"Accept is {accept[:100]!r}; there is {', '.join(offered)}.")
    return best


def is_preferred_binary(accept: str, media_type: str) -> bool:
    """Whether API Gateway would make bytes of such an answer: it looks at the first media type of `Accept` alone.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/lambda-proxy-binary-media.html
    """
    return accept.partition(",")[0].partition(";")[0].strip().lower() == media_type


def _read(text: str) -> tuple[str, float] | None:
    media_range, *parameters = (part.strip() for part in text.split(";"))
    if media_range.count("/") != 1:
        return None
    qualities = [match[1] for match in map(_QUALITY.fullmatch, parameters) if match]
    return media_range.lower(), float(qualities[-1]) if qualities else 1.0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """That of the range which names it most closely."""
    for pattern in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        found = [quality for media_range, quality in ranges if media_range == pattern]
        if found:
            return max(found)
    return 0.0
