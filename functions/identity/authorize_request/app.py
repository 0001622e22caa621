from typing import Any

from eventsplatform.entrypoints.authorizer import authorizer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.tokens import AccessTokenVerifier
from eventsplatform.observability import header


def authenticate(event: dict[str, Any]) -> Caller:
    """The caller that the request's access token stands for, over REST or on `$connect`."""
    return provide(AccessTokenVerifier).verify_header(header(event.get("headers"), "authorization") or "")


handler = authorizer(authenticate)
