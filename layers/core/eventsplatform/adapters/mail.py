"""Sending mail through Amazon SES."""

from __future__ import annotations

from email.utils import formataddr, parseaddr
from functools import cache
from typing import Any

from eventsplatform.adapters.aws import client
from eventsplatform.config import MailSettings
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.mail import Attachment, Mail, MailRejectedError
from eventsplatform.observability import emit_metric, logger

# What SES says of the mail itself. Everything else is about the account, the sender or the moment.
# https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html#API_SendEmail_Errors
_REJECTIONS = frozenset({"MessageRejected", "BadRequestException"})


class Mailer:
    """SES' SendEmail. A mail may arrive twice: an answer that was lost is followed by a second attempt."""

    def __init__(self, settings: MailSettings) -> None:
        name, address = parseaddr(settings.sender)
        self._sender = formataddr((name, address))  # a name that is not ASCII as RFC 2047 has it
        self._options = {"ConfigurationSetName": settings.configuration_set} if settings.configuration_set else {}

    def send(self, mail: Mail) -> None:
        """Hand the mail over; it is delivered later, or bounces.

        Raises DependencyUnavailableError when it can be tried again, MailRejectedError when that is of no use.
        """
        recipient = _ascii_address(mail.to)
        ses = client("sesv2")
        from botocore.exceptions import BotoCoreError, ClientError

        content: dict[str, Any] = {
            "Subject": {"Data": mail.subject, "Charset": "UTF-8"},
            "Body": {"Text": {"Data": mail.text, "Charset": "UTF-8"}},
        }
        if mail.attachment is not None:
            content["Attachments"] = [_attached(mail.attachment)]
        try:
            ses.send_email(
                FromEmailAddress=self._sender,
                Destination={"ToAddresses": [recipient]},
                Content={"Simple": content},
                **self._options,
            )
        except ClientError as error:
            # SES' messages name addresses: only the code is logged.
            code = error.response["Error"]["Code"]
            if code in _REJECTIONS:
                _report("rejected", code)
                raise MailRejectedError(code) from None
            _report("unavailable", code)
            raise DependencyUnavailableError("mail service") from None
        except BotoCoreError as error:
            _report("unavailable", type(error).__name__)
            raise DependencyUnavailableError("mail service") from error
        emit_metric("mails_total", 1, status="sent")


def _attached(file: Attachment) -> dict[str, Any]:
    return {
        "FileName": file.filename,
        "ContentType": file.media_type,
        "ContentDisposition": "ATTACHMENT",
        "ContentTransferEncoding": "BASE64",
        "RawContent": file.content,
    }


def _ascii_address(address: str) -> str:
    """With the domain as DNS has it. Raises MailRejectedError: SES takes no other characters before the @."""
    if address.isascii():
        return address
    from email_validator import EmailNotValidError, validate_email

    try:
        ascii_address = validate_email(address, check_deliverability=False).ascii_email
    except EmailNotValidError:
        ascii_address = None
    if ascii_address is None:
        _report("rejected", "address")
        raise MailRejectedError("address")
    return ascii_address


def _report(status: str, reason: str) -> None:
    logger.warning("a mail was not sent", extra={"status": status, "reason": reason})
    emit_metric("mails_total", 1, status=status)


@cache
def mailer() -> Mailer:
    return Mailer(MailSettings.from_environment())
