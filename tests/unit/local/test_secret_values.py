"""Secrets that `GenerateSecretString` describes."""

from __future__ import annotations

import json
import stat
import string
from pathlib import Path
from typing import Any

import pytest

from local.application import Secret
from local.control_plane.secret_values import SecretValues, generate_secret

LETTERS_AND_DIGITS = string.ascii_letters + string.digits
NO_LETTERS = {"ExcludePunctuation": "true", "ExcludeUppercase": True, "ExcludeLowercase": True}


@pytest.mark.parametrize(
    ("rules", "length", "allowed"),
    [
        ({}, 32, LETTERS_AND_DIGITS + string.punctuation),
        ({"PasswordLength": 64, "ExcludePunctuation": True}, 64, LETTERS_AND_DIGITS),
        ({"PasswordLength": "16", **NO_LETTERS}, 16, string.digits),
        ({"PasswordLength": 32, "ExcludePunctuation": True, "ExcludeCharacters": "0Ol1"}, 32, LETTERS_AND_DIGITS),
    ],
)
def test_a_generated_secret_has_the_length_and_characters_asked_for(
    rules: dict[str, Any], length: int, allowed: str
) -> None:
    values = {generate_secret(rules) for _ in range(50)}

    assert len(values) == 50
    assert {len(value) for value in values} == {length}
    assert set("".join(values)) <= set(allowed) - set(rules.get("ExcludeCharacters", ""))


def test_each_kind_of_character_is_in_a_secret_unless_that_is_not_required() -> None:
    kinds = (string.ascii_lowercase, string.ascii_uppercase, string.digits, string.punctuation)

    def complete(rules: dict[str, Any]) -> list[bool]:
        return [all(set(kind) & set(generate_secret(rules)) for kind in kinds) for _ in range(100)]

    assert all(complete({"PasswordLength": 4}))
    assert not all(complete({"PasswordLength": 4, "RequireEachIncludedType": False}))


def test_a_secret_is_put_into_its_template() -> None:
    rules = {"SecretStringTemplate": '{"username": "app"}', "GenerateStringKey": "password", "PasswordLength": 20}

    document = json.loads(generate_secret(rules))

    assert document["username"] == "app"
    assert len(document["password"]) == 20


def test_rules_that_allow_no_password_are_refused() -> None:
    everything = {f"Exclude{kind}": True for kind in ("Lowercase", "Uppercase", "Numbers", "Punctuation")}

    with pytest.raises(ValueError, match="no characters"):
        generate_secret(everything)


def test_a_generated_value_stays_and_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "secrets.json"
    first = SecretValues(path).value_of(Secret("Key", generate={}))
    SecretValues(path).value_of(Secret("Other", generate={}))

    assert SecretValues(path).value_of(Secret("Key", generate={})) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["secrets.json"]
