"""NATS subjects: patterns that say what they matched, and templates that make subjects, keys and headers of it.

https://docs.nats.io/nats-concepts/subjects: tokens separated by dots, of which in a pattern `*` stands for any one and
a final `>` for one or more. Here both may have a name, `{name}` for `*` and `{name>}` for `>`.

In a template `{name}` stands for a value, `{one|other}` for the first of several that is not empty. In a subject a
value is one token, whatever is in it: what would separate tokens, stand for others or end the line is percent-encoded,
and what `{name}` captures is decoded. `{name>}` is for values that are subjects themselves: their dots separate tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from urllib.parse import quote, unquote

ONE, MANY = "*", ">"
# Servers take control lines of 4,096 bytes, in which a reply subject and sizes stand as well.
LONGEST_SUBJECT = 1_024

_PART = r"[^.\s]+"
_NAME = r"[A-Za-z][A-Za-z0-9_.-]*"
_CAPTURE = re.compile(r"\{([a-z][a-z0-9_]*)(>?)\}")
_PLACEHOLDER = re.compile(rf"\{{({_NAME}(?:\|{_NAME})*)(>?)\}}")
# https://docs.nats.io/nats-concepts/subjects#characters-allowed-and-recommended-for-subject-names
_PLAIN = re.compile(r"[A-Za-z0-9_:-]+")

Lookup = Callable[[str], str]
"""The value of a name in a template; empty when there is none."""


@dataclass(frozen=True)
class Pattern:
    """`tokens` are as NATS has them; `names` belong to the wildcards among them, in order, None for those without."""

    text: str
    tokens: tuple[str, ...]
    names: tuple[str | None, ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Raises ValueError, saying what is wrong."""
        tokens: list[str] = []
        names: list[str | None] = []
        for token in text.split("."):
            _read_token(token, tokens, names)
        if MANY in tokens[:-1]:
            raise ValueError(f"{MANY!r} stands for all that follows, and something follows it in {text!r}")
        given = [name for name in names if name]
        if len(given) != len(set(given)):
            raise ValueError(f"two wildcards of {text!r} have the same name")
        return cls(text, tuple(tokens), tuple(names))

    @property
    def subject(self) -> str:
        """The pattern as NATS takes it."""
        return ".".join(self.tokens)

    def match(self, subject: str) -> dict[str, str] | None:
        """What the named wildcards stand for; None when the subject does not match."""
        found = self.expression.fullmatch(subject)
        if found is None:
            return None
        captures = {name: decode(value) for name, value in zip(self.names, found.groups(), strict=True) if name}
        if self.tokens[-1] == MANY and (rest := self.names[-1]):
            # As it came: decoded, a dot within a token would be one between two.
            captures[rest] = found[len(self.names)]
        return captures

    def overlaps(self, other: Pattern) -> bool:
        """Whether there is a subject that matches both."""
        for mine, others in zip(self.tokens, other.tokens, strict=False):
            if MANY in (mine, others):
                return True
            if ONE not in (mine, others) and mine != others:
                return False
        return len(self.tokens) == len(other.tokens)

    def covers(self, other: Pattern) -> bool:
        """Whether every subject that matches the other one matches this one."""
        for mine, others in zip(self.tokens, other.tokens, strict=False):
            if mine == MANY:
                return True
            if others == MANY or mine not in (ONE, others):
                return False
        return len(self.tokens) == len(other.tokens)

    @cached_property
    def expression(self) -> re.Pattern[str]:
        kinds = {ONE: f"({_PART})", MANY: rf"({_PART}(?:\.{_PART})*)"}
        return re.compile(r"\.".join(kinds.get(token) or re.escape(token) for token in self.tokens))


def _read_token(token: str, tokens: list[str], names: list[str | None]) -> None:
    capture = _CAPTURE.fullmatch(token)
    if capture:
        tokens.append(MANY if capture[2] else ONE)
        names.append(capture[1])
    elif token in (ONE, MANY):
        tokens.append(token)
        names.append(None)
    elif not re.fullmatch(_PART, token) or set("{}") & set(token):
        raise ValueError(f"{token!r} is no token: text without spaces and braces, '*', '>', '{{name}}' or '{{name>}}'")
    else:
        tokens.append(token)


@dataclass(frozen=True)
class Placeholder:
    names: tuple[str, ...]
    many: bool

    def value(self, lookup: Lookup) -> str:
        for name in self.names:
            if value := lookup(name):
                return value
        return ""

    def tokens(self, lookup: Lookup) -> str:
        """The value as it stands in a subject. Raises ValueError when it would leave a token empty."""
        value = self.value(lookup)
        encoded = encode_all(value) if self.many else encode(value)
        if not encoded:
            raise ValueError(f"{' and '.join(self.names)}: {value!r} would leave a token of the subject empty")
        return encoded


@dataclass(frozen=True)
class Template:
    text: str
    parts: tuple[str | Placeholder, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Raises ValueError, saying what is wrong."""
        parts: list[str | Placeholder] = []
        position = 0
        for found in _PLACEHOLDER.finditer(text):
            parts += [text[position : found.start()], Placeholder(tuple(found[1].split("|")), bool(found[2]))]
            position = found.end()
        parts.append(text[position:])
        if any(set("{}") & set(part) for part in parts if isinstance(part, str)):
            raise ValueError(f"the braces of {text!r} hold no name: '{{name}}', '{{name>}}' or '{{one|other}}'")
        return cls(text, tuple(part for part in parts if part))

    @property
    def placeholders(self) -> Iterable[Placeholder]:
        return (part for part in self.parts if isinstance(part, Placeholder))

    def fill(self, lookup: Lookup) -> str:
        """The text with its values as they are."""
        return "".join([part if isinstance(part, str) else part.value(lookup) for part in self.parts])

    def subject(self, lookup: Lookup) -> str:
        """The subject with its values encoded. Raises ValueError when a value is empty or the subject too long."""
        subject = "".join([part if isinstance(part, str) else part.tokens(lookup) for part in self.parts])
        if len(subject) > LONGEST_SUBJECT:
            raise ValueError(f"a subject of {len(subject)} characters; allowed: {LONGEST_SUBJECT}")
        return subject

    @cached_property
    def pattern(self) -> Pattern:
        """A pattern that matches every subject made of this. Raises ValueError when it can make none."""
        subject = "".join(part if isinstance(part, str) else f"\0{MANY if part.many else ONE}\0" for part in self.parts)
        tokens: list[str] = []
        for token in subject.split("."):
            if f"\0{MANY}\0" in token:
                return Pattern.parse(".".join([*tokens, MANY]))
            tokens.append(ONE if "\0" in token else token)
        return Pattern.parse(".".join(tokens))


@lru_cache(8_192)
def encode(token: str) -> str:
    """One token of a subject, whatever the text is; percent-encoded as in RFC 3986, dots and tildes as well."""
    if _PLAIN.fullmatch(token):
        return token
    return quote(token, safe=":").replace(".", "%2E").replace("~", "%7E")


@lru_cache(1_024)
def encode_all(tokens: str) -> str:
    """The tokens, each encoded; empty when one of them is."""
    encoded = [encode(token) for token in tokens.split(".")]
    return ".".join(encoded) if all(encoded) else ""


def decode(token: str) -> str:
    return unquote(token) if "%" in token else token
