"""Rooms in Redis: members, and a stream of recent frames whose ids are the room's offsets.

Offsets and epoch follow Centrifugo's recovery protocol: the offset counts every frame of an epoch without
gaps, and a room whose state was lost starts a new epoch, so a client can tell "nothing missed" from
"can't know". Time is Redis' own, for the clocks of two Lambda environments may differ. Keys of one room
share a hash tag, so each script runs on one slot of a cluster.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson

from eventsplatform.adapters.redis import redis_required
from eventsplatform.realtime.model import Joined, Position, Room

if TYPE_CHECKING:
    from redis import Redis

HISTORY_FRAMES = 300
HISTORY_SECONDS = 600
# The room's counter outlives its frames, or a quiet room would restart at offset 1 and look unchanged.
META_SECONDS = 7 * 24 * 3600
# API Gateway ends a connection after two hours, whether or not $disconnect arrives.
CONNECTION_SECONDS = 2 * 3600 + 300
SEEN_SECONDS = 24 * 3600

_JOIN = """
local meta, stream, members = KEYS[1], KEYS[2], KEYS[3]
local connection, new_epoch = ARGV[1], ARGV[2]
local since_epoch, since_offset = ARGV[4], tonumber(ARGV[5])
local now = tonumber(redis.call('TIME')[1])
local expires = now + ARGV[3]
redis.call('ZREMRANGEBYSCORE', members, '-inf', now)
redis.call('ZADD', members, expires, connection)
redis.call('EXPIREAT', members, expires)
if redis.call('HSETNX', meta, 'epoch', new_epoch) == 1 then redis.call('HSET', meta, 'offset', 0) end
redis.call('EXPIRE', meta, ARGV[6])
local epoch, offset = redis.call('HGET', meta, 'epoch'), tonumber(redis.call('HGET', meta, 'offset'))
local frames, recovered = {}, 0
if since_epoch == epoch and since_offset <= offset then
  frames = redis.call('XRANGE', stream, '(' .. since_offset .. '-18446744073709551615', '+')
  if #frames == offset - since_offset then recovered = 1 else frames = {} end
end
return {epoch, offset, recovered, redis.call('ZCARD', members), frames}
"""

_PUBLISH = """
local meta, stream, members, seen = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = tonumber(redis.call('TIME')[1])
if not redis.call('SET', seen, 1, 'NX', 'EX', ARGV[5]) then return {} end
if redis.call('HSETNX', meta, 'epoch', ARGV[2]) == 1 then redis.call('HSET', meta, 'offset', 0) end
local epoch, offset = redis.call('HGET', meta, 'epoch'), redis.call('HINCRBY', meta, 'offset', 1)
redis.call('EXPIRE', meta, ARGV[4])
if offset == 1 then redis.call('DEL', stream) end
redis.call('XADD', stream, 'MAXLEN', ARGV[3], offset .. '-0', 'frame', ARGV[1])
redis.call('EXPIRE', stream, ARGV[6])
return {epoch, offset, redis.call('ZRANGEBYSCORE', members, '(' .. now, '+inf')}
"""


class RedisRooms:
    """Every method raises DependencyUnavailableError when Redis does not answer."""

    def add_connection(self, connection_id: str, user_id: int) -> None:
        with redis_required() as redis:
            key = _connection_key(connection_id)
            pipeline = redis.pipeline(transaction=True)
            pipeline.hset(key, mapping={"user": user_id})
            pipeline.expire(key, CONNECTION_SECONDS)
            pipeline.execute()

    def remove_connection(self, connection_id: str) -> None:
        with redis_required() as redis:
            rooms = [field for field in map(str, redis.hkeys(_connection_key(connection_id))) if field != "user"]
            pipeline = redis.pipeline(transaction=False)
            for room in rooms:
                pipeline.zrem(_room_key(room, "members"), connection_id)
            pipeline.delete(_connection_key(connection_id))
            pipeline.execute()

    def join(self, room: Room, connection_id: str, since: Position | None) -> Joined:
        with redis_required() as redis:
            # Noted before it is joined, so that leaving finds it; kept no longer than connections last, for
            # $disconnect may have come first.
            pipeline = redis.pipeline(transaction=True)
            pipeline.hset(_connection_key(connection_id), room.name, "1")
            pipeline.expire(_connection_key(connection_id), CONNECTION_SECONDS, nx=True)
            pipeline.execute()
            epoch, offset, recovered, presence, frames = _scripts(redis)["join"](
                keys=[_room_key(room.name, part) for part in ("meta", "stream", "members")],
                args=[
                    connection_id,
                    secrets.token_hex(8),
                    CONNECTION_SECONDS,
                    since.epoch if since else "",
                    since.offset if since else 0,
                    META_SECONDS,
                ],
            )
        return Joined(
            room=room,
            epoch=epoch,
            offset=offset,
            recovered=bool(recovered),
            messages=[_with_position(fields, epoch, int(entry.partition("-")[0])) for entry, fields in frames],
            presence=presence,
        )

    def publish(
        self, room: Room, message_id: str, frame: Mapping[str, Any]
    ) -> tuple[dict[str, Any] | None, Sequence[str]]:
        with redis_required() as redis:
            answer = _scripts(redis)["publish"](
                keys=[
                    *(_room_key(room.name, part) for part in ("meta", "stream", "members")),
                    _room_key(room.name, f"seen:{message_id}"),
                ],
                args=[
                    orjson.dumps(frame),
                    secrets.token_hex(8),
                    HISTORY_FRAMES,
                    META_SECONDS,
                    SEEN_SECONDS,
                    HISTORY_SECONDS,
                ],
            )
        if not answer:
            return None, ()
        epoch, offset, connections = answer
        return {**frame, "epoch": epoch, "offset": offset}, connections


@cache
def _scripts(redis: Redis) -> dict[str, Any]:
    """Scripts are sent once and then named by their hash; redis-py sends them again to an emptied server."""
    return {"join": redis.register_script(_JOIN), "publish": redis.register_script(_PUBLISH)}


def _room_key(room: str, part: str) -> str:
    return f"ws:room:{{{room}}}:{part}"


def _connection_key(connection_id: str) -> str:
    return f"ws:connection:{connection_id}"


def _with_position(fields: Sequence[str], epoch: str, offset: int) -> dict[str, Any]:
    frame: dict[str, Any] = orjson.loads(fields[1])
    return {**frame, "epoch": epoch, "offset": offset}
