"""The part of SES' API (version 2) that the platform needs: a mail that is sent is kept in a directory.

https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from local.application import REGION
from local.mailbox import Mailbox, attach, text_message

_MAXIMUM_RECIPIENTS = 50


class SesApi:
    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def send_email(self, request: Request) -> JSONResponse:
        """Keep one mail of plain text, perhaps with files, which is all that the platform sends."""
        message_id = f"{uuid.uuid4()}-000000"
        try:
            message = _message(await request.json())
            message["Date"] = format_datetime(datetime.now(UTC))
            message["Message-ID"] = f"<{message_id}@{REGION}.amazonses.com>"
            await asyncio.to_thread(self._mailbox.put, message)
        except ValueError as error:
            return _refusal(str(error))
        except (LookupError, TypeError):
            return _refusal("The request is not one of SendEmail for a simple message with a text.")
        return JSONResponse({"MessageId": message_id}, headers={"x-amzn-requestid": str(uuid.uuid4())})


def _message(parameters: dict[str, Any]) -> EmailMessage:
    """Raises ValueError, LookupError or TypeError for what SES refuses, too, or what is not kept here."""
    destination, content = parameters["Destination"], parameters["Content"]["Simple"]
    recipients = destination["ToAddresses"]
    if not 1 <= len(recipients) <= _MAXIMUM_RECIPIENTS or destination.keys() - {"ToAddresses"}:
        raise ValueError(f"Send to 1 to {_MAXIMUM_RECIPIENTS} addresses, and none as a copy.")
    for address in (*recipients, parameters["FromEmailAddress"]):
        if not address.isascii():
            raise ValueError("Local address contains control or whitespace, or characters that are not ASCII.")
    message = text_message(
        sender=parameters["FromEmailAddress"],
        to=recipients,
        reply_to=parameters.get("ReplyToAddresses", ()),
        subject=content["Subject"]["Data"],
        text=content["Body"]["Text"]["Data"],
    )
    for file in content.get("Attachments", ()):
        attach(message, file["FileName"], file["ContentType"], base64.b64decode(file["RawContent"], validate=True))
    return message


def _refusal(message: str) -> JSONResponse:
    headers = {"x-amzn-errortype": "BadRequestException", "x-amzn-requestid": str(uuid.uuid4())}
    return JSONResponse({"message": message}, 400, headers)
