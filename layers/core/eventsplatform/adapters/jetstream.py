"""What nats-py does not have: storing many messages at once in their order, and reading them fast in theirs."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from eventsplatform.adapters.nats import nats_breaker
from eventsplatform.call_policies import CALL_POLICIES
from eventsplatform.errors import DependencyUnavailableError, PoisonMessageError
from eventsplatform.observability import logger

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription
    from nats.js import JetStreamContext
    from nats.js.api import ConsumerConfig

ANSWER_WITHIN_SECONDS = CALL_POLICIES["nats"].timeout
LOSS_NOTICED_WITHIN_SECONDS = 0.1

# https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-50.md, "fast ingest": the reply subject ends
# in batch id, how often the server acknowledges, what it does about gaps, number in the batch, operation.
_START, _APPEND, _COMMIT = 0, 1, 2
# With so many messages and no more in flight, no flow control is needed: servers acknowledge as often.
BATCH = 250
_TOO_LARGE = 10054

_LINE_ENDS = re.compile(r"[\r\n]")


class Publication(NamedTuple):
    subject: str
    payload: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Stored:
    """How many publications, from the first on, the stream has, and what kept it from taking the next one.

    `are_duplicates`: all of them were there already. Of some among others the server does not tell.
    """

    count: int
    error: Exception | None = None
    are_duplicates: bool = False


class OrderedPublisher:
    """Stores publications in their order and none after one that failed, as long as it is used for one batch at a time.

    JetStream's own publishing acknowledges each message by itself: of many under way, later ones are stored although
    an earlier one was not, and when that is sent again, it stands behind them. In a batch of ADR-50's fast ingest
    (NATS 2.14) the server takes no message after the first that it has not taken, and duplicates count as taken.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        # Servers know a batch by its id alone, whoever sends it.
        self._batches = (f"{secrets.token_hex(12)}-{number}" for number in itertools.count())
        self._answers: dict[str, asyncio.Future[Stored]] = {}

    @classmethod
    async def open(cls, client: Client) -> OrderedPublisher:
        publisher = cls(client)
        await client.subscribe(f"{publisher._inbox}.>", cb=publisher._on_answer)
        return publisher

    @property
    def is_live(self) -> bool:
        return bool(self._client.is_connected)

    @property
    def largest(self) -> int:
        """The bytes that the server takes in one message, headers included."""
        return int(self._client.max_payload)

    async def store(self, publications: Sequence[Publication]) -> Stored:
        """Store up to BATCH publications of one stream. What is left out when NATS fails is to be stored again: what
        is there already is a duplicate by its `Nats-Msg-Id`.
        """
        from nats.errors import Error as NatsError

        batch, last = next(self._batches), len(publications)
        answer = self._answers[batch] = asyncio.get_running_loop().create_future()
        reply = f"{self._inbox}.{batch}.{BATCH}.fail"
        frames = []
        for number, each in enumerate(publications, 1):
            operation = _COMMIT if number == last else _START if number == 1 else _APPEND
            frames.append(_frame(each, f"{reply}.{number}.{operation}.$FI"))
        try:
            with nats_breaker():
                await self._send(b"".join(frames))
                async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
                    while not answer.done():
                        await asyncio.wait([answer], timeout=LOSS_NOTICED_WITHIN_SECONDS)
                        if not answer.done() and not self.is_live:
                            raise ConnectionResetError("nats is gone")
            stored = answer.result()
        except (NatsError, OSError, TimeoutError, DependencyUnavailableError) as error:
            logger.warning("nats did not store a batch", extra={"error": repr(error)})
            return Stored(0, _unavailable(error))
        finally:
            del self._answers[batch]
        if stored.count < last and stored.error is None:
            return replace(stored, error=DependencyUnavailableError("message bus"))
        return stored

    async def _send(self, frames: bytes) -> None:
        """All at once. Published one by one, nats-py takes four times as long for each message as its frame does."""
        await self._client._send_command(frames)
        await self._client._flush_pending()

    async def _on_answer(self, message: Msg) -> None:
        _, batch, _, _, number, _, _ = message.subject.rsplit(".", 6)
        answer = self._answers.get(batch)
        if answer is None or answer.done():
            return
        content: dict[str, Any] = (
            orjson.loads(message.data) if message.data else {"error": {"description": "no stream"}}
        )
        if "error" in content:
            answer.set_result(_refused(int(number), content["error"]))
        elif "type" not in content:
            # Not those on the way: what they tell of is told here or by an error as well.
            # The sequence is that of the last one which was added, or of the only one, added or not.
            are_duplicates = content.get("seq") == 0 or content.get("duplicate", False)
            answer.set_result(Stored(content.get("count", 0), are_duplicates=are_duplicates))


def _frame(publication: Publication, reply: str) -> bytes:
    """https://docs.nats.io/reference/reference-protocols/nats-protocol#hpub"""
    headers = publication.headers
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if not lines.count("\n") == lines.count("\r") == len(headers):
        # A value would end its line, and begin another header.
        lines = "".join([f"{name}: {_LINE_ENDS.sub(' ', value)}\r\n" for name, value in headers.items()])
    block = f"NATS/1.0\r\n{lines}\r\n".encode(errors="replace")
    payload = publication.payload
    to = f"HPUB {publication.subject} {reply} {len(block)} {len(block) + len(payload)}\r\n"
    return b"%b%b%b\r\n" % (to.encode(), block, payload)


def _refused(number: int, error: Mapping[str, Any]) -> Stored:
    if error.get("err_code") == _TOO_LARGE:
        return Stored(number - 1, PoisonMessageError("larger than the stream takes"))
    logger.warning("nats refused a message", extra={"error": error.get("description")})
    # Of those before it, those that another leader of the stream took may be gone.
    return Stored(0, DependencyUnavailableError("message bus"))


def _unavailable(cause: BaseException) -> DependencyUnavailableError:
    error = DependencyUnavailableError("message bus")
    error.__cause__ = cause
    return error


class Delivered(NamedTuple):
    """A message of a stream as a consumer delivers it.

    `sequence` is its number in the stream, `stored_at` when it came there, in seconds since 1970; `attempts` how often
    it has been delivered, this time included; `pending` how many more are waiting for the consumer.
    """

    subject: str
    data: bytes
    headers: Mapping[str, str]
    sequence: int
    stored_at: float
    attempts: int
    pending: int
    acknowledge_on: str


class DurableReader:
    """The messages of a durable consumer in their order, none left out, fetched ahead of those that are asked for.

    One reader at a time: messages that another one has got show as a gap in the consumer's own numbers.
    """

    # What may be waiting here: bounded by what one batch has, twice, while the next is under way.
    FETCHED_AT_ONCE = 500
    FETCHED_BYTES = 8 * 1024 * 1024
    REQUEST_SECONDS = 20.0
    HEARTBEAT_SECONDS = 2.0
    ACKNOWLEDGED_WITHIN_SECONDS = 60.0

    def __init__(self, client: Client, stream: str, durable: str, delivered: int) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._request = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._delivered = delivered
        self._credit = 0
        self._heard_at = time.monotonic()
        self._waiting: deque[Delivered] = deque()
        self._arrived = asyncio.Event()
        self._failure: Exception | None = None
        self._subscription: Subscription | None = None

    @classmethod
    async def open(
        cls, client: Client, stream: str, durable: str, filters: Sequence[str], *, after: int
    ) -> DurableReader:
        """Read behind the sequence `after`, wherever the durable consumer, if there is one, stands.

        Raises DependencyUnavailableError.
        """
        from nats.errors import Error as NatsError

        try:
            delivered = await _consumer_at(client.jetstream(), stream, _configuration(durable, filters, after), after)
            reader = cls(client, stream, durable, delivered)
            reader._subscription = await client.subscribe(reader._inbox, cb=reader._on_message)
            await reader._fetch()
        except (NatsError, OSError, TimeoutError) as error:
            raise _unavailable(error) from error
        return reader

    async def next(self, most: int, *, within_seconds: float) -> list[Delivered]:
        """What has arrived, at least one unless the time is up. Raises DependencyUnavailableError."""
        try:
            async with asyncio.timeout(within_seconds):
                while not self._waiting and self._failure is None:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            if not self._client.is_connected or time.monotonic() - self._heard_at > 3 * self.HEARTBEAT_SECONDS:
                self._failure = DependencyUnavailableError("message bus")
        if self._failure is not None:
            # What has arrived before is delivered again to the next reader.
            raise self._failure
        taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        await self._fetch()
        return taken

    async def acknowledge(self, delivered: Delivered) -> None:
        """Everything up to this one is done, and NATS has noted it. Raises DependencyUnavailableError."""
        from nats.errors import Error as NatsError

        try:
            await self._client.request(delivered.acknowledge_on, b"+ACK", timeout=ANSWER_WITHIN_SECONDS)
        except (NatsError, OSError, TimeoutError) as error:
            raise _unavailable(error) from error

    async def close(self) -> None:
        """Let NATS know that nobody waits for what is still under way."""
        from nats.errors import Error as NatsError

        with suppress(NatsError, OSError):
            if self._subscription is not None:
                await self._subscription.unsubscribe()

    async def _fetch(self) -> None:
        """Ask for more when nothing is under way and there is room."""
        if self._credit > 0 or len(self._waiting) > self.FETCHED_AT_ONCE or self._failure is not None:
            return
        self._credit, self._heard_at = self.FETCHED_AT_ONCE, time.monotonic()
        wanted = {
            "batch": self.FETCHED_AT_ONCE,
            "max_bytes": self.FETCHED_BYTES,
            "expires": int(self.REQUEST_SECONDS * 1e9),
            "idle_heartbeat": int(self.HEARTBEAT_SECONDS * 1e9),
        }
        await self._client.publish(self._request, orjson.dumps(wanted), reply=self._inbox)

    async def _on_message(self, message: Msg) -> None:
        self._heard_at = time.monotonic()
        if not message.reply:
            await self._on_status(message.headers or {})
            return
        delivery, number = _delivery(message)
        self._credit -= 1
        if not self._follows(number):
            self._fail(f"another reader of the consumer has got {number - self._delivered - 1} messages")
            return
        self._delivered = number
        self._waiting.append(delivery)
        self._arrived.set()
        await self._fetch()

    def _follows(self, number: int) -> bool:
        return number == self._delivered + 1

    async def _on_status(self, headers: Mapping[str, str]) -> None:
        """https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-37.md#pull-consumer-status-messages"""
        status, description = headers.get("Status"), headers.get("Description", "")
        if status == "100" or description == "Batch Completed":
            return
        if status in ("404", "408") or "MaxBytes" in description:
            self._credit = 0
            await self._fetch()
        else:
            self._fail(f"{status} {description}")

    def _fail(self, why: str) -> None:
        logger.warning("a consumer cannot be read any more", extra={"error": why})
        self._failure = DependencyUnavailableError("message bus")
        self._arrived.set()


def _delivery(message: Msg) -> tuple[Delivered, int]:
    """The delivery, and its number among all of the consumer's.

    https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-15.md: the reply subject is
    `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<attempts>.<sequence>.<number>.<time>.<pending>[.<token>]`.
    """
    tokens = message.reply.split(".")
    attempts, sequence, number, nanoseconds, pending = tokens[4:9] if len(tokens) == 9 else tokens[6:11]
    delivered = Delivered(
        message.subject,
        message.data,
        message.headers or {},
        int(sequence),
        int(nanoseconds) / 1e9,
        int(attempts),
        int(pending),
        message.reply,
    )
    return delivered, int(number)


def _configuration(durable: str, filters: Sequence[str], after: int) -> ConsumerConfig:
    from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

    return ConsumerConfig(
        durable_name=durable,
        filter_subjects=list(filters),
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE if after else DeliverPolicy.ALL,
        opt_start_seq=after + 1 if after else None,
        ack_policy=AckPolicy.ALL,
        ack_wait=DurableReader.ACKNOWLEDGED_WITHIN_SECONDS,
        max_deliver=-1,
        max_ack_pending=4 * DurableReader.FETCHED_AT_ONCE,
    )


async def _consumer_at(jetstream: JetStreamContext, stream: str, wanted: ConsumerConfig, after: int) -> int:
    """Have the consumer stand right behind `after`; how many messages it has delivered so far.

    One that was left with messages delivered and not acknowledged is made anew: it would deliver those that follow
    first, and acknowledging one of these would acknowledge what nobody has seen.
    """
    from nats.js.errors import NotFoundError

    durable = wanted.durable_name or ""
    try:
        info = await jetstream.consumer_info(stream, durable)
    except NotFoundError:
        info = None
    if info is not None:
        delivered = info.delivered
        if (
            delivered is not None
            and not info.num_ack_pending
            and delivered.stream_seq <= after
            and sorted(_filters(info.config)) == sorted(_filters(wanted))
            and info.config.ack_policy == wanted.ack_policy
        ):
            return int(delivered.consumer_seq)
        await jetstream.delete_consumer(stream, durable)
    await jetstream.add_consumer(stream, wanted)
    return 0


def _filters(config: ConsumerConfig) -> Sequence[str]:
    return config.filter_subjects or ([config.filter_subject] if config.filter_subject else [])
