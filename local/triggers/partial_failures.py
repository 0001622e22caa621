"""Reading `batchItemFailures` from a function's response (`ReportBatchItemFailures`).

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html lists which responses count as a
complete success and which as a complete failure; event source mappings of streams follow the same rules.
"""

from __future__ import annotations

from typing import Any

import orjson


class InvalidBatchResponseError(ValueError):
    """A response that Lambda cannot read as a partial one: the whole batch counts as failed."""


def batch_item_identifiers(response: bytes) -> list[Any]:
    """The `itemIdentifier` of every failed item; empty when the response is empty, null or names none.

    Raises InvalidBatchResponseError.
    """
    try:
        document = orjson.loads(response) if response else None
    except orjson.JSONDecodeError as error:
        raise InvalidBatchResponseError("the response is not JSON") from error
    if document is None:
        return []
    if not isinstance(document, dict):
        raise InvalidBatchResponseError("the response is not an object")
    failures = document.get("batchItemFailures")
    if failures is None:
        return []
    if not isinstance(failures, list) or not all(isinstance(item, dict) for item in failures):
        raise InvalidBatchResponseError("batchItemFailures is not a list of objects")
    identifiers = [item.get("itemIdentifier") for item in failures]
    if not all(identifiers):
        raise InvalidBatchResponseError("an itemIdentifier is missing or empty")
    return identifiers
