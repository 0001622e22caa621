"""How a function fails: in time, and what it raises is logged by Lambda's runtime and told to whoever invoked it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from eventsplatform.deadline import ending_in
from eventsplatform.redaction import without_secrets

Handler = Callable[[dict[str, Any], Any], Any]


def failing_without_secrets(handler: Handler) -> Handler:
    """Keep an error's type, which callers and state machines match on, and take what is secret out of its text."""

    @wraps(handler)
    def contained(event: dict[str, Any], context: Any) -> Any:
        try:
            with ending_in(context.get_remaining_time_in_millis()):
                return handler(event, context)
        except Exception as error:
            shown = without_secrets(error)
            if shown is error:
                raise
            raise shown from None

    return contained
