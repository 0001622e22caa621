"""The mails that functions have sent: messages as they would travel (RFC 5322), one file each, in a directory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import getaddresses
from pathlib import Path
from threading import Lock
from typing import cast

# The characters that RFC 3986 allows in a URL; a full stop or a bracket after one belongs to the sentence.
_LINK = re.compile(r"https?://[\w\-.~:/?#\[\]@!$&'()*+,;=%]+")
_PUNCTUATION = ".,;:!?')]"

# Lines of any length, as RFC 5322 has it: 998. Python's folding of long subjects loses spaces between encoded words.
_POLICY = policy.SMTP.clone(max_line_length=998)


@dataclass(frozen=True)
class ReceivedMail:
    """As `/dev/mail` shows it. `links` are the text's http and https URLs, in their order."""

    to: str
    subject: str
    text: str
    links: tuple[str, ...]


class Mailbox:
    """The directory belongs to one mailbox at a time; deleting files from it is fine. It outlives the platform."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[str, ReceivedMail] = {}
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = Lock()
        self._last = max((int(path.stem) for path in self._paths()), default=0)

    def put(self, message: EmailMessage) -> Path:
        """Keep the message under the next number: a whole file, which nobody else may read, or none."""
        content = message.as_bytes(policy=_POLICY)
        with self._lock:
            self._last += 1
            path = self._directory / f"{self._last:08}.eml"
            unfinished = path.with_suffix(".new")
            unfinished.unlink(missing_ok=True)
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
            unfinished.replace(path)
        return path

    def mails(self, to: str | None = None) -> list[ReceivedMail]:
        """All of them, or those to one address exactly; oldest first."""
        mails = [self._mail(path) for path in self._paths()]
        return [mail for mail in mails if to is None or mail.to == to]

    def _mail(self, path: Path) -> ReceivedMail:
        if path.name not in self._read:
            self._read[path.name] = _as_received(path.read_bytes())
        return self._read[path.name]

    def _paths(self) -> list[Path]:
        return sorted(path for path in self._directory.glob("*.eml") if path.stem.isdigit())


def text_message(
    *, sender: str, to: Iterable[str], reply_to: Iterable[str] = (), subject: str, text: str
) -> EmailMessage:
    """A message of plain text. Raises ValueError for header fields that would be more than one."""
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = ", ".join(to)
    if replies := ", ".join(reply_to):
        message["Reply-To"] = replies
    message["Subject"] = subject
    # As it stands, so that links stay whole in the file.
    longest = max((len(line.encode()) for line in text.splitlines()), default=0)
    message.set_content(text, cte="8bit" if longest <= 998 else "quoted-printable")
    return message


def attach(message: EmailMessage, filename: str, media_type: str, content: bytes) -> None:
    """Raises ValueError for a file name or a media type that would be more than one header field."""
    kind = _POLICY.header_factory("Content-Type", media_type)
    message.add_attachment(
        content, maintype=kind.maintype, subtype=kind.subtype, params=dict(kind.params), filename=filename
    )


def _as_received(content: bytes) -> ReceivedMail:
    message = cast(EmailMessage, message_from_bytes(content, policy=_POLICY))
    body = message.get_body(("plain",))
    text = body.get_content().replace("\r\n", "\n") if body else ""
    addresses = [address for _, address in getaddresses(message.get_all("to", []))]
    links = tuple(link.rstrip(_PUNCTUATION) for link in _LINK.findall(text))
    return ReceivedMail(", ".join(addresses), message["subject"] or "", text, links)
