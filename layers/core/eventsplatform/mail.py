"""A mail: plain text to one person, perhaps with a file. How it leaves is `adapters.mail`."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

MAXIMUM_ADDRESS = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets
MAXIMUM_SUBJECT = 200

# One address without a name, a list or a comment around it: what could become a second recipient is not in it.
# RFC 5321 allows more in quotes, which no provider gives out. Whether it exists shows when mail arrives.
_ADDRESS = re.compile(r"""[^\s@,;:<>()\[\]\\"]+@[^\s@,;:<>()\[\]\\"]+""")


class MailRejectedError(Exception):
    """The mail service refuses this mail, and will the next time."""


@dataclass(frozen=True)
class Attachment:
    """A file that comes with a mail. Its name and media type are ours: nothing of a user's stands in a header."""

    filename: str
    media_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Mail:
    """What is said to whom; no part of it stands in its `repr`, which may end up in a log.

    Raises ValueError for a recipient or a subject that could write header fields of its own (CWE-93).
    """

    to: str = field(repr=False)
    subject: str = field(repr=False)
    text: str = field(repr=False)
    attachment: Attachment | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.to) or len(self.to) > MAXIMUM_ADDRESS or _has_controls(self.to):
            raise ValueError("a mail goes to one address")
        if not self.subject.strip() or len(self.subject) > MAXIMUM_SUBJECT or _has_controls(self.subject):
            raise ValueError(f"a mail's subject is one line of at most {MAXIMUM_SUBJECT} characters")


def subject_line(text: str) -> str:
    """Text of anyone's as a subject can have it: on one line, and cut where it is too long."""
    line = " ".join("".join(" " if _is_control(character) else character for character in text).split())
    return line if len(line) <= MAXIMUM_SUBJECT else f"{line[: MAXIMUM_SUBJECT - 1].rstrip()}…"


def _has_controls(text: str) -> bool:
    return any(map(_is_control, text))


def _is_control(character: str) -> bool:
    """Control characters, half characters, and the two that Unicode has for the end of a line and a paragraph."""
    return unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
