"""Taking out of text what must not stand in a log: passwords, tokens, cookies, and whose mail address it is.

A mail address becomes `mail:` and the beginning of its SHA-256, so that the lines about one person can be found by who
knows the address (`printf %s ada@example.org | sha256sum`) and are not a list of addresses for who doesn't. It is a
pseudonym and no more: addresses can be guessed.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

REDACTED = "<redacted>"

# What is nested deeper, or refers to itself, is not shown.
MAXIMUM_DEPTH = 12

# How the names of secrets end, without the signs between their words.
_SECRET_NAMES = ("password", "passwd", "token", "secret", "authorization", "cookie", "ticket", "apikey", "credentials")


_FLAGS = re.VERBOSE | re.IGNORECASE | re.ASCII | re.MULTILINE | re.DOTALL


@dataclass(frozen=True)
class _Rule:
    """`pattern` is tried on texts that have one of `words` in lower case: most have none, and looking is cheap."""

    words: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str | Callable[[re.Match[str]], str]

    @classmethod
    def of(cls, *words: str, pattern: str, replacement: str | Callable[[re.Match[str]], str] = REDACTED) -> _Rule:
        return cls(words, re.compile(pattern, _FLAGS), replacement)


def pseudonym(address: str) -> str:
    """The same for an address in whatever case it is written."""
    return f"mail:{hashlib.sha256(address.lower().encode(errors='replace')).hexdigest()[:12]}"


_RULES = (
    # PostgreSQL tells of the row and of the parameters; there may be line breaks in them.
    _Rule.of(
        "detail:",
        "context:",
        pattern=r"(?P<label> ^(?:DETAIL|CONTEXT): \s*) .*? (?= \n\n | \n[A-Z]+: | \Z )",
        replacement=rf"\g<label>{REDACTED}",
    ),
    # How pydantic and botocore quote what they refuse.
    _Rule.of(
        "input_value=", ", value: ",
        pattern=r"(?P<label> \b input_value= | ,\ value:\  ) .*? (?= ,\ (?:input_type=|type:\ ) | \Z )",
        replacement=rf"\g<label>{REDACTED}",
    ),
    _Rule.of("eyj", pattern=r"(?<![\w-]) eyJ [\w-]{6,} (?:\.[\w-]*)+"),
    _Rule.of("whsec_", pattern=r"whsec_ [\w+/=-]+"),
    _Rule.of("$argon2", pattern=r"\$argon2\w*\$ [\w$=,+/.-]+"),
    _Rule.of("://", pattern=r"(?P<before> :// [^\s:@/]* : ) [^\s@/]+ (?=@)", replacement=rf"\g<before>{REDACTED}"),
    # A cookie goes on to the end of its line.
    _Rule.of("cookie:", pattern=r"(?P<name> \b cookie: \s* ) [^\n]+", replacement=rf"\g<name>{REDACTED}"),
    _Rule.of(
        "bearer", "basic", pattern=r"\b (?P<scheme> bearer | basic ) \s+ [\w.~+/-]{8,} =*",
        replacement=rf"\g<scheme> {REDACTED}",
    ),
    # `password=…`, `"refresh_token": "…"`, `'token': '…'`, and JSON within JSON; but not an ARN's `…:123:secret:Name`.
    _Rule.of(
        "passw", "token", "secret", "cookie", "ticket", "api", "authorization", "credentials",
        pattern=r"""
            (?P<name> (?<!\d:) (?:password|passwd|token|secret|cookie|ticket|api[_-]?key|authorization|credentials)
                \\*["']? \s* [:=] \s* )
            (?: " (?:\\.|[^"\\])* "? | ' (?:\\.|[^'\\])* '? | \\" (?: \\\\ (?:\\.|[^\\]) | [^\\] )* (?:\\")?
              | (?:bearer|basic) \s+ [^\s,;]+ | [^\s,;&)}\]"']+ )
        """,
        replacement=rf"\g<name>{REDACTED}",
    ),
)  # fmt: skip

# 32 random bytes in Base64's form for URLs, which the platform's own tokens are; the last character holds four bits.
_OPAQUE_TOKEN = re.compile(r"(?<![\w-])[\w-]{42}[AEIMQUYcgkosw048](?![\w-])", re.ASCII)
_OPAQUE_LENGTH = 43

# Lengths as in RFC 5321, for the time it takes as much as for the rule. Of the signs that it allows before the @,
# those are left out that are more likely to stand around an address. In URLs the @ is written %40.
_ADDRESS = re.compile(r"[\w.+-]{1,64}(?:@|%40)(?:[\w-]{1,63}\.){1,8}[\w-]{2,63}")


def redact_text(text: str) -> str:
    lowered = text.lower()
    for rule in _RULES:
        if any(word in lowered for word in rule.words):
            text = rule.pattern.sub(rule.replacement, text)
    if len(text) >= _OPAQUE_LENGTH:
        text = _OPAQUE_TOKEN.sub(REDACTED, text)
    if "@" in text or "%40" in text:
        text = _ADDRESS.sub(lambda found: pseudonym(found[0].replace("%40", "@")), text)
    return text


def redact(value: Any, depth: int = 0) -> Any:
    """The value in JSON's types, without secrets: those that a key names, and those that a text holds."""
    if isinstance(value, str):
        return redact_text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth > MAXIMUM_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {_shown_key(key): redact_member(key, content, depth) for key, content in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth + 1) for item in value]
    if isinstance(value, BaseException):
        return redact_text(error_text(value))
    return redact_text(str(value))


def redact_member(key: Any, value: Any, depth: int = 0) -> Any:
    """What stands under a key: all of it is secret when the key says so."""
    return REDACTED if _is_secret(key) and _tells(value) else redact(value, depth + 1)


def error_text(error: BaseException) -> str:
    """What an exception says, less what PostgreSQL quotes of values.

    Its DETAIL and CONTEXT show rows and parameters, and so does the message of a data exception (class 22): `invalid
    input syntax for type integer: "…"`.
    """
    psycopg = sys.modules.get("psycopg")  # loaded where there can be an error of its
    if psycopg is None or not isinstance(error, psycopg.Error) or error.sqlstate is None:
        return str(error)
    message = error.diag.message_primary or ""
    return message.partition(': "')[0] if error.sqlstate.startswith("22") else message


def redact_traceback(formatted: str, error: BaseException) -> str:
    """The text of a traceback that ends with `error`, whose causes stand above it."""
    for each in _with_causes(error):
        told, safe = str(each), error_text(each)
        if told and told != safe:
            formatted = formatted.replace(told, safe)
    return redact_text(formatted)


def without_secrets(error: Exception) -> Exception:
    """The error itself, or another of a type with the same name whose text can be shown."""
    text = redact_text(error_text(error))
    if text == str(error):
        return error
    return type(type(error).__name__, (Exception,), {})(text).with_traceback(error.__traceback__)


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += (each.__cause__, each.__context__)
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


def _tells(content: Any) -> bool:
    """Whether a secret is there, rather than whether there is one."""
    return not (content is None or isinstance(content, bool) or content == "")


@lru_cache(maxsize=1024)
def _shown_key(key: Any) -> str:
    return redact_text(str(key))


@lru_cache(maxsize=1024)
def _is_secret(key: Any) -> bool:
    return isinstance(key, str) and re.sub(r"[\W_]", "", key).lower().endswith(_SECRET_NAMES)
