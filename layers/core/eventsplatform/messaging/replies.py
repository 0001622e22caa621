"""Answers to commands, published where their senders wait for them."""

from __future__ import annotations

from eventsplatform.adapters.nats import NatsConnection
from eventsplatform.messaging.commands import reply_subject
from eventsplatform.messaging.envelope import CONTENT_TYPE, Message
from eventsplatform.observability import emit_metric, logger


class Replies:
    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection

    def send(self, command: Message, answer: Message) -> None:
        """Answer a command, if its sender has said where it waits.

        Whether it still does, nobody knows. Raises DependencyUnavailableError when NATS did not take the answer.
        """
        if not command.extensions.get("replyto"):
            return
        subject = reply_subject(command)
        if subject is None:
            logger.warning("a command names no subject for answers", extra={"message_id": command.id})
            emit_metric("command_answers_refused_total", 1)
            return
        headers = {"Content-Type": CONTENT_TYPE, "traceparent": answer.traceparent}
        self._connection.publish(subject, answer.to_json(), headers)
