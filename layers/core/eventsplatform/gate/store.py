"""TATs and the copy of the revocations in Redis, read and written by one script in one round trip.

The command goes out ready-made over a connection of the gate's own, and the answer is one line: redis-py's client
takes longer to build a command and read an array than Redis takes to run the script. Cluster mode is off (the keys
of one call lie on several slots). Time is Redis' own, for the clocks of two Lambda environments may differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from redis import ConnectionPool, RedisError
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, NoScriptError
from redis.retry import Retry

from eventsplatform.config import RedisSettings
from eventsplatform.gate.model import Session, Standing, StoreUnavailableError, Verdict
from eventsplatform.gate.policies import Policy

if TYPE_CHECKING:
    from redis.connection import ConnectionInterface

# Beside each `session:complete` stands, as its value, the moment from which someone should renew it; who is told to
# do so puts it off for the others by this.
RENEWAL_SECONDS = 2.0

# KEYS: of a session `session:complete`, its id, its token's id and its user; then one TAT for each level.
# ARGV: the token's generation, or nothing where nobody is signed in; the renewal's time in µs; then emission interval
# and window of each level, in µs. The arithmetic is `model.admit`'s.
# Answers "standing limited level remaining µs", the last three of the level that refused or has the least left.
_SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local values = redis.call('MGET', unpack(KEYS))
local first, standing = 0, 'live'
if ARGV[1] ~= '' then
  first = 4
  if values[2] or values[3] or (values[4] and values[4] + 0 > ARGV[1] + 0) then return {ok = 'revoked 0 0 0 0'} end
  if not values[1] then
    standing = 'unknown'
  elseif values[1] + 0 <= now then
    standing = 'renew'
    redis.call('SET', KEYS[1], now + ARGV[2], 'KEEPTTL')
  end
end
local tightest, least, whole = 0, math.huge, 0
local refuses, wait = nil, 0
local ahead = {}
for i = first + 1, #KEYS do
  local emission, window = ARGV[2 * (i - first) + 1] + 0, ARGV[2 * (i - first) + 2] + 0
  local used = (values[i] or now) - now
  if used < 0 then used = 0 elseif used > window then used = window end
  used = used + emission
  ahead[i] = used
  if used > window then
    if used - window > wait then refuses, wait = i, used - window end
  else
    local remaining = math.floor((window - used) / emission)
    if remaining < least then tightest, least, whole = i, remaining, used end
  end
end
if refuses then return {ok = standing .. ' 1 ' .. (refuses - first - 1) .. ' 0 ' .. wait} end
for i = first + 1, #KEYS do
  redis.call('SET', KEYS[i], now + ahead[i], 'PX', math.ceil(ahead[i] / 1000))
end
return {ok = standing .. ' 0 ' .. (tightest - first - 1) .. ' ' .. least .. ' ' .. whole}
"""

_STANDINGS = {standing.value.encode(): standing for standing in Standing}

COMPLETE = "session:complete"


def session_keys(session: Session) -> tuple[str, str, str]:
    return f"session:{session.session_id}", f"session:{session.token_id}", f"session:user:{session.user_id}"


class RedisStore:
    """One per execution environment, and like it for one request at a time."""

    def __init__(self, connection: ConnectionInterface) -> None:
        self._connection = connection
        self._reconnected = False

    def check(self, policy: Policy, address: str, session: Session | None) -> Verdict:
        form = _form(policy, session is not None)
        user_id = None if session is None else session.user_id
        words = policy.keys(address, user_id)
        if session is not None:
            words = [*session_keys(session), *words, str(session.generation)]
        command = f"{form.before}{_bulk_strings(words)}{form.after}"
        try:
            answer = self._call(command)
        except (RedisError, OSError) as error:
            # Whatever the connection says next belongs to this call; and one to a server that was demoted, or is
            # loading, is best made anew.
            self._connection.disconnect()
            raise StoreUnavailableError(str(error)) from error
        standing, limited, level, remaining, microseconds = answer.split()
        return Verdict(_STANDINGS[standing], limited == b"1", int(level), int(remaining), int(microseconds) / 1e6)

    def reconnected(self) -> bool:
        reconnected, self._reconnected = self._reconnected, False
        return reconnected

    def _call(self, command: str) -> bytes:
        was_connected = self._connection.is_connected
        try:
            return self._exchange(command)
        except NoScriptError:
            # Redis was restarted. EVAL keeps the script.
            return self._exchange(command.replace(_BY_HASH, _BY_TEXT, 1))
        except ConnectionError:
            # It may have been closed long ago, while the environment was frozen. Counting a request twice, should
            # the first have arrived, is the lesser evil.
            if not was_connected:
                raise
            self._connection.disconnect()
            self._reconnected = True
            return self._call(command)

    def _exchange(self, command: str) -> bytes:
        self._connection.send_packed_command([command.encode()], check_health=False)
        answer: bytes = self._connection.read_response(disable_decoding=True)
        return answer


def _bulk_strings(words: Iterable[str]) -> str:
    """RESP's form of words, which are ASCII (https://valkey.io/topics/protocol/)."""
    return "".join([f"${len(word)}\r\n{word}\r\n" for word in words])


_BY_HASH = _bulk_strings(["EVALSHA", hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()])
_BY_TEXT = _bulk_strings(["EVAL", _SCRIPT])


class _Form(NamedTuple):
    """The parts of a policy's command that are always the same."""

    before: str
    after: str


@cache
def _form(policy: Policy, signed_in: bool) -> _Form:
    keys = len(policy.rules) + (4 if signed_in else 0)
    numbers = [int(RENEWAL_SECONDS * 1e6)]
    for rule in policy.rules:
        numbers += [rule.quota.emission_us, rule.quota.window_us]
    arguments = [str(number) for number in numbers]
    if signed_in:
        before, after = [str(keys), COMPLETE], arguments
    else:
        before, after = [str(keys)], ["", *arguments]
    words = 2 + 1 + keys + 1 + len(arguments)
    return _Form(f"*{words}\r\n{_BY_HASH}{_bulk_strings(before)}", _bulk_strings(after))


def connect(settings: RedisSettings) -> RedisStore:
    """Nothing is tried again within a call: the gate knows what to do without Redis."""
    pool = ConnectionPool.from_url(
        settings.url,
        protocol=2,
        socket_timeout=settings.timeout_seconds,
        socket_connect_timeout=settings.timeout_seconds,
        retry=Retry(NoBackoff(), 0),
    )
    return RedisStore(pool.make_connection())
