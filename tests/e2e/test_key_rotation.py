"""The signing keys rotate under a running platform, and nobody is logged out."""

from __future__ import annotations

import json

from local.triggers.aws import aws_client
from tests.support.platform import RunningPlatform
from tests.support.rotation import current_keys, rotate


def test_signing_keys_rotate_without_logging_anyone_out(platform: RunningPlatform) -> None:
    """Two rotations at most: a third would drop the key that the accounts of other tests are signed in with."""
    ada = platform.sign_up()
    before = current_keys(platform.endpoints["aws"], "JwtKeys")

    def run(step: str, secret_id: str, token: str) -> None:
        event = {"Step": step, "SecretId": secret_id, "ClientRequestToken": token}
        client = aws_client("lambda", platform.endpoints["aws"])
        answer = client.invoke(FunctionName="RotateSigningKeysFunction", Payload=json.dumps(event).encode())
        assert "FunctionError" not in answer, answer["Payload"].read()

    rotate(platform.endpoints["aws"], "JwtKeys", run)
    rotate(platform.endpoints["aws"], "JwtKeys", run)

    after = current_keys(platform.endpoints["aws"], "JwtKeys")
    assert after["active"] != before["active"]
    assert after[before["active"]] == before[before["active"]]
    platform.create_event(ada)
    platform.create_event(platform.log_in(ada.id, ada.email))
    audited = platform.sql("SELECT details FROM messaging.audit_log WHERE action = 'signing_keys.rotated' ORDER BY id")
    assert audited[-1]["details"]["active"] == after["active"]
