"""What a browser makes of CORS headers: the checks of https://fetch.spec.whatwg.org/#http-cors-protocol."""

from __future__ import annotations

from collections.abc import Iterable

import httpx

# https://fetch.spec.whatwg.org/#cors-safelisted-method
SAFE_METHODS = frozenset({"GET", "HEAD", "POST"})


def may_read(answer: httpx.Response, origin: str, *, with_cookies: bool = False) -> bool:
    """Whether a page of this origin gets to see the answer (the CORS check)."""
    allowed = answer.headers.get("access-control-allow-origin")
    if with_cookies:
        return allowed == origin and answer.headers.get("access-control-allow-credentials") == "true"
    return allowed in ("*", origin)


def may_send(preflight: httpx.Response, origin: str, method: str, headers: Iterable[str]) -> bool:
    """Whether a page of this origin gets to send a request with this method and these headers."""
    methods = _listed(preflight, "access-control-allow-methods")
    allowed = {name.lower() for name in _listed(preflight, "access-control-allow-headers")}
    return (
        may_read(preflight, origin)
        and preflight.is_success
        and (method in methods or method in SAFE_METHODS or "*" in methods)
        # A wildcard does not stand for Authorization.
        and all(name in allowed or ("*" in allowed and name != "authorization") for name in map(str.lower, headers))
    )


def _listed(answer: httpx.Response, name: str) -> set[str]:
    return {item.strip() for item in answer.headers.get(name, "").split(",") if item.strip()}
