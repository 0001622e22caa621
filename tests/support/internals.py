"""What an answer tells about the inside of the platform, none of which is anybody's business (OWASP API8:2023)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx

_TOLD = {
    "a stack": re.compile(r'Traceback|File "|line \d+, in |\.py\b|\bat 0x[0-9a-f]{6}'),
    "SQL": re.compile(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM)\s+[\w(*]|\bSQLSTATE\b|violates \w+.* constraint"),
    "an engine": re.compile(
        r"psycopg|postgres|redis|valkey|opensearch|kafka|tansu|librdkafka|\bnats\b|boto|moto", re.I
    ),
    "a library": re.compile(r"pydantic|fastapi|starlette|mangum|uvicorn|powertools|pyjwt|argon2", re.I),
    "an address": re.compile(
        r"\b(?:127|10|192\.168|172\.\d+)(?:\.\d+){2,3}\b|\blocalhost\b|arn:aws|/opt/|/var/task|/tmp/"
    ),
    "a version": re.compile(r"\bPython[ /]?\d|\b(?:nginx|werkzeug|server)/\d", re.I),
    "an exception": re.compile(r"\b(?!Not)[A-Z]\w+(?:Error|Exception)\b"),
}
_HEADERS = ("server", "x-powered-by", "x-aspnet-version", "via")


def told_of_the_inside(answer: httpx.Response) -> Iterator[str]:
    for what, pattern in _TOLD.items():
        if found := pattern.search(answer.text):
            yield f"{what}: {found[0]}"
    for name in _HEADERS:
        if name in answer.headers:
            yield f"a header: {name}: {answer.headers[name]}"
