"""Effects that are not in Postgres, once per Idempotency-Key: Powertools Idempotency on the cache.

Where the effect is in Postgres its record belongs into the same transaction (`messaging.outbox.UnitOfWork.run`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from eventsplatform.errors import ConflictError, DependencyUnavailableError, FieldError, InvalidInputError
from eventsplatform.idempotency import NamedRequest, named_request

# What still runs after that answers nobody: API Gateway has given up.
LONGEST_RUN_MS = 29_000

Answer = TypeVar("Answer", bound=BaseModel)


def once(answer_type: type[Answer], act: Callable[[], Answer], *, user_id: int, seconds: int) -> Answer:
    """The answer of `act`, or of the same request before it within `seconds`.

    Kept as `idempotency:{user}:…`, encrypted: with a key that follows from the Idempotency-Key, of which the cache
    has no more than a hash. Raises ConflictError while the request is still running, InvalidInputError when its key
    named another one, DependencyUnavailableError without the cache.
    """
    request = named_request()
    if request is None:
        return act()
    # They cost 30 ms of a cold start, which most requests can do without.
    from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent_function
    from aws_lambda_powertools.utilities.idempotency.exceptions import (
        IdempotencyAlreadyInProgressError,
        IdempotencyInconsistentStateError,
        IdempotencyPersistenceLayerError,
    )
    from aws_lambda_powertools.utilities.idempotency.persistence.cache import CachePersistenceLayer

    from eventsplatform.adapters.redis import redis_client

    config = IdempotencyConfig(expires_after_seconds=seconds, hash_function="sha256")
    config.register_lambda_context(cast(Any, _Deadline()))
    request.replayed = True

    @idempotent_function(
        data_keyword_argument="request_id",
        persistence_store=CachePersistenceLayer(client=cast(Any, redis_client())),
        config=config,
        key_prefix=f"idempotency:{user_id}:{answer_type.__name__.lower()}",
    )
    def kept(*, request_id: str) -> dict[str, str]:  # noqa: ARG001 - Powertools makes the record's name of it
        request.replayed = False
        answer = act().model_dump_json().encode()
        # Powertools' own check of the payload compares with what its cache layer forgets on success.
        return {"fingerprint": request.fingerprint.hex(), "answer": _seal(request).encrypt(answer).decode()}

    try:
        record = kept(request_id=request.id.hex())
    except (IdempotencyAlreadyInProgressError, IdempotencyInconsistentStateError) as error:
        raise ConflictError(
            "A request with this Idempotency-Key is still running; try again shortly.", headers={"Retry-After": "1"}
        ) from error
    except IdempotencyPersistenceLayerError as error:
        raise DependencyUnavailableError("cache") from error
    if record["fingerprint"] != request.fingerprint.hex():
        detail = "has been used for a request with another body; use a new key for a new request"
        raise InvalidInputError([FieldError("/header/idempotency-key", detail)])
    return answer_type.model_validate_json(_seal(request).decrypt(record["answer"]))


class _Deadline:
    """When a request that has not finished counts as crashed, and its repeat may run."""

    def get_remaining_time_in_millis(self) -> int:
        return LONGEST_RUN_MS


def _seal(request: NamedRequest) -> Any:
    from cryptography.fernet import Fernet

    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"seal" + request.id).digest()))
