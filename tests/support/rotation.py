"""Secrets Manager's part in a rotation: moto begins one, but runs no function of ours."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections.abc import Callable
from typing import Any

from local.triggers.aws import aws_client

STEPS = ("createSecret", "setSecret", "testSecret", "finishSecret")

Steps = Callable[[str, str, str], None]


def begin_rotation(endpoint: str, secret_id: str) -> str:
    """Make a pending version that has no value yet, as RotateSecret does; its token."""
    client, token = aws_client("secretsmanager", endpoint), str(uuid.uuid4())
    client.rotate_secret(
        SecretId=secret_id,
        ClientRequestToken=token,
        RotationLambdaARN=_nothing_to_invoke(endpoint),
        RotationRules={"AutomaticallyAfterDays": 30},
    )
    return token


def rotate(endpoint: str, secret_id: str, run: Steps) -> None:
    """A whole rotation: `run` does the steps, and at their end the pending label goes, as Secrets Manager has it."""
    token = begin_rotation(endpoint, secret_id)
    for step in STEPS:
        run(step, secret_id, token)
    end_rotation(endpoint, secret_id, token)


def end_rotation(endpoint: str, secret_id: str, token: str) -> None:
    aws_client("secretsmanager", endpoint).update_secret_version_stage(
        SecretId=secret_id, VersionStage="AWSPENDING", RemoveFromVersionId=token
    )


def current_keys(endpoint: str, secret_id: str) -> dict[str, str]:
    client = aws_client("secretsmanager", endpoint)
    keys: dict[str, str] = json.loads(
        client.get_secret_value(SecretId=secret_id, VersionStage="AWSCURRENT")["SecretString"]
    )
    return keys


def _nothing_to_invoke(endpoint: str) -> str:
    """moto wants a function of its own to rotate with; this one does nothing."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("app.py", "def handler(event, context): pass")
    iam, functions = aws_client("iam", endpoint), aws_client("lambda", endpoint)
    name = f"rotation-{uuid.uuid4().hex[:8]}"
    role: Any = iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    function = functions.create_function(
        FunctionName=name,
        Runtime="python3.13",
        Role=role,
        Handler="app.handler",
        Code={"ZipFile": archive.getvalue()},
    )
    return str(function["FunctionArn"])
