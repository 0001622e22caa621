"""Commands of partner systems, as they come in over NATS and Kafka, and how they are answered."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from eventsplatform.clock import Clock, rfc3339
from eventsplatform.errors import MalformedRequestError, PlatformError
from eventsplatform.idempotency import NamedRequest
from eventsplatform.messaging.envelope import Message
from eventsplatform.tracing import current_traceparent

PREFIX = "inbound."
SOURCE = "/events-platform/commands"
SUCCEEDED, FAILED = "commands.succeeded", "commands.failed"
TOKEN_MAXIMUM = 4_096
PROBLEM_BYTES = 32_768
DETAIL_MAXIMUM = 500

# Where clients of NATS wait for answers, and a tree that no stream and no command is in. Whoever could name any other
# subject would have the platform say there what only the platform may say.
_REPLY_SUBJECT = re.compile(r"(?:_INBOX(?:_[A-Za-z0-9]+)?|replies)(?:\.[A-Za-z0-9_-]+){1,16}")
_REPLY_MAXIMUM = 255


class Command(BaseModel):
    """What every command has: the token that says who sends it on whose behalf."""

    model_config = ConfigDict(extra="forbid")

    token: SecretStr = Field(max_length=TOKEN_MAXIMUM, description="A partner token; it is kept nowhere.")


class AnsweredCommand(BaseModel):
    """The command that an answer is for, by what its sender named it."""

    source: str
    id: str
    type: str


class CommandSucceeded(BaseModel):
    """`result` is what the REST API answers to the same request."""

    command: AnsweredCommand
    result: dict[str, Any]


class Problem(BaseModel):
    """An error as RFC 9457 describes it; more members may say more, as the REST API's do."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str


class CommandFailed(BaseModel):
    """Nothing was changed, and the same command would be refused again."""

    command: AnsweredCommand
    problem: Problem


def command_named(message: Message) -> str:
    """`inbound.events.create` → `events.create`, as partner tokens name what they allow."""
    return message.type.removeprefix(PREFIX)


def named_request(message: Message, *, partner: str, user_id: int) -> NamedRequest:
    """The command as a request that has its effect once, however often it comes and whatever token comes with it.

    Partners choose their sources and ids for themselves: what one of them has sent says nothing about another's. A
    replay is no other command. Raises MalformedRequestError.
    """
    identity = [partner, user_id, message.source, message.id]
    content = {name: value for name, value in message.data.items() if name != "token"}
    try:
        fingerprint = orjson.dumps([message.type, content], option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise MalformedRequestError("The data are nested too deeply.") from error
    return NamedRequest(
        hashlib.sha256(orjson.dumps(identity)).digest(), hashlib.sha256(fingerprint).digest(), table="inbox"
    )


def reply_subject(message: Message) -> str | None:
    """Where the sender waits for an answer; None when nobody does, or not at a place for answers."""
    subject = message.extensions.get("replyto")
    if not isinstance(subject, str) or len(subject) > _REPLY_MAXIMUM:
        return None
    return subject if _REPLY_SUBJECT.fullmatch(subject) else None


def succeeded(command: Message, result: Mapping[str, Any], clock: Clock) -> Message:
    told = CommandSucceeded(command=_answered(command), result=dict(result))
    return _answer(command, SUCCEEDED, told, clock)


def failed(command: Message, error: PlatformError, clock: Clock) -> Message:
    problem = error.as_problem(instance=command.type, request_id=command.id)
    if len(orjson.dumps(problem)) > PROBLEM_BYTES:
        # It is of the sender's making, whose names of members may be as long as they please.
        problem.pop("errors", None)
        problem["detail"] = problem["detail"][:DETAIL_MAXIMUM]
    told = CommandFailed(command=_answered(command), problem=Problem.model_validate(problem))
    return _answer(command, FAILED, told, clock)


def _answered(command: Message) -> AnsweredCommand:
    return AnsweredCommand(source=command.source, id=command.id, type=command.type)


def _answer(command: Message, message_type: str, told: BaseModel, clock: Clock) -> Message:
    """Under the same id each time, so that who gets it again knows. Its trace is our own word for the command's."""
    return Message(
        id=f"{command.source}#{command.id}",
        source=SOURCE,
        type=message_type,
        subject=command.id,
        time=rfc3339(clock()),
        partitionkey=command.id,
        data=told.model_dump(mode="json"),
        traceparent=current_traceparent(),
    )
