"""The versions of a secret in Secrets Manager and their staging labels, for rotating it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from eventsplatform.adapters.aws import client


class SecretsManagerVersions:
    """Every method raises botocore's errors: Secrets Manager repeats a rotation that failed."""

    def stages(self, secret_id: str) -> tuple[bool, dict[str, frozenset[str]]]:
        """Whether the secret rotates, and the staging labels of each version."""
        described = self._client.describe_secret(SecretId=secret_id)
        versions = described.get("VersionIdsToStages", {})
        return described.get("RotationEnabled", False), {id_: frozenset(stages) for id_, stages in versions.items()}

    def read(self, secret_id: str, *, stage: str, version: str | None = None) -> str | None:
        which = {"VersionStage": stage} | ({"VersionId": version} if version else {})
        try:
            value: str | None = self._client.get_secret_value(SecretId=secret_id, **which).get("SecretString")
        except self._client.exceptions.ResourceNotFoundException:
            return None
        return value

    def put_pending(self, secret_id: str, version: str, value: str) -> None:
        with suppress(self._client.exceptions.ResourceExistsException):  # another run of this step was first
            self._client.put_secret_value(
                SecretId=secret_id, ClientRequestToken=version, SecretString=value, VersionStages=["AWSPENDING"]
            )

    def make_current(self, secret_id: str, version: str, *, instead_of: str | None) -> None:
        moved = {"RemoveFromVersionId": instead_of} if instead_of else {}
        self._client.update_secret_version_stage(
            SecretId=secret_id, VersionStage="AWSCURRENT", MoveToVersionId=version, **moved
        )

    @property
    def _client(self) -> Any:
        return client("secretsmanager")
