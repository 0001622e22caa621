"""The gate, connected to Redis and to identity."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from eventsplatform.adapters.aws import FunctionClient
from eventsplatform.adapters.redis import redis_client
from eventsplatform.clock import utc_now
from eventsplatform.config import GateSettings, RedisSettings, read_setting
from eventsplatform.gate.model import LimitClass, Session, SessionState
from eventsplatform.gate.revocations import Revocations
from eventsplatform.gate.service import Gate
from eventsplatform.gate.store import connect
from eventsplatform.observability import emit_metric, logger


class IdentityFunction:
    """Identity's function `check_session`, invoked directly."""

    def __init__(self, functions: FunctionClient) -> None:
        self._functions = functions

    def check(self, session: Session) -> SessionState:
        question = {
            "user_id": session.user_id,
            "session_id": session.session_id,
            "token_id": session.token_id,
            "generation": session.generation,
        }
        answer = self._functions.invoke(read_setting("CHECK_SESSION_FUNCTION", str), question)
        return SessionState(live=answer["live"], verified=answer["verified"])


class ClosingPoke:
    """Has connections closed that were opened with what has ended. A lost poke costs a minute: a sweep finds them."""

    def __init__(self, functions: FunctionClient) -> None:
        self._functions = functions

    def __call__(self, ended: Mapping[str, Any]) -> None:
        try:
            self._functions.invoke_async(read_setting("CLOSE_CONNECTIONS_FUNCTION", str), dict(ended))
        except Exception:
            logger.warning("connections could not be closed; the sweep will find them", exc_info=True)


def revocations() -> Revocations:
    return Revocations(redis_client(), close_connections=ClosingPoke(FunctionClient()))


def _report_unavailable(limit_class: LimitClass) -> None:
    """An alarm watches the metric as a whole, and CloudWatch adds up no dimensions: so it has none."""
    logger.warning("limits are not kept", extra={"limit": limit_class.name})
    emit_metric("rate_limiter_unavailable_total", 1)


def _gate() -> Gate:
    return Gate(
        connect(RedisSettings.from_environment()),
        IdentityFunction(FunctionClient()),
        utc_now,
        time.monotonic,
        _report_unavailable,
        GateSettings.from_environment().address_factor,
    )


FACTORIES: dict[type, Callable[[], Any]] = {
    Gate: _gate,
    IdentityFunction: lambda: IdentityFunction(FunctionClient()),
    Revocations: revocations,
}
