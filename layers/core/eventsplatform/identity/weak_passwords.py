"""Passwords that are guessed first (NIST SP 800-63B-4 §3.1.1.2): common ones, and those made of next to nothing.

`common_passwords.txt.gz` holds what can matter beside a minimum of 12 characters: common passwords that are so long,
and the most common shorter ones, of which longer ones are put together. They are the lists that ship with Django
(`django.contrib.auth`, BSD-3-Clause) and zxcvbn (`zxcvbn.frequency_lists`, MIT): of each all entries from 12
characters on and those from 4 to 11 among its first 5,000, printable ASCII only.

No rule asks for kinds of characters: a long passphrase of small letters passes.
"""

from __future__ import annotations

import gzip
import re
import string
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

# What the parts of a password count: a guesser tries words out of a list, and behind each of them digits and runs.
WORD, RUN, CHARACTER = 2, 1, 2
# One common word or two runs are too little; what takes a second guess is left to its owner and to the waits.
REFUSED_UP_TO = 2

SERVICE_WORDS = ("events", "platform", "eventsplatform")

_LIST = Path(__file__).with_name("common_passwords.txt.gz")
_FREE = frozenset(string.punctuation + string.whitespace)
_SEQUENCES = (string.ascii_lowercase, "01234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "yxcvbnm")
_SHORTEST_WORD = 3
_LONGEST_PART = 20


def weakness(password: str, personal: Iterable[str] = ()) -> str | None:
    """What makes the password one of the first to be guessed, in words for its owner; None when nothing does.

    `personal` is what anyone knows of the owner: the address, the name.
    """
    text = unicodedata.normalize("NFKC", password).casefold()
    if text in _common_passwords():
        return "is one of the most common passwords"
    for repeated in (text, "".join(character for character in text if character not in _FREE)):
        unit = _repeated_unit(repeated)
        if unit < len(repeated) and unit < 12:
            return "repeats a short text"
    known = {word for source in personal for word in _words(source)} | set(SERVICE_WORDS)
    if _guesses(text, known) <= REFUSED_UP_TO:
        return "is made of what is guessed first: common passwords, rows of keys, your name or address"
    return None


def _repeated_unit(text: str) -> int:
    """The length of the shortest text of which this is at least two repetitions, the last perhaps cut short."""
    for length in range(1, len(text) // 2 + 1):
        if text[length:] == text[:-length]:
            return length
    return len(text)


def _guesses(text: str, known: Iterable[str]) -> int:
    """The least that parts count which make up the text.

    Parts are common passwords, runs (`abcd`, `9876`, `qwer`, `7777`; up to four digits are one, too) and single
    characters. Punctuation and the words that are known anyway count nothing.
    """
    common, free = _common_passwords(), frozenset(known)
    least = [0] + [CHARACTER * len(text)] * len(text)
    for end in range(1, len(text) + 1):
        least[end] = least[end - 1] + (0 if text[end - 1] in _FREE else CHARACTER)
        for start in range(max(0, end - _LONGEST_PART), end):
            if (counts := _counts(text[start:end], common, free)) is not None:
                least[end] = min(least[end], least[start] + counts)
    return least[-1]


def _counts(part: str, common: frozenset[str], free: frozenset[str]) -> int | None:
    if part in free:
        return 0
    if _is_run(part) or (len(part) <= 4 and part.isdecimal()):
        return RUN
    return WORD if part in common else None


def _is_run(part: str) -> bool:
    if len(part) < _SHORTEST_WORD:
        return False
    return len(set(part)) == 1 or any(part in row or part[::-1] in row for row in _SEQUENCES)


def _words(source: str) -> Iterable[str]:
    text = unicodedata.normalize("NFKC", source).casefold()
    yield from (word for word in (text, *re.split(r"[\W_]+", text)) if len(word) >= _SHORTEST_WORD)


@cache
def _common_passwords() -> frozenset[str]:
    return frozenset(gzip.decompress(_LIST.read_bytes()).decode().split())
