"""Public profiles in Redis, written through: `user:{id}:profile`, a hash of a version and what everyone may see.

The script compares versions, so whoever read the database before a change cannot put the old profile over the
new one, nor an erased person back. Redis being down costs a query; an entry that could not be written lives on
for `LIFETIME_SECONDS` at most.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from eventsplatform.adapters.redis import redis_client
from eventsplatform.identity.people import PublicUser
from eventsplatform.identity.profiles import KnownUser
from eventsplatform.observability import logger

if TYPE_CHECKING:
    from redis import Redis

LIFETIME_SECONDS = 300

_PUT = """
local known = redis.call('HGET', KEYS[1], 'version')
if known and tonumber(known) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'user', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""


class RedisProfiles:
    def get(self, user_id: int) -> KnownUser | None:
        from redis import RedisError

        try:
            version, user = redis_client().hmget(_key(user_id), "version", "user")
            if version is None or user is None:
                return None
            return KnownUser(int(version), PublicUser.model_validate_json(user) if user else None)
        except (RedisError, ValidationError) as error:
            logger.warning("a profile could not be read from the cache", extra={"error": type(error).__name__})
            return None

    def put(self, user_id: int, known: KnownUser) -> None:
        from redis import RedisError

        user = known.user.model_dump_json() if known.user else ""
        try:
            _put_script(redis_client())(keys=[_key(user_id)], args=[known.version, user, LIFETIME_SECONDS])
        except RedisError as error:
            logger.warning("a profile could not be written to the cache", extra={"error": type(error).__name__})


@cache
def _put_script(redis: Redis) -> Any:
    return redis.register_script(_PUT)


def _key(user_id: int) -> str:
    return f"user:{user_id}:profile"
