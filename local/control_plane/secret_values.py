"""The values of secrets, made up once as `GenerateSecretString` says and then kept in a file."""

from __future__ import annotations

import json
import os
import secrets
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.application import Secret


class SecretValues:
    def __init__(self, path: Path) -> None:
        self._path = path

    def value_of(self, secret: Secret) -> str:
        """The template's value, or the one generated for this name the first time that it was asked for."""
        if secret.generate is None:
            return secret.value or ""
        kept = self._read()
        if secret.name not in kept:
            kept[secret.name] = generate_secret(secret.generate)
            self._write(kept)
        return kept[secret.name]

    def _read(self) -> dict[str, str]:
        try:
            kept: dict[str, str] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        return kept

    def _write(self, kept: Mapping[str, str]) -> None:
        """Replace the file as a whole; nobody else may read it at any time."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(kept, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)


def generate_secret(rules: Mapping[str, Any]) -> str:
    """A value by CloudFormation's `GenerateSecretString`. Raises ValueError for rules that allow no password.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-secretsmanager-secret-generatesecretstring.html
    """
    password = _generate_password(rules)
    if "GenerateStringKey" not in rules:
        return password
    return json.dumps({**json.loads(rules.get("SecretStringTemplate", "{}")), rules["GenerateStringKey"]: password})


def _generate_password(rules: Mapping[str, Any]) -> str:
    excluded = set(rules.get("ExcludeCharacters", ""))
    kinds = [
        [character for character in characters if character not in excluded]
        for characters, exclusion in (
            (string.ascii_lowercase, "ExcludeLowercase"),
            (string.ascii_uppercase, "ExcludeUppercase"),
            (string.digits, "ExcludeNumbers"),
            (string.punctuation, "ExcludePunctuation"),
        )
        if not _is_true(rules.get(exclusion, False))
    ]
    kinds = [kind for kind in kinds if kind]
    alphabet = [character for kind in kinds for character in kind]
    if _is_true(rules.get("IncludeSpace", False)):
        alphabet.append(" ")
    length = int(rules.get("PasswordLength", 32))
    required = kinds if _is_true(rules.get("RequireEachIncludedType", True)) else []
    if not alphabet or length < len(required):
        raise ValueError("GenerateSecretString leaves no characters, or has fewer places than kinds of them")
    password = [secrets.choice(kind) for kind in required]
    password += [secrets.choice(alphabet) for _ in range(length - len(required))]
    secrets.SystemRandom().shuffle(password)
    return "".join(password)


def _is_true(value: object) -> bool:
    return value in (True, "true", "True")
