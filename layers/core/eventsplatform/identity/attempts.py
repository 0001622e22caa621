"""Failed sign-ins, counted in Redis: one script to begin an attempt, one to forgive it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eventsplatform.identity.sign_in_limits import FORGOTTEN_AFTER_SECONDS, Attempt, AttemptsUnavailableError, Counter

if TYPE_CHECKING:
    from redis import Redis

# Each counter is a hash of `failures` and `until`, ms by Redis' own clock. ARGV: ms until all is forgotten, then of
# each counter the free failures, the first and the longest wait in ms.
# Answers a negative number of ms to wait, or the failures of each counter.
_BEGIN = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local wait = 0
for i = 1, #KEYS do
  wait = math.max(wait, (redis.call('HGET', KEYS[i], 'until') or 0) - now)
end
if wait > 0 then return {-wait} end
local counted = {}
for i = 1, #KEYS do
  local free, first, longest = ARGV[3 * i - 1] + 0, ARGV[3 * i] + 0, ARGV[3 * i + 1] + 0
  local failures = redis.call('HINCRBY', KEYS[i], 'failures', 1)
  if failures >= free then
    local next = math.min(longest, first * 2 ^ math.min(failures - free, 60))
    redis.call('HSET', KEYS[i], 'until', now + next)
  end
  redis.call('PEXPIRE', KEYS[i], ARGV[1])
  counted[i] = failures
end
return counted
"""

# A wait that only this attempt has brought about ends with it; one that others did since stays.
_FORGIVE = """
redis.call('DEL', KEYS[1])
for i = 2, #KEYS do
  local failures = redis.call('HGET', KEYS[i], 'failures')
  if failures then
    if failures == ARGV[i] then redis.call('HDEL', KEYS[i], 'until') end
    if failures + 0 > 0 then redis.call('HINCRBY', KEYS[i], 'failures', -1) end
  end
end
"""


class RedisAttempts:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def begin(self, counters: Sequence[Counter]) -> Attempt | float:
        bounds: list[int] = []
        for counter in counters:
            back_off = counter.back_off
            bounds += [back_off.free, int(back_off.first_seconds * 1000), int(back_off.longest_seconds * 1000)]
        answer = self._eval(_BEGIN, counters, FORGOTTEN_AFTER_SECONDS * 1000, *bounds)
        return -answer[0] / 1000 if answer[0] < 0 else Attempt(counters, answer)

    def forgive(self, attempt: Attempt) -> None:
        self._eval(_FORGIVE, attempt.counters, *attempt.failures)

    def _eval(self, script: str, counters: Sequence[Counter], *arguments: int) -> Any:
        from redis import RedisError

        try:
            return self._redis.eval(script, len(counters), *(counter.key for counter in counters), *arguments)
        except RedisError as error:
            raise AttemptsUnavailableError from error
