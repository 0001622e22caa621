"""Sends messages again, here or on a deployed platform: those of a time or of one aggregate, or dead letters.

It invokes the function `replay_messages` page by page (docs/operations/replay.md) and says how to go on should it be
interrupted.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from eventsplatform.messaging.replay import AggregateType, Topic
from local.commands.endpoints import STATE, running_endpoints
from local.triggers.aws import aws_client

FUNCTION = "ReplayMessagesFunction"

Invoke = Callable[[dict[str, Any]], dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--dry-run", action="store_true", help="count and send nothing")
    common.add_argument("--replay-id", help="of a replay that was interrupted: what it has sent is not done twice")
    common.add_argument("--after", help="where it had come to")
    common.add_argument("--until", help="the end of the time, such as 2026-05-02T00:00:00Z; default: now")
    common.add_argument("--function", help="of a deployed platform, with your AWS credentials; default: the one here")
    common.add_argument("--state", type=Path, default=STATE, help="the local platform's state directory")
    told = argparse.ArgumentParser(add_help=False)
    told.add_argument("--consumer", help="for this consumer group alone, such as evp-index-events")
    told.add_argument("--notify", action="store_true", help="for consumers that notify people and systems, too")
    what = parser.add_subparsers(dest="what", required=True)
    topic = what.add_parser("topic", parents=[common, told], help="what a topic was told in a time")
    topic.add_argument("topic", choices=get_args(Topic))
    topic.add_argument("--since", required=True, help="the beginning of the time, such as 2026-05-01T00:00:00Z")
    aggregate = what.add_parser("aggregate", parents=[common, told], help="all that was told of one aggregate")
    aggregate.add_argument("type", choices=get_args(AggregateType))
    aggregate.add_argument("id", type=int)
    letters = what.add_parser(
        "dead-letters", parents=[common], help="what a consumer group has put aside, for it alone"
    )
    letters.add_argument("group", help="such as evp-index-events")
    letters.add_argument("--since", help="the beginning of the time in which they were put aside")
    letters.add_argument("--letter", action="append", default=[], help="partition@offset; may be given several times")
    letters.add_argument("--patch", type=json.loads, help='a JSON merge patch of the message, such as {"data": …}')


def run(options: argparse.Namespace) -> int:
    invoke = _function(options)
    if invoke is None:
        return 2
    request = _request(options)
    sent, types, unfit = 0, dict[str, int](), 0
    try:
        while True:
            page = invoke(request)
            sent += page["sent"]
            unfit += len(page["unfit"])
            for name, count in page["types"].items():
                types[name] = types.get(name, 0) + count
            for letter in page["unfit"]:
                print(f"{letter['letter']} from {letter['origin']} is left: {letter['reason']}", file=sys.stderr)
            request |= {"replay_id": page["replay_id"], "until": page["until"], "after": page["after"]}
            if page["after"] is None:
                break
            print(f"{sent} messages so far", file=sys.stderr)
    except (ReplayError, KeyboardInterrupt) as error:
        print(f"{error or 'Interrupted'}. To go on: {_continuation(request)}", file=sys.stderr)
        return 1
    listing = ", ".join(f"{count} {name}" for name, count in sorted(types.items()))
    done = "would be sent" if options.dry_run else f"sent as replay {request['replay_id']}"
    print(f"{sent} messages {done}{f': {listing}' if listing else ''}.")
    return 1 if unfit else 0


class ReplayError(Exception):
    """What the function answered in place of a page."""


def _function(options: argparse.Namespace) -> Invoke | None:
    if options.function:
        import boto3

        client = boto3.client("lambda")
    else:
        endpoints = running_endpoints(options.state)
        if endpoints is None:
            return None
        client = aws_client("lambda", endpoints["aws"], read_timeout=70)

    def invoke(request: dict[str, Any]) -> dict[str, Any]:
        content = {name: value for name, value in request.items() if value is not None}
        answer = client.invoke(FunctionName=options.function or FUNCTION, Payload=json.dumps(content).encode())
        result: dict[str, Any] = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise ReplayError(result["errorMessage"])
        return result

    return invoke


def _request(options: argparse.Namespace) -> dict[str, Any]:
    request: dict[str, Any] = {
        "replay_id": options.replay_id,
        "until": options.until,
        "after": json.loads(options.after) if options.after else None,
        "dry_run": options.dry_run,
    }
    match options.what:
        case "topic":
            request |= {"topic": options.topic, "since": options.since}
        case "aggregate":
            request |= {"aggregate": {"type": options.type, "id": options.id}}
        case "dead-letters":
            request |= {"dead_letters": options.group, "since": options.since, "letters": options.letter}
            request |= {"patch": options.patch}
    if options.what != "dead-letters":
        request |= {"consumer": options.consumer, "notify": options.notify}
    return request


def _continuation(request: dict[str, Any]) -> str:
    """What to add to the same command; nothing has been sent before the first page."""
    if not request["replay_id"]:
        return "the same command"
    after = shlex.quote(json.dumps(request["after"])) if request["after"] else ""
    place = f" --after {after}" if after else ""
    return f"the same command with --replay-id {request['replay_id']} --until {request['until']}{place}"
