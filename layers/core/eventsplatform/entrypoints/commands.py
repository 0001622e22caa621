"""Commands of partner systems: authenticated, carried out by the service that the API uses, answered.

A command has its effect once: its sender's source and id name the request, whose record is kept for longer than Kafka
keeps messages. So it may be delivered again for as long as it takes: what stands in the record is the answer. What is
refused for good is answered and done; what may pass (an engine is down, something is locked) is raised, and the
partition waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError

from eventsplatform.clock import utc_now
from eventsplatform.entrypoints.access import Access
from eventsplatform.entrypoints.kafka import kafka_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.validation import invalid_input
from eventsplatform.errors import NotFoundError, PlatformError, PoisonMessageError, UnauthenticatedError
from eventsplatform.gate.wiring import IdentityFunction
from eventsplatform.idempotency import NamedRequest, handling_request
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.partner_tokens import PartnerGrant, PartnerTokenVerifier
from eventsplatform.messaging import commands
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.idempotency import Outcome, answer_of
from eventsplatform.messaging.inbox import CommandRecords
from eventsplatform.messaging.replies import Replies
from eventsplatform.observability import emit_metric, logger

Asked = TypeVar("Asked", bound=BaseModel)

# What an answer repeats of a message, which its sender chose.
NAME_MAXIMUM = 255
# Of a command that is wrong all over, this much is told.
PROBLEMS_MAXIMUM = 20


@dataclass(frozen=True)
class _Command(Generic[Asked]):
    """What `run` asks for and answers is in its annotations."""

    run: Callable[[Asked, Caller], BaseModel]
    access: Access

    @cached_property
    def _types(self) -> tuple[type[Asked], type[BaseModel]]:
        hints = get_type_hints(self.run)
        answer: type[BaseModel] = hints.pop("return")
        return next(iter(hints.values())), answer

    def carry_out(self, message: Message, caller: Caller) -> dict[str, Any]:
        try:
            command = self._types[0].model_validate(message.data)
        except ValidationError as error:
            raise invalid_input(error.errors(include_input=False)[:PROBLEMS_MAXIMUM]) from None
        return self._shown(self.run(command, caller))

    def answer_again(self, outcome: Outcome) -> dict[str, Any]:
        """Raises the PlatformError that the command was refused with."""
        return self._shown(answer_of(self._types[1], outcome))

    def _shown(self, result: BaseModel) -> dict[str, Any]:
        """What is declared to be answered, and nothing else that the use case may know."""
        shown: dict[str, Any] = TypeAdapter(self._types[1]).dump_python(result, mode="json")
        return shown


class CommandFunction:
    """One function for the commands to one entity: `inbound.<entity>.<command>`. `handler` is what Lambda calls.

    Those to other entities, which come on the same topic, are other functions'.
    """

    def __init__(self, entity: str) -> None:
        self._prefix = f"{commands.PREFIX}{entity}."
        self._commands: dict[str, _Command[Any]] = {}
        # Data that are not as they should be are a refusal, which the sender is told.
        self.handler = kafka_consumer(self._handle, checked=False)

    def command(self, name: str, *, access: Access) -> Callable[[Callable[[Any, Caller], Any]], Callable[..., Any]]:
        """Have `name` (`create`) carried out by a function of the command and its caller, for whom `access` lets in."""

        def register(run: Callable[[Any, Caller], Any]) -> Callable[..., Any]:
            self._commands[self._prefix + name] = _Command(run, access)
            return run

        return register

    @property
    def access(self) -> Mapping[str, Access]:
        """Who may send which types of messages."""
        return {message_type: command.access for message_type, command in self._commands.items()}

    def _handle(self, message: Message) -> None:
        if not message.type.startswith(self._prefix):
            return
        if max(len(message.id), len(message.source), len(message.type)) > NAME_MAXIMUM:
            raise PoisonMessageError(f"its id, source or type is longer than {NAME_MAXIMUM} characters")
        try:
            answer = commands.succeeded(message, self._carry_out(message), utc_now)
            outcome = "succeeded"
        except PlatformError as error:
            if _may_pass(error):
                raise
            answer = commands.failed(message, error, utc_now)
            outcome = error.code
        known = message.type if message.type in self._commands else "unknown"
        logger.info("a command was answered", extra={"outcome": outcome})
        emit_metric("commands_total", 1, command=known, outcome=outcome)
        provide(Replies).send(message, answer)

    def _carry_out(self, message: Message) -> dict[str, Any]:
        grant = provide(PartnerTokenVerifier).verify(_token_of(message))
        command = self._commands.get(message.type)
        if command is None:
            raise NotFoundError(f"There is no command {commands.command_named(message)!r}.")
        request = commands.named_request(message, partner=grant.partner, user_id=grant.caller.user_id)
        records = provide(CommandRecords)
        known = records.outcome_of(request)
        if known is not None:
            emit_metric("messages_duplicate_total", 1, consumer=self._prefix.rstrip("."))
            return command.answer_again(known)
        _authorise(grant, command.access, message)
        return self._carry_out_once(command, message, grant.caller, request, records)

    @staticmethod
    def _carry_out_once(
        command: _Command[Any], message: Message, caller: Caller, request: NamedRequest, records: CommandRecords
    ) -> dict[str, Any]:
        try:
            with handling_request(request):
                return command.carry_out(message, caller)
        except PlatformError as error:
            if _may_pass(error):
                raise
            return command.answer_again(records.refuse(request, error))


def _token_of(message: Message) -> str:
    token = message.data.get("token")
    if not isinstance(token, str) or not 0 < len(token) <= commands.TOKEN_MAXIMUM:
        raise UnauthenticatedError("A command needs a partner token as `token`.")
    return token


def _authorise(grant: PartnerGrant, access: Access, message: Message) -> None:
    """By what the token says, and by what is true of its session now. Raises Unauthenticated- or ForbiddenError."""
    grant.require(commands.command_named(message), utc_now())
    session = provide(IdentityFunction).check(grant.caller)
    if not session.live:
        raise UnauthenticatedError("The grant of this partner token has ended.")
    access.check(grant.caller, lambda _: session.verified)


def _may_pass(error: PlatformError) -> bool:
    """Whether the same command may be carried out later: an engine is down, or it says itself when to try again."""
    return not error.is_final or "Retry-After" in error.headers
