"""Connections and rooms in Redis: members, and a stream of recent frames whose ids are the room's offsets.

Offsets and epoch follow Centrifugo's recovery protocol: the offset counts every frame of an epoch without
gaps, and a room whose state was lost starts a new epoch, so a client can tell "nothing missed" from
"can't know". Time is Redis' own, for the clocks of two Lambda environments may differ. Keys of one room
share a hash tag, so each script runs on one slot of a cluster.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import orjson

from eventsplatform.adapters.redis import redis_required
from eventsplatform.errors import ConflictError
from eventsplatform.realtime.model import MAXIMUM_ROOMS, History, Joined, OpenConnection, Position, Room

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import Pipeline

HISTORY_FRAMES = 300
HISTORY_SECONDS = 600
# The room's counter outlives its frames, or a quiet room would restart at offset 1 and look unchanged.
META_SECONDS = 7 * 24 * 3600
# API Gateway ends a connection after two hours, whether or not $disconnect arrives.
CONNECTION_SECONDS = 2 * 3600 + 300
SEEN_SECONDS = 24 * 3600
_AT_A_TIME = 500

_JOIN = """
local meta, stream, members = KEYS[1], KEYS[2], KEYS[3]
local connection, new_epoch = ARGV[1], ARGV[2]
local since_epoch, since_offset = ARGV[4], tonumber(ARGV[5])
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', members, '-inf', now)
redis.call('ZADD', members, math.min(now + ARGV[3], ARGV[7]), connection)
redis.call('EXPIRE', members, ARGV[3])
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

_PRESENCE = """
return redis.call('ZCOUNT', KEYS[1], '(' .. redis.call('TIME')[1], '+inf')
"""

_HISTORY = """
local meta, stream = KEYS[1], KEYS[2]
local epoch, offset = unpack(redis.call('HMGET', meta, 'epoch', 'offset'))
if not epoch then return {false, 0, {}} end
return {epoch, tonumber(offset), redis.call('XREVRANGE', stream, offset .. '-0', '1-0', 'COUNT', ARGV[1])}
"""

# Of each connection: the session it was opened with, and the rooms it is in.
_OWNER = "owner"
# All of them by the end of their access tokens; those of a session and of a user.
_ALL = "ws:connections"
_EPOCH = datetime.fromtimestamp(0, UTC)


class RedisRooms:
    """Every method raises DependencyUnavailableError when Redis does not answer."""

    def add_connection(self, connection: OpenConnection) -> None:
        with redis_required() as redis:
            pipeline = redis.pipeline(transaction=True)
            _register(pipeline, connection)
            pipeline.execute()

    def remove_connection(self, connection_id: str) -> None:
        with redis_required() as redis:
            kept = cast(dict[str, str], redis.hgetall(_connection_key(connection_id)))
            pipeline = redis.pipeline(transaction=False)
            pipeline.zrem(_ALL, connection_id)
            if owner := kept.pop(_OWNER, None):
                for index in _indexes(_owned(connection_id, owner)):
                    pipeline.srem(index, connection_id)
            for room in kept:
                pipeline.zrem(_room_key(room, "members"), connection_id)
            pipeline.delete(_connection_key(connection_id))
            pipeline.execute()

    def remove_room(self, room: Room) -> None:
        with redis_required() as redis:
            redis.delete(*(_room_key(room.name, part) for part in ("meta", "stream", "members")))

    def connections_of_session(self, session_id: str) -> list[OpenConnection]:
        with redis_required() as redis:
            return self._described(redis, map(str, redis.smembers(_session_index(session_id))))

    def connections_of_user(self, user_id: int) -> list[OpenConnection]:
        with redis_required() as redis:
            return self._described(redis, map(str, redis.smembers(_user_index(user_id))))

    def all_connections(self) -> Iterator[list[OpenConnection]]:
        """Some at a time; each that is open all the while is among them."""
        with redis_required() as redis:
            cursor = None
            while cursor != 0:
                cursor, found = redis.zscan(_ALL, cursor or 0, count=_AT_A_TIME)
                yield self._described(redis, (str(connection_id) for connection_id, _ in found))

    def _described(self, redis: Redis, connection_ids: Iterable[str]) -> list[OpenConnection]:
        """With whose they are. One of which that is no longer known belongs to nobody and has expired."""
        ids = list(connection_ids)
        pipeline = redis.pipeline(transaction=False)
        for connection_id in ids:
            pipeline.hget(_connection_key(connection_id), _OWNER)
        return [
            _owned(id_, owner) if owner else OpenConnection(id_, 0, "", "", 0, _EPOCH)
            for id_, owner in zip(ids, pipeline.execute(), strict=True)
        ]

    def join(self, room: Room, connection: OpenConnection, since: Position | None) -> Joined:
        with redis_required() as redis:
            # Noted before it is joined, so that leaving finds it; and registered again with each room, so that what
            # Redis forgot is not pushed to before it can be closed.
            pipeline = redis.pipeline(transaction=True)
            _register(pipeline, connection)
            pipeline.hset(_connection_key(connection.id), room.name, "1")
            pipeline.hlen(_connection_key(connection.id))
            *_, added, fields = pipeline.execute()
            if added and fields - 1 > MAXIMUM_ROOMS:
                redis.hdel(_connection_key(connection.id), room.name)
                raise ConflictError(f"This connection is in {MAXIMUM_ROOMS} rooms, which is the most; leave one first.")
            epoch, offset, recovered, presence, frames = _scripts(redis)["join"](
                keys=[_room_key(room.name, part) for part in ("meta", "stream", "members")],
                args=[
                    connection.id,
                    secrets.token_hex(8),
                    CONNECTION_SECONDS,
                    since.epoch if since else "",
                    since.offset if since else 0,
                    META_SECONDS,
                    # No push to a token that has expired, even before its connection is closed.
                    _seconds(connection.expires_at),
                ],
            )
        return Joined(
            room=room,
            epoch=epoch,
            offset=offset,
            recovered=bool(recovered),
            messages=_frames(frames, epoch),
            presence=presence,
        )

    def leave(self, room: Room, connection_id: str) -> None:
        with redis_required() as redis:
            pipeline = redis.pipeline(transaction=False)
            pipeline.zrem(_room_key(room.name, "members"), connection_id)
            pipeline.hdel(_connection_key(connection_id), room.name)
            pipeline.execute()

    def presence(self, room: Room) -> int:
        with redis_required() as redis:
            return int(_scripts(redis)["presence"](keys=[_room_key(room.name, "members")]))

    def members(self, room: Room) -> list[OpenConnection]:
        with redis_required() as redis:
            ids = cast(list[str], redis.zrange(_room_key(room.name, "members"), 0, -1))
            return self._described(redis, ids) if ids else []

    def history(self, room: Room, limit: int) -> History:
        with redis_required() as redis:
            epoch, offset, frames = _scripts(redis)["history"](
                keys=[_room_key(room.name, part) for part in ("meta", "stream")], args=[limit]
            )
        return History(room, epoch, offset, _frames(frames[::-1], epoch))

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
    texts = {"join": _JOIN, "publish": _PUBLISH, "presence": _PRESENCE, "history": _HISTORY}
    return {name: redis.register_script(text) for name, text in texts.items()}


def _register(pipeline: Pipeline, connection: OpenConnection) -> None:
    owner = [
        connection.user_id,
        connection.session_id,
        connection.token_id,
        connection.generation,
        _seconds(connection.expires_at),
    ]
    pipeline.hset(_connection_key(connection.id), _OWNER, orjson.dumps(owner))
    # Kept no longer than connections last: $disconnect may have come before, and need not come at all.
    pipeline.expire(_connection_key(connection.id), CONNECTION_SECONDS, nx=True)
    pipeline.zadd(_ALL, {connection.id: _seconds(connection.expires_at)})
    for index in _indexes(connection):
        pipeline.sadd(index, connection.id)
        pipeline.expire(index, CONNECTION_SECONDS)


def _owned(connection_id: str, owner: str) -> OpenConnection:
    user_id, session_id, token_id, generation, expires_at = orjson.loads(owner)
    ends = datetime.fromtimestamp(expires_at, UTC)
    return OpenConnection(connection_id, user_id, session_id, token_id, generation, ends)


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _indexes(connection: OpenConnection) -> tuple[str, str]:
    return _session_index(connection.session_id), _user_index(connection.user_id)


def _session_index(session_id: str) -> str:
    return f"{_ALL}:session:{session_id}"


def _user_index(user_id: int) -> str:
    return f"{_ALL}:user:{user_id}"


def _room_key(room: str, part: str) -> str:
    return f"ws:room:{{{room}}}:{part}"


def _connection_key(connection_id: str) -> str:
    return f"ws:connection:{connection_id}"


def _frames(entries: Sequence[tuple[str, Sequence[str]]], epoch: str) -> list[dict[str, Any]]:
    """The stream's entries, each with its position."""
    return [
        {**orjson.loads(fields[1]), "epoch": epoch, "offset": int(entry.partition("-")[0])} for entry, fields in entries
    ]
