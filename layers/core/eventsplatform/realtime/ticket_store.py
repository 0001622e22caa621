"""Tickets in Redis."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from eventsplatform.adapters.redis import redis_required


class RedisTickets:
    def put(self, ticket_hash: str, context: Mapping[str, str], seconds: int) -> None:
        with redis_required() as redis:
            redis.set(_key(ticket_hash), orjson.dumps(context), ex=seconds)

    def take(self, ticket_hash: str) -> Mapping[str, str] | None:
        with redis_required() as redis:
            context = redis.getdel(_key(ticket_hash))
        found: Mapping[str, str] | None = orjson.loads(context) if context else None
        return found


def _key(ticket_hash: str) -> str:
    return f"ws:ticket:{ticket_hash}"
