"""What requests may hold and answers may tell, as the OpenAPI document has it (OWASP API3 and API4)."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from local.openapi import build_openapi
from tests.support.application import template_application

# Formats that bound a text by themselves.
BOUNDED_FORMATS = {"date-time", "uuid", "date"}
BOUNDED_BY_CODE = {
    "body/price/amount": "a decimal of at most 12 digits, which pydantic words as a pattern",
    "body/profile/preferences": "free in form, and measured as a whole: 4 KB",
}
# Whose e-mail address an answer tells: the caller's own, or to who manages users.
TELLS_ADDRESSES = {"AdministeredUser", "OwnAccount", "RegistrationReceived", "User"}
NEVER_TOLD = {"password", "password_hash", "token_hash", "generation", "outcome", "fingerprint"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return build_openapi(template_application())


def schemas_of(document: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    """A schema and all within it, with where each stands."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield from schemas_of(document, document["components"]["schemas"][name], where)
        return
    yield where, schema
    for name, member in schema.get("properties", {}).items():
        yield from schemas_of(document, member, f"{where}/{name}")
    if isinstance(schema.get("items"), Mapping):
        yield from schemas_of(document, schema["items"], f"{where}/-")
    for part in (*schema.get("anyOf", []), *schema.get("allOf", []), *schema.get("oneOf", [])):
        yield from schemas_of(document, part, where)


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def sent(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas of all that requests hold: bodies and parameters."""
    for where, operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            yield from schemas_of(document, content["schema"], f"{where} body")
        for parameter in operation.get("parameters", []):
            yield from schemas_of(document, parameter["schema"], f"{where} {parameter['name']}")


def unbounded(document: Mapping[str, Any]) -> list[str]:
    found = []
    for where, schema in sent(document):
        match schema.get("type"):
            case "string":
                is_bounded = (
                    {"maxLength", "enum", "const"} & set(schema)
                    or schema.get("format") in BOUNDED_FORMATS
                    or ("pattern" in schema and not re.search(r"[*+]|,\}", schema["pattern"]))
                )
            case "array":
                is_bounded = "maxItems" in schema
            case "object":
                is_bounded = schema.get("additionalProperties") is False or "maxProperties" in schema
            case _:
                is_bounded = True
        if not is_bounded and not where.endswith(tuple(BOUNDED_BY_CODE)):
            found.append(where)
    return found


def told(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The schemas of what endpoints answer when all went well."""
    for where, operation in operations(document):
        for status, answer in operation["responses"].items():
            if status.startswith("2"):
                yield f"{where} {status}", answer.get("content", {})


def test_every_text_list_and_object_that_is_sent_is_bounded_and_unknown_members_are_refused(
    document: dict[str, Any],
) -> None:
    assert len(list(sent(document))) > 50
    assert unbounded(document) == []


def test_what_is_not_bounded_is_found(document: dict[str, Any]) -> None:
    loosened = copy.deepcopy(document)
    del loosened["components"]["schemas"]["EventIn"]["properties"]["title"]["maxLength"]
    del loosened["components"]["schemas"]["EventIn"]["additionalProperties"]

    assert set(unbounded(loosened)) >= {"POST /v1/events body", "POST /v1/events body/title"}


def test_every_answer_with_content_has_a_declared_form(document: dict[str, Any]) -> None:
    for where, content in told(document):
        for media_type, answer in content.items():
            if media_type == "application/json":
                forms = answer["schema"].get("anyOf", [answer["schema"]])
                assert all("$ref" in form for form in forms), where


def test_no_answer_tells_secrets_and_only_some_tell_addresses(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        members = set(schema.get("properties", {}))
        is_answer = any(name in str(content) for _, content in told(document))
        if is_answer:
            assert not members & NEVER_TOLD, name
            assert "email" not in members or name in TELLS_ADDRESSES, name
