"""What a function reports as failed, and the record of what is given up."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from local.application import function_arn
from local.triggers.destinations import KAFKA_SCHEME, Destinations, service_of
from local.triggers.kafka.records import EVENT_SOURCE_ARN, Partition, Record, msk_event, partition_key
from local.triggers.partial_failures import InvalidBatchResponseError, batch_item_identifiers
from local.workers import Invocation


def first_failures(response: bytes, records: Sequence[Record]) -> Mapping[Partition, int]:
    """The lowest offset that the response reports as failed, for each partition that has one.

    An identifier is `{"partition": "topic-0", "offset": 5}`. Raises InvalidBatchResponseError, also for a record
    that is not in the batch.
    """
    known: dict[tuple[str, Any], Record] = {
        (partition_key(record.partition), record.offset): record for record in records
    }
    lowest: dict[Partition, int] = {}
    for identifier in batch_item_identifiers(response):
        if not isinstance(identifier, dict):
            raise InvalidBatchResponseError("an itemIdentifier is not an object with partition and offset")
        record = known.get((str(identifier.get("partition")), identifier.get("offset")))
        if record is None:
            raise InvalidBatchResponseError(f"{identifier} is not in the batch")
        lowest[record.partition] = min(record.offset, lowest.get(record.partition, record.offset))
    return lowest


class DiscardedBatch:
    """Records that are given up, as documents for the mapping's on-failure destination.

    https://docs.aws.amazon.com/lambda/latest/dg/kafka-on-failure.html and, for topics,
    https://docs.aws.amazon.com/lambda/latest/dg/kafka-on-failure-destination.html. `last` is None for a record too
    big for any event, which was never tried.
    """

    def __init__(
        self,
        function: str,
        records: Sequence[Record],
        bootstrap_servers: str,
        *,
        attempts: int,
        last: Invocation | None,
    ) -> None:
        self._function = function
        self._records = records
        self._bootstrap_servers = bootstrap_servers
        self._attempts = attempts
        self._last = last

    async def send(self, destination: str, destinations: Destinations) -> None:
        """Raises what `Destinations` raises."""
        match service_of(destination):
            case "kafka":
                messages = [(record.key, json.dumps(self.record_document(record)).encode()) for record in self._records]
                await destinations.produce(destination.removeprefix(KAFKA_SCHEME), messages)
            case "s3":
                partition = partition_key(self._records[0].partition)
                document = {**self.document(), "payload": self._event(self._records).decode()}
                await destinations.store(destination, f"aws/lambda/{self._function}/{partition}", json.dumps(document))
            case _:
                await destinations.notify(destination, json.dumps(self.document()))

    def document(self) -> dict[str, Any]:
        """What queues and topics of SNS get: where the records are, not the records."""
        by_partition: dict[str, list[Record]] = {}
        for record in self._records:
            by_partition.setdefault(partition_key(record.partition), []).append(record)
        information = {
            name: {
                "firstRecordOffset": str(records[0].offset),
                "lastRecordOffset": str(records[-1].offset),
                "firstRecordTimestamp": _timestamp(records[0]),
                "lastRecordTimestamp": _timestamp(records[-1]),
            }
            for name, records in by_partition.items()
        }
        return self._document("RetryAttemptsExhausted", self._records, {"recordsInfo": information})

    def record_document(self, record: Record) -> dict[str, Any]:
        """What a Kafka topic gets: one message per record, with the record itself."""
        information = {"recordInfo": {"offset": str(record.offset), "timestamp": _timestamp(record)}}
        document = self._document("RetriesExhausted", [record], information)
        return {**document, "payload": json.loads(self._event([record]))}

    def _document(self, exhausted: str, records: Sequence[Record], information: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "requestContext": {
                "requestId": self._last.request_id if self._last else str(uuid.uuid4()),
                "functionArn": f"{function_arn(self._function)}:$LATEST",
                "condition": exhausted if self._last else "MaximumPayloadSizeExceeded",
                "approximateInvokeCount": self._attempts,
            },
            "responseContext": self._last
            and {
                "statusCode": 200,
                "executedVersion": self._last.executed_version,
                "functionError": self._last.function_error,
            },
            "version": "1.0",
            "timestamp": _iso(datetime.now(UTC)),
            "KafkaBatchInfo": {
                "batchSize": len(records),
                "eventSourceArn": EVENT_SOURCE_ARN,
                "bootstrapServers": self._bootstrap_servers,
                "payloadSize": len(self._event(records)),
                **information,
            },
        }

    def _event(self, records: Sequence[Record]) -> bytes:
        return msk_event(records, self._bootstrap_servers)


def _timestamp(record: Record) -> str:
    return _iso(datetime.fromtimestamp(record.timestamp_ms / 1000, UTC))


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
